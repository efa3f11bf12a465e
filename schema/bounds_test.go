package schema

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

func fleetFiles(n int, name, text string) fstest.MapFS {
	tree := fstest.MapFS{
		"swage.cue":       {Data: []byte("id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n")},
		"servers/lab.cue": {},
	}
	file := &fstest.MapFile{Data: []byte(text)}
	for i := range n {
		tree[fmt.Sprintf(name, i)] = file
	}
	return tree
}

// opened counts the plain files that are opened.
type opened struct {
	fs.FS
	files atomic.Int64
}

func (o *opened) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, ".cue") {
		o.files.Add(1)
	}
	return o.FS.Open(name)
}

// TestS3CountsBeforeItReads: a tree past a limit of the whole is refused before
// any file of it is opened.
func TestS3CountsBeforeItReads(t *testing.T) {
	blob := "package a\n" + strings.Repeat("// x\n", 200000)
	for _, c := range []struct {
		what string
		tree fstest.MapFS
		want string
	}{
		{"one MiB under many names", fleetFiles(3000, "lib/a/f%d.cue", blob), "more than 67108864 bytes"},
		{"many names", fleetFiles(21000, "projects/web/f%d.cue", ""), "more than 20000 files and folders"},
		{"many names that are not read", fleetFiles(21000, "projects/web/f%d.txt", blob), "more than 20000 files and folders"},
		{"many folders", fleetFiles(11000, "projects/p%d/f.cue", ""), "more than 20000 files and folders"},
	} {
		tree := &opened{FS: c.tree}
		_, err := Load(t.Context(), tree)
		if !IsProblems(err) || !strings.Contains(err.Error(), c.want) || tree.files.Load() != 0 {
			t.Errorf("%s: %d files opened, %.200v", c.what, tree.files.Load(), err)
		}
	}
}

// lying is a tree whose files are listed with less than they hold; with endless
// they have no end.
type lying struct {
	fstest.MapFS
	endless bool
}

func (l lying) Open(name string) (fs.File, error) {
	f, err := l.MapFS.Open(name)
	if err == nil && l.endless && strings.HasSuffix(name, "app.cue") {
		return endless{f}, nil
	}
	return f, err
}

type endless struct{ fs.File }

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestS3EndlessFiles: no more of a file is read than it was listed with.
func TestS3EndlessFiles(t *testing.T) {
	for _, size := range []int{0, 10, 100000} { // in process, and not
		tree := lying{fleetFiles(1, "projects/web/app%.0d.cue", strings.Repeat(" ", size)), true}
		_, err := Load(t.Context(), tree)
		if !IsProblems(err) || !strings.Contains(err.Error(), fmt.Sprintf("more than the %d bytes that it was listed with", size)) {
			t.Errorf("%d: %v", size, err)
		}
	}
}

// TestS3ProblemsAreFewAndShort: what is said of a repository is bounded in
// number and length, whatever is wrong with it.
func TestS3ProblemsAreFewAndShort(t *testing.T) {
	long := strings.Repeat("long", 5000)
	for _, c := range []struct {
		what, want string
		tree       fstest.MapFS
	}{
		{"a problem in each file", "more; mend these first", fleetFiles(500, "projects/web/f%d.cue", "containers: app: {stat: 1}\n")},
		{"many in one file", "has more problems than these", fleetFiles(1, "projects/web/f%d.cue", wrongContainers(1000))},
		{"references", "more; mend these first", fleetFiles(50, "projects/p%02d/f.cue", "aliases: {\n"+aliasesOf(100)+"}\n")},
		{"long names", "names that are longer than 1024 bytes", fleetFiles(50, "projects/web/f%d.cue", "containers: "+long+": {stat: 1}\n")},
		{"long texts", "", fleetFiles(50, "projects/web/f%d.cue", "containers: app: {state: \""+long+"\", container_image: \""+long+"\", color: \""+long+"\"}\n")},
		{"long texts that are evaluated", "", fleetFiles(50, "projects/web/f%d.cue", "let x = \""+long+"\"\ncontainers: app: {state: x & \"y\", container_image: x & \"z\"}\n")},
		{"misplaced files", "more; mend these first", fleetFiles(500, "projects/f%d.cue", "")},
	} {
		_, err := Load(t.Context(), c.tree)
		var ps Problems
		if !errors.As(err, &ps) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.300v", c.what, err)
			continue
		}
		if len(ps) > maxShown+1 {
			t.Errorf("%s: %d problems", c.what, len(ps))
		}
		for _, p := range ps {
			if len(p.String()) > maxPath+maxMessage+200 {
				t.Errorf("%s: a problem of %d bytes", c.what, len(p.String()))
			}
		}
	}
}

