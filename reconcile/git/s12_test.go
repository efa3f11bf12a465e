package git

import (
	"path/filepath"
	"strings"
	"testing"
)

// [G4] What was made on top of what, by whichever parent.
func TestS12Follows(t *testing.T) {
	bare, work := fixture(t)
	step := func(args ...string) string {
		run(t, work, args...)
		return head(t, work)
	}
	first := head(t, work)
	second := step("commit", "-q", "--allow-empty", "-m", "second")
	run(t, work, "checkout", "-q", "-b", "side", first)
	side := step("commit", "-q", "--allow-empty", "-m", "side")
	merged := step("merge", "-q", "--no-edit", "main")
	run(t, work, "checkout", "-q", "--orphan", "another")
	orphan := step("commit", "-q", "--allow-empty", "-m", "another")
	run(t, work, "push", "-q", "origin", "main", "side", "another")
	gone := "1234567890123456789012345678901234567890"
	shallow := filepath.Join(t.TempDir(), "shallow")
	run(t, work, "clone", "-q", "--bare", "--depth=1", "--branch=side", "file://"+bare, shallow)
	for _, row := range []struct{ repo, commit, last, says string }{
		{bare, second, second, ""},
		{bare, second, first, ""},
		{bare, merged, side, ""},
		{bare, merged, second, ""}, // its first parent is elsewhere
		{bare, merged, first, ""},
		{bare, first, second, "was not made on top of"},
		{bare, side, second, "was not made on top of"},
		{bare, orphan, second, "was not made on top of"},
		{bare, second, gone, "which the repository does not have"},
		{shallow, merged, merged, ""},
		{shallow, merged, first, "git fetch --unshallow"},
		{shallow, merged, gone, "git fetch --unshallow"},
	} {
		err := (Local{Path: row.repo}).Follows(t.Context(), row.commit, row.last)
		if row.says == "" && err != nil || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
			t.Errorf("%.7s on top of %.7s: %v, want %q", row.commit, row.last, err, row.says)
		}
	}
	remote := newRemote(t, serveWeb(t, filepath.Dir(bare)).options(t))
	if err := remote.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	remote.tidy()
	if err := remote.Follows(t.Context(), second, first); err != nil {
		t.Error(err)
	}
}
