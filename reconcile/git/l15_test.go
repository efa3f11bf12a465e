package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestL15Recover: what a crash may leave in the agent's own repository is put
// right at its start, and a push is taken again.
func TestL15Recover(t *testing.T) {
	old := time.Now().Add(-time.Minute)
	// Commits of the work tree: first and second are pushed, third is not.
	for _, c := range []struct {
		name  string
		left  func(t *testing.T, bare string) // by the crash
		want  string                          // commit that the branch leads to; empty: none
		says  string
		quiet bool // nothing has to be done
	}{
		{"nothing", func(*testing.T, string) {}, "second", "", true},
		{"a lock of the branch", leave("refs/heads/main.lock", ""), "second", "refs/heads/main.lock was removed", false},
		{"a lock of packed-refs", leave("packed-refs.lock", "x"), "second", "packed-refs.lock was removed", false},
		{"a lock of HEAD", leave("HEAD.lock", ""), "second", "HEAD.lock was removed", false},
		{"a lock of the configuration", leave("config.lock", ""), "second", "config.lock was removed", false},
		{"a lock of shallow", leave("shallow.lock", ""), "second", "shallow.lock was removed", false},
		{"a lock of the commit graph", leave("objects/info/commit-graph.lock", ""), "second", "commit-graph.lock was removed", false},
		{"locks of an hour ago", func(t *testing.T, bare string) {
			for _, name := range []string{"refs/heads/main.lock", "packed-refs.lock"} {
				leave(name, "")(t, bare)
				if err := os.Chtimes(filepath.Join(bare, name), old, old); err != nil {
					t.Fatal(err)
				}
			}
		}, "second", "packed-refs.lock was removed", false},
		{"an empty branch", leave("refs/heads/main", ""), "first", "branch main could not be read", false},
		{"a branch of zeroes", leave("refs/heads/main", strings.Repeat("\x00", 41)), "first", "branch main could not be read", false},
		{"a branch that was cut off", leave("refs/heads/main", "0123456789"), "first", "branch main could not be read", false},
		{"a branch that names nothing", leave("refs/heads/main", strings.Repeat("1", 40)+"\n"), "first", "branch main could not be read", false},
		{"an empty branch before a packed one", func(t *testing.T, bare string) {
			run(t, bare, "pack-refs", "--all")
			leave("refs/heads/main", "")(t, bare)
			leave("accepted", "")(t, bare) // nothing is known of it
		}, "second", "branch main could not be read", false},
		{"another empty ref", leave("refs/swage/replaced/00000000000000000001", ""), "second", "was broken", false},
		{"another branch that is empty", leave("refs/heads/other", ""), "second", "refs/heads/other was broken", false},
		{"packed-refs that was cut off", func(t *testing.T, bare string) {
			run(t, bare, "pack-refs", "--all")
			text, err := os.ReadFile(filepath.Join(bare, "packed-refs"))
			if err != nil {
				t.Fatal(err)
			}
			leave("packed-refs", string(text)+"0123\n")(t, bare)
		}, "second", "packed-refs was broken", false},
		{"an empty HEAD", leave("HEAD", ""), "second", "HEAD was broken", false},
		{"no HEAD", func(t *testing.T, bare string) { remove(t, bare, "HEAD") }, "second", "HEAD was broken", false},
		{"no refs", func(t *testing.T, bare string) {
			run(t, bare, "pack-refs", "--all", "--prune")
			remove(t, bare, "refs")
		}, "second", "", true},
		{"a pack without its index", func(t *testing.T, bare string) {
			run(t, bare, "repack", "-a", "-d", "-q")
			idx, _ := filepath.Glob(filepath.Join(bare, "objects/pack/*.idx"))
			remove(t, "", idx[0])
		}, "second", "has an index again", false},
		{"a pack with an empty index", func(t *testing.T, bare string) {
			run(t, bare, "repack", "-a", "-d", "-q")
			idx, _ := filepath.Glob(filepath.Join(bare, "objects/pack/*.idx"))
			empty(t, idx[0])
		}, "second", "has an index again", false},
		{"an empty commit", func(t *testing.T, bare string) { cut(t, bare, "main", 0) }, "first", "objects-", false},
		{"a commit that was cut off", func(t *testing.T, bare string) { cut(t, bare, "main", 40) }, "first", "branch main could not be read", false},
		{"a file that was cut off", func(t *testing.T, bare string) { cut(t, bare, "main:file", 12) }, "first", "branch main could not be read", false},
		{"a folder that was cut off", func(t *testing.T, bare string) { cut(t, bare, "main^{tree}", 12) }, "first", "branch main could not be read", false},
		{"all of it", func(t *testing.T, bare string) {
			cut(t, bare, "main~1", 0)
			cut(t, bare, "main", 0)
		}, "", "was taken away; push it again", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			bare, work := filepath.Join(dir, "fleet.git"), filepath.Join(dir, "work")
			run(t, dir, "init", "-q", "--bare", "-b", "main", bare)
			run(t, dir, "init", "-q", "-b", "main", work)
			commits := map[string]string{}
			for _, name := range []string{"first", "second", "third"} {
				write(t, work, "file", strings.Repeat(name+" and more of it\n", 20))
				run(t, work, "add", "-A")
				run(t, work, "commit", "-q", "-m", name)
				commits[name] = strings.TrimSpace(run(t, work, "rev-parse", "HEAD"))
				if name != "third" {
					run(t, work, "push", "-q", bare, "main") // few objects: they stay loose
				}
			}
			accepted := commits["first"]
			c.left(t, bare)
			if _, err := os.Stat(filepath.Join(bare, "accepted")); err == nil {
				accepted = ""
			}
			done, err := Recover(t.Context(), bare, "main", accepted)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(done, "\n")
			if !strings.Contains(said, c.says) || c.quiet != (said == "") {
				t.Errorf("it says %q, want %q", said, c.says)
			}
			s, err := Local{Path: bare, Branch: "main"}.Latest(t.Context())
			if s.Commit != commits[c.want] || (err == nil) != (c.want != "") {
				t.Errorf("the branch leads to %s (%v), want %s", s.Commit, err, commits[c.want])
			}
			if again, err := Recover(t.Context(), bare, "main", accepted); err != nil || len(again) > 0 {
				t.Errorf("once more: %q, %v", again, err)
			}
			run(t, work, "push", "-q", bare, "main")
			if got := strings.TrimSpace(run(t, bare, "rev-parse", "main")); got != commits["third"] {
				t.Errorf("after a push the branch leads to %s, want %s", got, commits["third"])
			}
			run(t, bare, "rev-list", "--objects", "--quiet", "main")
		})
	}
}

