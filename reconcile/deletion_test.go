package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"swage/reconcile"
)

// declare is a project of containers with ids that follow from their names.
func declare(names ...string) string {
	var out []string
	for _, name := range names {
		out = append(out, fmt.Sprintf("%s: id: \"%s\"", name, strings.Repeat(fmt.Sprintf("%02x", name[0]), 12)))
	}
	return "containers: {" + strings.Join(out, ", ") + "}"
}

// TestL5AllOfAServerIsHeld [R6]: a commit that takes away every container that was
// there before is held, also when it adds others, and stays held through commits
// that leave it so.
func TestL5AllOfAServerIsHeld(t *testing.T) {
	n := newNode()
	n.pass(t, declare("a", "b", "c"))
	held := func(r reconcile.Report, want int, running string) {
		t.Helper()
		if len(r.Held) != want || n.running(t) != running {
			t.Errorf("%d held, %s runs; want %d, %s: %+v", len(r.Held), n.running(t), want, running, r.Held)
		}
	}
	r := n.pass(t, declare("d"))
	held(r, 3, "a b c d")
	if !strings.Contains(r.Held[0].Why, "every container that this server had would go") {
		t.Error(r.Held[0].Why)
	}
	id := r.Held[0].Plan
	for range 2 {
		again, err := n.Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held(again, 3, "a b c d")
	}
	n.restart()
	r = n.pass(t, declare("d", "e"))
	held(r, 3, "a b c d e")
	if r.Held[0].Plan != id {
		t.Errorf("the plan is %s now, and was %s", r.Held[0].Plan, id)
	}
	// Those that are declared again are no longer meant; the others wait on, for a
	// person or for the trailer of a commit that takes them away.
	r = n.pass(t, declare("a", "d", "e"))
	held(r, 2, "a b c d e")
	held(n.pass(t, declare("a", "b", "c", "d", "e")), 0, "a b c d e")
	held(n.pass(t, declare("d", "e", "f")), 0, "d e f") // others that were there stay
}

// TestL18ATrailerCountsForItsOwnCommit [R6]: not for what an earlier commit left
// held, nor on another server.
func TestL18ATrailerCountsForItsOwnCommit(t *testing.T) {
	setup := func(trailers map[int]reconcile.Allowance) *node {
		n := newNode()
		n.source.settings = "prune: max: 1\nsettle: \"0s\"\n"
		n.source.allowed = trailers
		n.pass(t, declare("a", "b", "c", "d", "e"))
		return n
	}
	for what, c := range map[string]struct {
		trailer reconcile.Allowance
		second  []string // of the commit with the trailer
		running string
	}{
		"its own":            {reconcile.Allowance{Max: 2}, []string{"e"}, "a b e"},
		"on this server":     {reconcile.Allowance{Server: "lab", Max: 2}, []string{"e"}, "a b e"},
		"more than it says":  {reconcile.Allowance{Max: 1}, []string{"e"}, "a b c d e"},
		"on another server":  {reconcile.Allowance{Server: "node-b", Max: 9}, []string{"e"}, "a b c d e"},
		"nothing of its own": {reconcile.Allowance{Max: 9}, []string{"c", "d", "e"}, "a b c d e"},
	} {
		n := setup(map[int]reconcile.Allowance{3: c.trailer})
		n.pass(t, declare("c", "d", "e")) // a and b are held
		r := n.pass(t, declare(c.second...))
		if n.running(t) != c.running || len(r.Held) == 0 {
			t.Errorf("%s: %s runs, want %s; held %+v", what, n.running(t), c.running, r.Held)
		}
	}
}
