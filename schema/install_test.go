package schema

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/load"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestInstall [F1]: CUE's own loader finds the installed schema with no
// registry at hand, and holds files to it; so does Load.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	if err := Install(dir); err != nil {
		t.Fatal(err)
	}
	if err := Install(dir); err != nil {
		t.Fatal("a second time: ", err)
	}
	write := func(name, text string) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	vet := func(name string) error {
		insts := load.Instances([]string{"./" + name}, &load.Config{Dir: dir, Env: []string{"CUE_REGISTRY=none"}})
		if insts[0].Err != nil {
			return insts[0].Err
		}
		return cuecontext.New().BuildInstance(insts[0]).Validate(cue.Concrete(true))
	}
	const name = "projects/web/app.cue"
	head := "import \"swage.internal/schema\"\n\ncontainers: app: schema.#Container\n"
	write("swage.cue", "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n")
	write("servers/lab.cue", "")
	write(name, head+"containers: app: kit: false\ncontainers: app: ssh_authorized_keys: []\n")
	if err := vet(name); err != nil {
		t.Errorf("CUE refuses what is right: %v", err)
	}
	f, err := Load(t.Context(), os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if c := f.Projects[0].Containers[0]; c.Kit || c.State != "running" {
		t.Errorf("%+v", c)
	}
	write(name, head+"containers: app: stat: \"up\"\n")
	if err := vet(name); err == nil {
		t.Error("CUE lets pass what is wrong")
	}
	if _, err := Load(t.Context(), os.DirFS(dir)); err == nil || !strings.HasPrefix(err.Error(), name+":4:") {
		t.Errorf("Load says %v", err)
	}
}

// TestSource: what Source gives is the schema.
func TestSource(t *testing.T) {
	src := readFile(t, "container.cue")
	got, err := Source().Open("container.cue")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	info, err := got.Stat()
	if err != nil || info.Size() != int64(len(src)) {
		t.Errorf("%v %v", info, err)
	}
}