// TestL15LocksInUse: a lock that a git holds is not taken from it.
func TestL15LocksInUse(t *testing.T) {
	dir := t.TempDir()
	run(t, dir, "init", "-q", "--bare", "-b", "main", "fleet.git")
	bare := filepath.Join(dir, "fleet.git")
	lock := filepath.Join(bare, "packed-refs.lock")
	old := time.Now().Add(-time.Hour)
	is := func(what string, want bool) {
		t.Helper()
		if _, err := Recover(t.Context(), bare, "main", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(lock); (err == nil) != want {
			t.Errorf("%s: the lock is there: %v, want %v", what, err == nil, want)
		}
	}
	// A git that waits for its input, with the lock open.
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "cat-file", "--batch")
	cmd.Dir, cmd.ExtraFiles = bare, []*os.File{f}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for deadline := time.Now().Add(10 * time.Second); !running().hold(lock); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the git that holds the lock is not found")
		}
	}
	if err := os.Chtimes(lock, old, old); err != nil {
		t.Fatal(err)
	}
	is("an old one that is held", true)
	in.Close()
	_ = cmd.Wait()
	is("an old one that nobody holds", false)

	// One that works here without it.
	cmd = exec.Command("git", "cat-file", "--batch")
	cmd.Dir = bare
	if in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !running().workIn(bare); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the git that works in the repository is not found")
		}
	}
	empty(t, lock)
	is("a new one while a git works", true)
	if err := os.Chtimes(lock, old, old); err != nil {
		t.Fatal(err)
	}
	is("an old one while a git works", false)
	in.Close()
	_ = cmd.Wait()
}

func leave(name, text string) func(*testing.T, string) {
	return func(t *testing.T, bare string) {
		t.Helper()
		write(t, bare, name, text)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func empty(t *testing.T, file string) {
	t.Helper()
	_ = os.Remove(file) // git makes them read-only
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// cut leaves some bytes of an object, which is a file of its own.
func cut(t *testing.T, bare, what string, n int) {
	t.Helper()
	hash := strings.TrimSpace(run(t, bare, "rev-parse", what))
	file := filepath.Join(bare, "objects", hash[:2], hash[2:])
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, slices.Clone(text[:n]), 0o444); err != nil {
		t.Fatal(err)
	}
}
