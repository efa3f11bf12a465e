package git

import (
	"strings"
	"testing"
)

// [R6] Only the trailers of commits since the applied one count, whichever way
// a merge leads.
func TestAllowed(t *testing.T) {
	bare, work := fixture(t)
	add := func(message ...string) string {
		args := []string{"commit", "-q", "--allow-empty"}
		for _, m := range message {
			args = append(args, "-m", m)
		}
		run(t, work, args...)
		return strings.TrimSpace(run(t, work, "rev-parse", "HEAD"))
	}
	before := add("old", "Swage-Allow-Delete: 50")
	applied := add("applied", "Swage-Allow-Delete: 40")
	plain := add("plain", "Swage-Allow-Delete: 9\n\nonly text: the last paragraph has none")
	three := add("three", "Signed-off-by: a\nswage-allow-delete: 3")
	two := add("two", "Swage-Allow-Delete: 2\nSwage-Allow-Delete: many")
	run(t, work, "checkout", "-q", "-b", "side", before)
	add("side", "Swage-Allow-Delete: 7")
	run(t, work, "checkout", "-q", "main")
	run(t, work, "merge", "-q", "--no-ff", "-m", "merge", "side")
	merged := strings.TrimSpace(run(t, work, "rev-parse", "HEAD"))
	run(t, work, "push", "-q", "origin", "main")
	for _, c := range []struct {
		from, to string
		want     int
	}{
		{applied, applied, 0},
		{applied, plain, 0},
		{applied, three, 3},
		{applied, two, 3},
		{three, two, 2},
		{applied, merged, 7}, // not the 50 that applied has
		{strings.Repeat("a", 40), two, 0},
	} {
		got, err := Follow(bare, "main", "").Allowed(t.Context(), c.from, c.to)
		if err != nil || got != c.want {
			t.Errorf("from %.7s to %.7s: %d, %v, want %d", c.from, c.to, got, err, c.want)
		}
	}
}
