package incus

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"swage/runtime"
)

// hostname inside a container, as the kernel has it.
func hostname(t *testing.T, s runtime.Scope, id runtime.ID) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nsenter", "--uts", "--target", fmt.Sprint(pid(t, s, id)), "uname", "-n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestAClaimIsComplete: ramdisk, host name, keys and limits are there at once,
// and after a restart too.
func TestAClaimIsComplete(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default", Ramdisks: ramdisks()}
	scope.Prefix = "c" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	defer clean(t, rt)
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	var took []time.Duration
	var last runtime.Container
	for i := range 5 {
		spare := must(t, rt, runtime.CreateSpare{Spare: runtime.Spare{Project: "web", Image: "tiny/1", Kit: true}}).Spare
		put(t, rt, spare.ID, "/etc/hostname", "spare\n")
		last = inhabited(fmt.Sprintf("new_%d", i), runtime.Running)
		last.Resources.Disk, last.Resources.Memory = 1<<30, 64<<20
		began := time.Now()
		must(t, rt, runtime.ClaimContainer{New: last, Spare: spare})
		took = append(took, time.Since(began))
		want := fmt.Sprintf("new-%d", i)
		holds(t, rt, last.ID, "/etc/hostname", want+"\n")
		if got := hostname(t, scope, last.ID); got != want {
			t.Errorf("the host name is %q, want %q", got, want)
		}
	}
	slices.Sort(took)
	t.Logf("claimed in %v", took)
	ramdiskSize := func() string {
		out, err := exec.CommandContext(t.Context(), "stat", "-f", "-c", "%T %s %b", fmt.Sprintf("/proc/%d/root/ramdisk", pid(t, scope, last.ID))).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	want := fmt.Sprintf("tmpfs 4096 %d", 64<<20/4096)
	if got := ramdiskSize(); got != want {
		t.Errorf("the ramdisk is %q, want %q", got, want)
	}
	must(t, rt, runtime.StopContainer{Target: last})
	must(t, rt, runtime.StartContainer{Target: last})
	if got := hostname(t, scope, last.ID); got != "new-4" {
		t.Errorf("after a restart the host name is %q", got)
	}
	if got := ramdiskSize(); got != want {
		t.Errorf("after a restart the ramdisk is %q, want %q", got, want)
	}
	a, err := rt.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holds(t, rt, last.ID, keysFile, last.Keys[0]+"\n")
	if !slices.ContainsFunc(a.Containers, func(c runtime.Container) bool { return c.Same(last) }) {
		t.Errorf("observed %+v", a.Containers)
	}
}

// TestASpareThatDoesNotRunIsOfNoUse: a plan sees it, and deletes it.
func TestASpareThatDoesNotRunIsOfNoUse(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "c" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	defer clean(t, rt)
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	spare := must(t, rt, runtime.CreateSpare{Spare: runtime.Spare{Project: "web", Image: "tiny/1"}}).Spare
	in, _, err := rt.seek(t.Context(), spare.ID)
	if err != nil {
		t.Fatal(err)
	}
	at := located(in)
	if err := rt.kill(t.Context(), &at); err != nil {
		t.Fatal(err)
	}
	a, err := rt.Observe(t.Context())
	if err != nil || !slices.Equal(a.Spares, []runtime.Spare{{ID: spare.ID, Project: "web"}}) {
		t.Errorf("observed %v, %v", a.Spares, err)
	}
	if _, err := rt.Do(t.Context(), runtime.ClaimContainer{New: inhabited("web1", runtime.Running), Spare: spare}); err == nil {
		t.Error("it was claimed")
	}
}