func wrongContainers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "containers: con%d: {stat: 1}\n", i)
	}
	return b.String()
}

func aliasesOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\t\"alias-%d\": {container: \"none\", program: \"http\", port: 80}\n", i)
	}
	return b.String()
}

// TestS3Weight: what a repository is weighed at is about what it takes.
func TestS3Weight(t *testing.T) {
	containers := func(n int, body string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "containers: con%d: {%s}\n", i, body)
		}
		return b.String()
	}
	for _, c := range []struct {
		what string
		tree fstest.MapFS
	}{
		{"empty containers", fleetFiles(1, "projects/web/f%d.cue", containers(5000, ""))},
		{"texts", fleetFiles(1, "projects/web/f%d.cue", containers(400, "comment: \""+strings.Repeat("x", 2000)+"\""))},
		{"lists", fleetFiles(1, "projects/web/f%d.cue", containers(500, "ssh_authorized_keys: ["+strings.Repeat("\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N\",", 20)+"]"))},
		{"variables", fleetFiles(1, "projects/web/f%d.cue", containers(500, "environment_vars: {A: \"a\", B: \"b\", C: \"c\", D: \"d\", E: \"e\", F: \"f\"}"))},
		{"rules", fleetFiles(1, "projects/web/f%d.cue", containers(200, `firewall: [{direction: "ingress", action: "drop", source: "10.0.0.0/8"}, {direction: "egress", action: "drop", destination: "10.0.0.0/8"}]`))},
	} {
		var l Loader
		before := inUse()
		f, err := l.Load(t.Context(), c.tree)
		if err != nil {
			t.Errorf("%s: %.300v", c.what, err)
			continue
		}
		took, weight := int64(inUse()-before), int64(0)
		for _, u := range l.units {
			weight += u.weight()
		}
		runtime.KeepAlive(f)
		if took > weight*3/2 || took < weight/5 {
			t.Errorf("%s: weighed at %d KiB, takes %d KiB", c.what, weight>>10, took>>10)
		}
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestS3TooHeavy: it is said with which file, whether the files are parsed here
// or in a process of their own, and whether the others are known.
func TestS3TooHeavy(t *testing.T) {
	l := Loader{Limits: Limits{LoadedBytes: 1 << 20}}
	body := strings.Repeat("containers: app: depends_on: [\"a\"]\n", 10)
	if _, err := l.Load(t.Context(), fleetFiles(100, "projects/p%02d/f.cue", strings.Replace(body, "app", "web", 1)[:30]+"\n")); err == nil {
		t.Fatal("it was taken")
	}
	small := fleetFiles(200, "projects/p%03d/f.cue", "containers: app: {}\n")
	if _, err := l.Load(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	known := l.units
	for _, size := range []int{100, 70000} {
		tree := fleetFiles(200, "projects/p%03d/f.cue", "containers: app: {}\n")
		tree["projects/web/app.cue"] = &fstest.MapFile{Data: []byte("containers: {\n" + strings.Repeat("// x\n", size/5) + strings.Join(names(300), "\n") + "\n}\n")}
		_, err := l.Load(t.Context(), tree)
		if !IsProblems(err) || !strings.HasPrefix(err.Error(), "projects/web/app.cue: with this file the repository comes to more than 1MiB") {
			t.Errorf("%d: %.300v", size, err)
		}
		if len(l.units) != len(known) {
			t.Errorf("%d files are remembered, not %d", len(l.units), len(known))
		}
	}
}

func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("\tcon%d: {}", i))
	}
	return all
}

