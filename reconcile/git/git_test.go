package git

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) {
	recheck = 50 * time.Millisecond
	if len(os.Args) > 1 && os.Args[1] == asAgent {
		os.Exit(agentPart(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

func run(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// fixture is a bare repository and a clone of it with one commit pushed.
func fixture(t testing.TB) (bare, work string) {
	t.Helper()
	top := t.TempDir()
	bare, work = filepath.Join(top, "fleet.git"), filepath.Join(top, "work")
	run(t, top, "init", "-q", "--bare", "-b", "main", bare)
	run(t, top, "clone", "-q", bare, work)
	run(t, work, "checkout", "-q", "-b", "main")
	write(t, work, "swage.cue", "one")
	write(t, work, "projects/web/app/a.cue", "two")
	commit(t, work)
	return bare, work
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, work string) {
	t.Helper()
	run(t, work, "add", "-A")
	run(t, work, "commit", "-q", "-m", "change")
	run(t, work, "push", "-q", "origin", "main")
}

func TestTreeIsAFileSystem(t *testing.T) {
	bare, _ := fixture(t)
	s, err := Follow(bare, "main", "").Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(s.Tree, "swage.cue", "projects/web/app/a.cue"); err != nil {
		t.Error(err)
	}
}

func TestATreeServesManyReaders(t *testing.T) {
	bare, work := fixture(t)
	for i := range 200 {
		write(t, work, fmt.Sprintf("projects/p%d/a.cue", i), fmt.Sprint(i))
	}
	commit(t, work)
	s, err := Follow(bare, "main", "").Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for i := range 200 {
		g.Go(func() error {
			name := fmt.Sprintf("projects/p%d/a.cue", i)
			if src, err := fs.ReadFile(s.Tree, name); err != nil || string(src) != fmt.Sprint(i) {
				return fmt.Errorf("%s: %q, %w", name, src, err)
			}
			info, err := fs.Stat(s.Tree, name)
			if err == nil && info.Size() != int64(len(fmt.Sprint(i))) {
				err = fmt.Errorf("%s has %d bytes", name, info.Size())
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestLinksAndSubmodulesAreShownNotFollowed(t *testing.T) {
	bare, work := fixture(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(work, "projects/web/link.cue")); err != nil {
		t.Fatal(err)
	}
	commit(t, work)
	s, err := Follow(bare, "main", "").Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := fs.ReadDir(s.Tree, "projects/web")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "link.cue" && e.Type() != fs.ModeSymlink {
			t.Errorf("link.cue has type %v, want a symbolic link", e.Type())
		}
	}
}

func TestOlderCommitsStayReadable(t *testing.T) {
	bare, work := fixture(t)
	src := Follow(bare, "main", "")
	first, err := src.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write(t, work, "swage.cue", "changed")
	commit(t, work)
	run(t, bare, "gc", "-q", "--prune=now")
	for commit, want := range map[string]string{first.Commit: "one", "": "changed"} {
		s, err := src.Latest(t.Context())
		if commit != "" {
			s, err = src.At(t.Context(), commit)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := fs.ReadFile(s.Tree, "swage.cue"); string(got) != want {
			t.Errorf("swage.cue at %q is %q, want %q", commit, got, want)
		}
	}
}

func TestMissingRepositoryOrBranchIsAnError(t *testing.T) {
	bare, _ := fixture(t)
	for _, src := range []Local{Follow(filepath.Join(t.TempDir(), "none"), "main", ""), Follow(bare, "main", "nowhere"), Follow(bare, "main", "swage.cue"), Follow(bare, "none", ""), {Path: bare, Branch: "../../../HEAD"}} {
		if s, err := src.Latest(t.Context()); err == nil {
			t.Errorf("%+v gave commit %s, want an error", src, s.Commit)
		}
	}
}

func TestWatchSeesAPushAndAPackedRef(t *testing.T) {
	bare, work := fixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	ended := make(chan error)
	go func() { ended <- Follow(bare, "main", "").Watch(ctx, changed) }()
	// The watch has begun when it sees a change; until then keep changing.
	wait := func(what string, change func()) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			change()
			select {
			case <-changed:
				return
			case <-time.After(50 * time.Millisecond):
			case <-deadline:
				t.Fatalf("%s was not seen", what)
			}
		}
	}
	push := func() {
		run(t, work, "commit", "-q", "--allow-empty", "-m", "again")
		run(t, work, "push", "-q", "origin", "main")
	}
	wait("a push", push)
	wait("packing the refs", func() { push(); run(t, bare, "pack-refs", "--all") })
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
}

// watching runs Watch and returns a function that makes a change and waits
// until it is hinted at.
func watching(t *testing.T, src Local) (seen func(what string, change func())) {
	ctx, cancel := context.WithCancel(t.Context())
	changed, ended := make(chan struct{}, 1), make(chan error)
	go func() { ended <- src.Watch(ctx, changed) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
	})
	return func(what string, change func()) {
		t.Helper()
		// Hints of what came before may be late.
		for quiet := false; !quiet; {
			select {
			case <-changed:
			case <-time.After(5 * recheck):
				quiet = true
			}
		}
		change()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s was not seen", what)
		}
	}
}

func TestWatchOutlivesTheRepository(t *testing.T) {
	bare, work := fixture(t)
	away := bare + ".away"
	push := func() {
		run(t, work, "commit", "-q", "--allow-empty", "-m", "again")
		run(t, work, "push", "-q", "origin", "main")
	}
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	seen := watching(t, Follow(bare, "main", ""))
	seen("a push", push)
	seen("that the repository is gone", func() { rename(bare, away) })
	seen("that it is back", func() { run(t, work, "clone", "-q", "--bare", away, bare) })
	seen("a push to the new one", push)
	seen("that a folder above it is gone", func() { rename(filepath.Dir(bare), filepath.Dir(bare)+".away") })
	seen("that it is back", func() { rename(filepath.Dir(bare)+".away", filepath.Dir(bare)) })
	seen("a push after all", push)
}

func TestWatchWaitsForTheRepositoryAndDeepBranches(t *testing.T) {
	bare, work := fixture(t)
	late := filepath.Join(filepath.Dir(bare), "late.git")
	seen := watching(t, Follow(late, "team/a/live", ""))
	seen("the repository", func() { run(t, work, "clone", "-q", "--bare", bare, late) })
	seen("the first push", func() { run(t, work, "push", "-q", late, "HEAD:team/a/live") })
	seen("the next", func() {
		run(t, work, "commit", "-q", "--allow-empty", "-m", "again")
		run(t, work, "push", "-q", late, "HEAD:team/a/live")
	})
	seen("the end of the branch", func() { run(t, work, "push", "-q", late, ":team/a/live") })
	seen("its return", func() { run(t, work, "push", "-q", late, "HEAD:team/a/live") })
}

func TestAFolderIsAllThereIs(t *testing.T) {
	bare, work := fixture(t)
	write(t, work, "fleets/live/swage.cue", "inner")
	commit(t, work)
	src := Follow(bare, "main", "fleets/live")
	for range 2 { // the second finds trees that are known
		s, err := src.Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(s.Tree, "swage.cue"); err != nil {
			t.Error(err)
		}
		if got, _ := fs.ReadFile(s.Tree, "swage.cue"); string(got) != "inner" {
			t.Errorf("swage.cue is %q", got)
		}
		if _, err := fs.Stat(s.Tree, "projects"); err == nil {
			t.Error("what is beside the folder shows")
		}
	}
}
