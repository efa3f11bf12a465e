package incus

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"swage/runtime"
)

// TestPlacement makes a cluster of one of a lab of its own: an Incus that was
// in a cluster never leaves it.
func TestPlacement(t *testing.T) {
	socket(t) // there is a lab, so there can be another
	if testing.Short() {
		t.Skip("-short: a second Incus takes some ten seconds")
	}
	dir := filepath.Join(t.TempDir(), "l")
	bin := filepath.Join(t.TempDir(), "lab")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	run("go", "build", "-o", bin, "swage/cmd/lab")
	t.Cleanup(func() {
		if out, err := exec.Command(bin, "down", "--dir", dir).CombinedOutput(); err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
	})
	run(bin, "up", "--dir", dir)
	for _, args := range []string{
		"config set core.https_address=198.18.0.1:8443", "cluster enable here",
		"cluster group create fast", "cluster group assign here default,fast",
	} {
		run(bin, append([]string{"exec", "--dir", dir, "--", "incus"}, strings.Fields(args)...)...)
	}
	t.Setenv("SWAGE_TEST_LAB", dir)
	s := socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default", Ramdisks: dir + "/ramdisk"}
	for placement, ok := range map[string]bool{"": true, "here": true, "@fast": true, "elsewhere": false, "@slow": false} {
		scope.Placement = placement
		rt, err := Open(s, scope)
		if err != nil {
			t.Fatal(err)
		}
		must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
		c := runtime.Container{ID: runtime.NewID(), Project: "web", Name: "app", Image: "tiny/1", Status: runtime.Running, Asked: runtime.Running}
		_, err = rt.Do(t.Context(), runtime.CreateContainer{New: c})
		if (err == nil) != ok {
			t.Errorf("placement %q: %v", placement, err)
		}
		if !ok {
			continue
		}
		in, _, err := rt.seek(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if in.Location != "here" {
			t.Errorf("placement %q: it is on %q", placement, in.Location)
		}
		to := c
		to.ID, to.Name = runtime.NewID(), "copy"
		must(t, rt, runtime.CopyContainer{New: to, From: c.ID})
		snapshot(t, scope, to.ID, "one")
		a, err := rt.Observe(t.Context())
		if err != nil || len(a.Snapshots[to.ID]) != 1 || !a.Addr[to.ID].IsValid() {
			t.Errorf("observed %v and %v: %v", a.Snapshots, a.Addr, err)
		}
	}
}
