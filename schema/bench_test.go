package schema_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"swage/schema"
)

// large writes the large example and reads it into memory.
func large(tb testing.TB, containers int) (dir string, tree *gitLike) {
	tb.Helper()
	dir = tb.TempDir()
	out, err := exec.Command("go", "run", "../examples/large", dir, fmt.Sprint(containers)).CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	tree = newTree()
	root := os.DirFS(dir)
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		src, err := fs.ReadFile(root, name)
		tree.write(name, string(src))
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return dir, tree
}

func BenchmarkLoad5000(b *testing.B) {
	dir, _ := large(b, 5000)
	for b.Loop() {
		if _, err := schema.Load(b.Context(), os.DirFS(dir)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoadExpressions5000: every file imports a template from lib/.
func BenchmarkLoadExpressions5000(b *testing.B) {
	_, tree := large(b, 5000)
	tree.write("cue.mod/module.cue", "module: \"fleet.example\"\nlanguage: version: \"v0.17.0\"\n")
	tree.write("lib/base/base.cue", "package base\n#Web: {environment_vars: {LANG: \"C.UTF-8\", ...}, ...}\n")
	for name, src := range tree.files {
		if strings.Contains(name, "/c0") {
			tree.write(name, "import \"fleet.example/lib/base\"\n"+strings.Replace(src, "\": {\n", "\": base.#Web & {\n", 1))
		}
	}
	for b.Loop() {
		if _, err := schema.Load(b.Context(), tree); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReload changes one file of 5,000, in a tree that knows digests as
// Git does, and in a folder.
func BenchmarkReload(b *testing.B) {
	dir, tree := large(b, 5000)
	const name = "projects/p0007/c00150.cue"
	src := tree.files[name]
	changed := func(i int) string { return strings.Replace(src, "production", fmt.Sprint("v", i), 1) }
	b.Run("git", func(b *testing.B) {
		var l schema.Loader
		reload(b, &l, tree)
		for i := 0; b.Loop(); i++ {
			tree.write(name, changed(i))
			reload(b, &l, tree)
		}
	})
	b.Run("folder", func(b *testing.B) {
		var l schema.Loader
		reload(b, &l, os.DirFS(dir))
		for i := 0; b.Loop(); i++ {
			if err := os.WriteFile(path.Join(dir, name), []byte(changed(i)), 0o644); err != nil {
				b.Fatal(err)
			}
			reload(b, &l, os.DirFS(dir))
		}
	})
}

func reload(tb testing.TB, l *schema.Loader, tree fs.FS) *schema.Fleet {
	tb.Helper()
	f, err := l.Load(tb.Context(), tree)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// TestReloadStaysFlat: a thousand reloads leave no more memory behind than
// the first few. The large fleet takes minutes, and its turn in make soak.
func TestReloadStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand reloads")
	}
	containers := 200
	if os.Getenv("SWAGE_SOAK") != "" {
		containers = 5000
	}
	_, tree := large(t, containers)
	const name = "projects/p0007/c00150.cue"
	src := tree.files[name]
	var l schema.Loader
	var early uint64
	for i := range 1000 {
		tree.write(name, strings.Replace(src, "production", fmt.Sprint("v", i), 1))
		f := reload(t, &l, tree)
		if i == 50 {
			early = heap()
		}
		runtime.KeepAlive(f)
	}
	if late := heap(); late > early+early/4 {
		t.Errorf("%d KiB are in use after 50 reloads and %d KiB after 1000", early>>10, late>>10)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestReload: what a Loader remembers never shows in what it returns.
func TestReload(t *testing.T) {
	tree := newTree()
	tree.write("swage.cue", swageFile)
	tree.write("servers/lab.cue", "")
	tree.write("cue.mod/module.cue", "module: \"fleet.example\"\n")
	tree.write("lib/base/base.cue", "package base\ncolor: \"fff\"\n")
	tree.write("projects/web/app.cue", "import \"fleet.example/lib/base\"\ncontainers: app: color: base.color\n")
	tree.write("projects/web/two.cue", "containers: two: comment: \"a\"\n")
	var l schema.Loader
	expect := func(want string) {
		t.Helper()
		f, err := l.Load(t.Context(), tree)
		got := fmt.Sprint(err)
		if err == nil {
			got = ""
			for _, c := range f.Projects[0].Containers {
				got += c.Name + " " + c.Color + c.Comment + "\n"
			}
		}
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	expect("app fff\ntwo a\n")
	expect("app fff\ntwo a\n")
	tree.write("lib/base/base.cue", "package base\ncolor: \"000\"\n")
	expect("app 000\ntwo a\n")
	tree.write("projects/web/two.cue", "containers: two: comment: 1\n")
	expect("projects/web/two.cue:1:27: containers.two.comment: found 1, want a text of at most 16,000 characters; put it in quotes")
	expect("projects/web/two.cue:1:27: containers.two.comment: found 1, want a text of at most 16,000 characters; put it in quotes")
	tree.remove("projects/web/two.cue")
	expect("app 000\n")
	tree.write("projects/web/three.cue", "containers: app: {}\n")
	expect("projects/web/three.cue:1:13: containers.app: is declared a second time; the first is at projects/web/app.cue:2:13; keep one of them")
}

// gitLike is a tree in memory whose entries know a digest of their content.
type gitLike struct {
	files map[string]string
	dirs  map[string]map[string]bool // folder → what is in it
}

func newTree() *gitLike { return &gitLike{map[string]string{}, map[string]map[string]bool{}} }

func (t *gitLike) write(name, src string) {
	t.files[name] = src
	for name != "." {
		dir := path.Dir(name)
		if t.dirs[dir] == nil {
			t.dirs[dir] = map[string]bool{}
		}
		t.dirs[dir][path.Base(name)] = true
		name = dir
	}
}

func (t *gitLike) remove(name string) {
	delete(t.files, name)
	delete(t.dirs[path.Dir(name)], path.Base(name))
}

func (t *gitLike) entry(name string) gitEntry {
	_, dir := t.dirs[name]
	return gitEntry{path.Base(name), t.files[name], dir}
}

func (t *gitLike) Open(name string) (fs.File, error) {
	if _, ok := t.files[name]; !ok && t.dirs[name] == nil {
		return nil, fs.ErrNotExist
	}
	return &gitFile{t.entry(name), strings.NewReader(t.files[name])}, nil
}

func (t *gitLike) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	for base := range t.dirs[name] {
		out = append(out, t.entry(path.Join(name, base)))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

type gitEntry struct {
	name, src string
	dir       bool
}

func (e gitEntry) Name() string               { return e.name }
func (e gitEntry) IsDir() bool                { return e.dir }
func (e gitEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e gitEntry) Size() int64                { return int64(len(e.src)) }
func (e gitEntry) ModTime() time.Time         { return time.Time{} }
func (e gitEntry) Sys() any                   { return nil }
func (e gitEntry) Hash() string               { return e.src } // as good as any digest
func (e gitEntry) Type() fs.FileMode          { return e.Mode().Type() }

func (e gitEntry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	return 0
}

type gitFile struct {
	gitEntry
	*strings.Reader
}

func (f *gitFile) Stat() (fs.FileInfo, error) { return f.gitEntry, nil }
func (f *gitFile) Close() error               { return nil }
func (f *gitFile) Size() int64                { return f.gitEntry.Size() }
