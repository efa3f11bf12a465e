package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"swage/reconcile"
)

// TestL10FirstPush: a push that comes while the agent starts is accepted, with a
// repository that is not there yet and with one that is.
func TestL10FirstPush(t *testing.T) {
	for _, at := range []time.Duration{0, 1, 2, 4, 7, 11, 16, 22} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			r := newRemote(t, `token: "node"`)
			for _, round := range []string{"first", "again"} {
				r.commit(round)
				r.launch()
				r.soon("there is a repository", func() bool {
					_, err := os.Stat(r.path("state/fleet.git/HEAD"))
					_, listens := os.Stat(r.socket) // else the one before is still there
					return err == nil && listens == nil
				})
				time.Sleep(at * time.Millisecond)
				out, err := r.try("git push $BARE main")
				if err != nil || !strings.Contains(out, "main -> main") || strings.Contains(out, "rejected") {
					t.Fatalf("%s: %v\n%s", round, err, out)
				}
				tip := r.sh("git rev-parse HEAD")
				r.await("the commit is applied", func(s *reconcile.Report) bool { return s.State == reconcile.Applied && s.Commit == tip })
				r.stop()
			}
			if text := r.sh("cat $BARE/config"); strings.Count(text, "hideRefs") != 2 {
				t.Errorf("the configuration is\n%s", text)
			}
			if left := r.sh("find $BARE/objects -name 'tmp_objdir-*'; ls -d $BARE.new $BARE/config.swage 2>/dev/null || true"); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}
