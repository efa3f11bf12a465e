package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestA1NothingOfGitIsWaitedFor: whoever owns a repository may put anything in
// the place of git's own files. A revision of it, and the agent's branch, are
// read or are an error; nobody waits, and nothing is read without an end.
func TestA1NothingOfGitIsWaitedFor(t *testing.T) {
	git := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	fifo := func(name string) error { return syscall.Mkfifo(name, 0o644) }
	device := func(name string) error { return os.Symlink("/dev/zero", name) }
	endless := func(name string) error {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Truncate(20 << 30)
	}
	for _, row := range []struct {
		file   string // OBJECT: that of the commit; * in a name: the only such file
		packed bool
		bare   bool // the agent reads it as well
		make   func(string) error
	}{
		{".git", false, false, fifo},
		{".git", false, false, device},
		{".git", false, false, endless},
		{".git/HEAD", false, true, fifo},
		{".git/HEAD", false, true, device},
		{".git/HEAD", false, true, endless},
		{".git/config", false, true, fifo},
		{".git/config", false, true, endless},
		{".git/commondir", false, true, fifo},
		{".git/refs/heads/main", false, true, fifo},
		{".git/packed-refs", true, true, fifo},
		{".git/packed-refs", true, true, endless},
		{".git/OBJECT", false, true, fifo},
		{".git/OBJECT", false, true, device},
		{".git/objects/pack/*.idx", true, true, fifo},
		{".git/objects/pack/*.pack", true, true, fifo},
	} {
		dir := t.TempDir()
		git(dir, "init", "-qb", "main")
		git(dir, "commit", "-q", "--allow-empty", "-m", "first")
		hash := git(dir, "rev-parse", "HEAD")
		if row.packed {
			git(dir, "gc", "-q")
		}
		if _, err := Revision(dir, "HEAD"); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, strings.Replace(row.file, "OBJECT", "objects/"+hash[:2]+"/"+hash[2:], 1))
		if found, _ := filepath.Glob(name); len(found) == 1 {
			name = found[0]
		}
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
		if err := row.make(name); err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 2)
		go func() {
			_, err := Revision(dir, "HEAD")
			failed <- err
			if row.bare {
				_, err = Follow(dir, "main", "").Latest(t.Context())
			}
			failed <- err
		}()
		for _, who := range []string{"a revision", "the agent"} {
			select {
			case err := <-failed:
				if err == nil {
					t.Errorf("%s is read although %s is none of git's files", who, row.file)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s waits for %s", who, row.file)
			}
		}
	}
}

// TestA2RepositoriesAreClosed: what the agent keeps of a repository is for its
// owner alone, also where state_dir was there before and is open, and of a
// version that left it open.
func TestA2RepositoriesAreClosed(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o755); err != nil {
		t.Fatal(err)
	}
	isClosed := func(dir string) {
		t.Helper()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	fleet, mirror := filepath.Join(state, "fleet.git"), filepath.Join(state, "mirror")
	for range 2 {
		if err := Prepare(t.Context(), fleet, "main", "true"); err != nil {
			t.Fatal(err)
		}
		isClosed(fleet)
		if err := os.Chmod(fleet, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := makeMirror(mirror, "main", "https://example.com/"); err != nil {
		t.Fatal(err)
	}
	isClosed(mirror)
	if err := os.Chmod(mirror, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := NewRemote(RemoteOptions{URL: "https://example.com/", Branch: "main", State: state}); err != nil {
		t.Fatal(err)
	}
	isClosed(mirror)
}
