package reconcile_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"swage/reconcile"
)

// D6 A commit that is another fleet is refused with its place: what the fleet
// owns goes on being served and looked after, also after a restart.
func TestD6AnotherFleetIsRefused(t *testing.T) {
	for _, restart := range []bool{false, true} {
		n := newNode()
		n.source.push(`containers: app: id: "890abcdef12345678901cdef"`)
		if _, err := n.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.source.add(fstest.MapFS{
			"swage.cue":            {Data: []byte("domain: \"example.com\"\nid: \"666666666666666666666666\"\ncontainer_image: \"tiny/1\"\n")},
			"servers/lab.cue":      {},
			"projects/web/app.cue": {Data: []byte(`containers: app: id: "890abcdef12345678901cdef"`)},
		})
		if restart {
			n.restart()
		}
		writes := n.engine.Writes()
		r, err := n.Pass(t.Context())
		if err == nil || !strings.Contains(err.Error(), "swage.cue:2:5: id: cannot change from 5a6b7c8d9e0f1a2b3c4d5e6f to 666666666666666666666666") {
			t.Errorf("restart %t: %v", restart, err)
		}
		if r.Commit != whole("1") || r.State != reconcile.Applied || r.Rejected == nil || n.running(t) != "app" {
			t.Errorf("restart %t: %s of %s, %s runs", restart, r.State, r.Commit, n.running(t))
		}
		if !restart && n.engine.Writes() != writes {
			t.Errorf("%d writes", n.engine.Writes()-writes)
		}
		n.source.push(`containers: app: {id: "890abcdef12345678901cdef", comment: "as it was"}`)
		if r, err := n.Pass(t.Context()); err != nil || r.Commit != whole("3") {
			t.Errorf("restart %t: %s, %v", restart, r.Commit, err)
		}
	}
}
