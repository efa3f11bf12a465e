package git

import (
	"os/exec"
	"slices"
	"testing"
)

// A secret that was pushed and taken back can be removed for good; all else
// stays.
func TestS19Purge(t *testing.T) {
	r, good, bad, blob := leaked(t)
	tips, err := Purge(t.Context(), r.bare)
	if err != nil || !slices.Contains(tips, bad) {
		t.Fatalf("%q, %v", tips, err)
	}
	for _, gone := range []string{bad, blob} {
		cmd := exec.Command("git", "cat-file", "-e", gone)
		cmd.Dir = r.bare
		if cmd.Run() == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	src := Local{Path: r.bare, Branch: "main"}
	if _, err := src.At(t.Context(), bad); err == nil {
		t.Error("the agent can read it")
	}
	if _, err := src.At(t.Context(), good); err != nil {
		t.Error(err)
	}
	if _, err := src.Latest(t.Context()); err != nil {
		t.Error(err)
	}
	if said, ok := r.git(t, r.work, "push", r.url, "HEAD:main"); !ok {
		t.Error(said)
	}
}