// TestS3Trial: a tree that is only tried leaves nothing behind, and its turn is
// taken only if it is large.
func TestS3Trial(t *testing.T) {
	var l Loader
	good := fleetFiles(1, "projects/web/f%d.cue", "containers: app: {}\n")
	if _, err := l.Load(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	known := fmt.Sprint(l.units)
	turns := 0
	turn := func(context.Context) error { turns++; return nil }
	for _, c := range []struct {
		text  string
		turns int
	}{
		{"containers: two2: {}\n", 0},
		{"containers: two2: {}\n//" + strings.Repeat("x", inProcess) + "\n", 1},
		{"let x = \"x\"\ncontainers: two2: comment: x\n", 1},
	} {
		turns = 0
		f, err := l.Trial(t.Context(), fleetFiles(1, "projects/web/f%d.cue", c.text), turn)
		if err != nil || f.Projects[0].Containers[0].Name != "two2" || turns != c.turns {
			t.Errorf("%.30q: %d turns, %v", c.text, turns, err)
		}
	}
	if fmt.Sprint(l.units) != known {
		t.Error("what was tried is remembered")
	}
	gone := errors.New("gone")
	if _, err := l.Trial(t.Context(), fleetFiles(1, "projects/web/f%d.cue", "//"+strings.Repeat("x", inProcess)), func(context.Context) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("without a turn: %v", err)
	}
}

// TestS3BothWaysAreOne: files come to the same whether they are parsed here or
// in a process of their own.
func TestS3BothWaysAreOne(t *testing.T) {
	text := "containers: app: {comment: \"ä\\n\", environment_vars: A: \"1\", resources: cpu: 1.5, depends_on: [\"bbb\"]}\ncontainers: bbb: {}\naliases: {\"a-b\": {container: \"app\", program: \"http\", port: 80}}\n"
	small := fleetFiles(1, "projects/web/f%d.cue", text)
	small["projects/two/f.yaml"] = &fstest.MapFile{Data: []byte("containers:\n  one: {state: stopped, autostart: false}\n")}
	small["projects/two/g.json"] = &fstest.MapFile{Data: []byte(`{"containers": {"two": {"comment": "\u00e4"}}}`)}
	large := fstest.MapFS{}
	for name, f := range small {
		large[name] = f
	}
	large["lib/a/a.cue"] = &fstest.MapFile{Data: []byte("package a\n// " + strings.Repeat("x", inProcess) + "\n")}
	a, err := Load(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	if !Same(*a, *b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	for i := range a.Projects {
		for j, c := range a.Projects[i].Containers {
			for _, field := range []string{"comment", "state", "environment_vars"} {
				if got, want := b.Projects[i].Containers[j].At(field), c.At(field); got != want {
					t.Errorf("%s of %s: %s and %s", field, c.Name, got, want)
				}
			}
		}
	}
}

// TestS3AnswersAreBounded: whatever the evaluating process says, no more is
// taken than the limit, and nothing else than an error comes of it.
func TestS3AnswersAreBounded(t *testing.T) {
	number := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	pos := append(number(0), 1, 1)
	list := append([]byte{kindCode(isList)}, pos...)
	deep := bytes.Repeat(append(bytes.Clone(list), 1), 100000)
	for what, b := range map[string][]byte{
		"problems without end": append([]byte{0}, number(1<<60)...),
		"items without end":    append(append([]byte{answerValue, 0}, list...), number(1<<60)...),
		"fields without end":   append(append([]byte{answerValue, 0, kindCode(isStruct)}, pos...), number(1<<60)...),
		"a text without end":   append(append([]byte{answerValue, 0, kindCode(isText)}, pos...), number(1<<62)...),
		"lists in each other":  append([]byte{answerValue, 0}, deep...),
		"an unknown kind":      {answerValue, 0, 99},
		"no number":            append([]byte{0}, bytes.Repeat([]byte{0xff}, 20)...),
		"nothing":              {},
	} {
		before := inUse()
		in := &incoming{Reader: bufio.NewReader(bytes.NewReader(b)), left: 1 << 20}
		if a, err := in.answer("a.cue"); err == nil {
			t.Errorf("%s: %+v", what, a)
		}
		if took := int64(inUse()) - int64(before); took > 1<<20 {
			t.Errorf("%s: %d bytes", what, took)
		}
	}
}

// TestS3FolderHoldsOtherThings: a working folder whose files are devices, FIFOs
// and links is refused without any of them being opened.
func TestS3FolderHoldsOtherThings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(dir+"/"+name[:strings.LastIndex(name, "/")+1], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("swage.cue", "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n")
	write("servers/lab.cue", "")
	write("projects/web/app.cue", "")
	for _, name := range []string{"projects/web/fifo.cue", "lib/fifo.cue", "swage.yaml"} {
		if err := os.MkdirAll(dir+"/lib", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(dir+"/"+name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"projects/web/zero.cue": "/dev/zero", "projects/web/loop": ".", "servers/up": "..", "cue.mod": "/dev"} {
		if err := os.Symlink(to, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := Load(t.Context(), os.DirFS(dir))
		done <- err
	}()
	select {
	case err := <-done:
		if !IsProblems(err) || strings.Count(err.Error(), "is no plain file") != 7 {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits")
	}
}
