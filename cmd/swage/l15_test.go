package main

import (
	"os"
	"testing"
	"time"
)

// TestL15Restart: an agent whose repository a crash has left locked or cut off
// takes pushes after its next start, and says what it did.
func TestL15Restart(t *testing.T) {
	r := newRemote(t, `token: "node"`)
	r.start()
	r.commit("first")
	r.sh("git push $BARE main")
	r.applied()
	for _, c := range []struct{ left, says string }{
		{"touch $BARE/refs/heads/main.lock", "refs/heads/main.lock was removed"},
		{"touch $BARE/packed-refs.lock $BARE/HEAD.lock $BARE/config.lock", "config.lock was removed"},
		{": > $BARE/refs/heads/main", "branch main could not be read, and leads to"},
		{": > $BARE/HEAD", "HEAD was broken"},
	} {
		r.stop()
		r.sh(c.left)
		r.start()
		r.applied() // it listens then
		r.commit("next")
		r.says(c.left, r.sh("git push "+r.url("node")+" main"), "applied after")
		r.applied()
		r.says(c.left, r.log.String(), c.says)
	}
	// A git may be killed while the agent runs.
	r.sh("touch $BARE/refs/heads/main.lock")
	r.commit("while it is locked")
	r.refused("git push "+r.url("node")+" main", "the repository is locked, by another push or by one that was killed less than 10s ago; push again")
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(r.path("state/fleet.git/refs/heads/main.lock"), old, old); err != nil {
		t.Fatal(err)
	}
	r.sh("git push " + r.url("node") + " main")
	r.applied()
	// So may a machine, of which only the agent comes back.
	r.sh(": > $BARE/refs/heads/main")
	r.commit("onto nothing")
	r.refused("git push "+r.url("node")+" main", "restart the agent")
	r.stop()
	r.start()
	r.sh("git push " + r.url("node") + " main")
	r.applied()
}
