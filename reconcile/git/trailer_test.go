package git

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swage/reconcile"
)

// TestL18OnlyTheCommitsOwnDeletions [R6]: the trailers of commits since the applied
// one count, whichever way a merge leads, each with the tree before it and its own.
func TestL18OnlyTheCommitsOwnDeletions(t *testing.T) {
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
	three := add("three", "Signed-off-by: a\nswage-allow-delete: node-b 3")
	two := add("two", "Swage-Allow-Delete: 2\nSwage-Allow-Delete: many\nSwage-Allow-Delete: node-c 4\nSwage-Allow-Delete: 0\nSwage-Allow-Delete: a b 1")
	run(t, work, "checkout", "-q", "-b", "side", before)
	add("side", "Swage-Allow-Delete: 7")
	run(t, work, "checkout", "-q", "main")
	run(t, work, "merge", "-q", "--no-ff", "-m", "merge", "side")
	merged := strings.TrimSpace(run(t, work, "rev-parse", "HEAD"))
	run(t, work, "push", "-q", "origin", "main")
	told := func(list []reconcile.Allowance) string {
		var out []string
		for _, x := range list {
			if x.Before == nil || x.After == nil {
				t.Errorf("%+v has no trees", x)
			}
			out = append(out, strings.TrimSpace(fmt.Sprint(x.Server, " ", x.Max)))
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	for _, c := range []struct{ from, to, want string }{
		{applied, applied, ""},
		{applied, plain, ""},
		{applied, three, "node-b 3"},
		{applied, two, "2, node-b 3, node-c 4"},
		{three, two, "2, node-c 4"},
		{applied, merged, "2, 7, node-b 3, node-c 4"}, // not the 50 that applied has
		{strings.Repeat("a", 40), two, ""},
	} {
		got, err := Follow(bare, "main", "").Allowances(t.Context(), c.from, c.to)
		if err != nil || told(got) != c.want {
			t.Errorf("from %.7s to %.7s: %s, %v, want %s", c.from, c.to, told(got), err, c.want)
		}
	}

	// TestL9: where history ends, what is there counts, and nothing fails.
	shallow := filepath.Join(t.TempDir(), "shallow")
	run(t, "", "clone", "-q", "--depth", "2", "file://"+bare, shallow)
	got, err := Follow(shallow, "main", "").Allowances(t.Context(), merged, merged)
	if err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = Follow(shallow, "main", "").Allowances(t.Context(), two, merged); err != nil || told(got) != "" {
		t.Errorf("%v, %v", got, err)
	}
	run(t, shallow, "config", "user.name", "a")
	run(t, shallow, "config", "user.email", "a@example.com")
	run(t, shallow, "commit", "-q", "--allow-empty", "-m", "one", "-m", "Swage-Allow-Delete: 1")
	tip := strings.TrimSpace(run(t, shallow, "rev-parse", "HEAD"))
	if got, err = Follow(shallow, "main", "").Allowances(t.Context(), two, tip); err != nil || told(got) != "1" {
		t.Errorf("%v, %v", told(got), err)
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
	list, err := Local{Path: dir}.Allowances(t.Context(), hash("main"), hash("next"))
	if len(list) != after || err != nil {
		t.Errorf("allowed: %d, %v", len(list), err)
	}
	if took := time.Since(begun); took > 10*time.Second { // it took a minute
		t.Errorf("it took %s", took)
	}
}
