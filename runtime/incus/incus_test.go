package incus

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socket is that of the lab's Incus.
func socket(t *testing.T) string {
	t.Helper()
	lab := os.Getenv("SWAGE_TEST_LAB")
	if lab == "" {
		t.Skip("needs a throw-away Incus: run `make test`, which brings one up")
	}
	env, err := os.ReadFile(lab + "/lab.env")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(env)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "INCUS_SOCKET="); ok {
			return path
		}
	}
	t.Fatal("lab.env has no INCUS_SOCKET")
	return ""
}

func TestIncusKeepsTheContract(t *testing.T) {
	s := socket(t)
	runtimetest.Run(t, "tiny/1", func(t *testing.T, scope runtime.Scope) runtime.Runtime {
		rt, err := Open(s, scope)
		if err != nil {
			t.Fatal(err)
		}
		return rt
	})
}

// TestAnAddressThatIsTakenIsGivenUp: two agents on one bridge that choose the
// same address at the same time both get their container.
func TestAnAddressThatIsTakenIsGivenUp(t *testing.T) {
	s := socket(t)
	id := runtime.NewID() // the search begins where the id says, so at one place for both
	var addrs []netip.Addr
	for _, name := range []string{"web1", "web2"} {
		scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
		scope.Prefix = "a" + string(scope.Fleet[:8]) + "-"
		rt, err := Open(s, scope)
		if err != nil {
			t.Fatal(err)
		}
		rt.taken = map[netip.Addr]bool{} // it has not seen the other's yet
		c := runtime.Container{ID: id, Project: "web", Name: name, Image: "tiny/1", Status: runtime.Running}
		do := func(step runtime.Step) runtime.Done {
			t.Helper()
			d, err := rt.Do(t.Context(), step)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
		t.Cleanup(func() {
			ctx := context.Background()
			for _, step := range []runtime.Step{runtime.DeleteContainer{Target: c}, runtime.DeleteProject{Project: runtime.Project{Name: "web"}}} {
				if _, err := rt.Do(ctx, step); err != nil {
					t.Error(err)
				}
			}
		})
		addrs = append(addrs, do(runtime.CreateContainer{New: c}).Addr)
		seen, err := rt.Observe(t.Context())
		if err != nil || seen.Addr[id] != addrs[len(addrs)-1] {
			t.Errorf("observed %v, done %v, %v", seen.Addr[id], addrs, err)
		}
	}
	if addrs[0] == addrs[1] {
		t.Errorf("both have %v", addrs[0])
	}
}
