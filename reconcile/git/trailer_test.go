package git

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
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

// Reading the trailers takes time that is linear in the commits, whatever stands
// in them: each may allow more than the one after it.
func TestA3ManyTrailers(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "init", "-q", "-b", "main")
	const before, after = 2000, 2000
	var b strings.Builder
	for range before {
		b.WriteString("commit refs/heads/main\ncommitter a <a@example.com> 1700000000 +0000\ndata 1\nx\n")
	}
	for i := range after {
		message := fmt.Sprintf("x\n\nSwage-Allow-Delete: %d", after-i)
		fmt.Fprintf(&b, "commit refs/heads/next\ncommitter a <a@example.com> 1700000000 +0000\ndata %d\n%s\n", len(message), message)
		if i == 0 {
			b.WriteString("from refs/heads/main\n")
		}
	}
	cmd := exec.Command("git", "-C", dir, "fast-import", "--quiet")
	cmd.Stdin = strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	hash := func(name string) string { return strings.TrimSpace(run(t, dir, "rev-parse", name)) }
	begun := time.Now()
	n, err := Local{Path: dir}.Allowed(t.Context(), hash("main"), hash("next"))
	if n != after || err != nil {
		t.Errorf("allowed: %d, %v", n, err)
	}
	if took := time.Since(begun); took > 10*time.Second { // it took a minute
		t.Errorf("it took %s", took)
	}
}
