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

// ramdisks is where the lab's Incus sees what is mounted by a test.
func ramdisks() string { return os.Getenv("SWAGE_TEST_LAB") + "/ramdisk" }

func TestIncusKeepsTheContract(t *testing.T) {
	s := socket(t)
	runtimetest.Run(t, "tiny/1", func(t *testing.T, scope runtime.Scope) runtime.Runtime {
		scope.Ramdisks = ramdisks()
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
		if rt.bridge, err = rt.readBridge(t.Context()); err != nil {
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

func TestAnInstanceInTheWayIsNamedAndLeftAlone(t *testing.T) {
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "t" + string(scope.Fleet[:8]) + "-"
	rt, err := Open(socket(t), scope)
	if err != nil {
		t.Fatal(err)
	}
	c := runtime.Container{ID: runtime.NewID(), Project: "web", Name: "app", Image: "tiny/1", Status: runtime.Stopped}
	for _, s := range []runtime.Step{
		runtime.CreateProject{Project: runtime.Project{Name: "web"}},
		runtime.CreateContainer{New: c},
	} {
		if _, err := rt.Do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	at, err := rt.find(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	mark := func(fleet runtime.ID) {
		t.Helper()
		if err := rt.patch(context.Background(), at, map[string]any{"config": map[string]string{keyFleet: string(fleet)}}); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		mark(scope.Fleet)
		for _, s := range []runtime.Step{runtime.DeleteContainer{Target: c}, runtime.DeleteProject{Project: runtime.Project{Name: "web"}}} {
			if _, err := rt.Do(context.Background(), s); err != nil {
				t.Error(err)
			}
		}
	})
	mark("")
	_, err = rt.Do(t.Context(), runtime.CreateContainer{New: c})
	if err == nil || !strings.Contains(err.Error(), `the Incus instance "`+at.name+`" exists and does not carry the mark`) {
		t.Errorf("error %v", err)
	}
}

// A daemon that is killed while it makes an instance leaves one without a
// disk, or with half of it, which looks like any other.
func TestWhatWasNotMadeToItsEndIsMadeAgain(t *testing.T) {
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "t" + string(scope.Fleet[:8]) + "-"
	rt, err := Open(socket(t), scope)
	if err != nil {
		t.Fatal(err)
	}
	do := func(ctx context.Context, s runtime.Step) {
		t.Helper()
		if _, err := rt.Do(ctx, s); err != nil {
			t.Error(err)
		}
	}
	project := runtime.Project{Name: "web", ID: runtime.NewID()}
	do(t.Context(), runtime.CreateProject{Project: project})
	t.Cleanup(func() { do(context.Background(), runtime.DeleteProject{Project: project}) })
	for _, want := range []runtime.Status{runtime.Running, runtime.Stopped} {
		c := runtime.Container{
			ID: runtime.NewID(), Project: "web", Name: "app", Image: "tiny/1",
			Env: map[string]string{"A": "1"}, Status: runtime.Stopped,
		}
		do(t.Context(), runtime.CreateContainer{New: c})
		t.Cleanup(func() { do(context.Background(), runtime.DeleteContainer{Target: c}) })
		uuid := func() string {
			at, err := rt.find(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			in, _, err := rt.in(t.Context(), at.project).GetInstance(at.name)
			if err != nil {
				t.Fatal(err)
			}
			return in.Config["volatile.uuid"]
		}
		observed := func() runtime.Container {
			a, err := rt.Observe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range a.Containers {
				if o.ID == c.ID {
					return o
				}
			}
			t.Fatalf("container %s is gone", c.ID)
			return c
		}
		before := uuid()
		at, err := rt.find(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := rt.patch(t.Context(), at, map[string]any{"config": map[string]string{keyMaking: "true"}}); err != nil {
			t.Fatal(err)
		}
		if got := observed(); got.Status != runtime.Other {
			t.Errorf("half of a container is seen as %s", got.Status)
		}
		if want == runtime.Running {
			do(t.Context(), runtime.StartContainer{Target: c})
		} else {
			do(t.Context(), runtime.StopContainer{Target: c})
		}
		c.Status, c.Asked = want, want
		if got := observed(); !got.Same(c) {
			t.Errorf("it became %+v, want %+v", got, c)
		}
		if uuid() == before {
			t.Error("it was not made again")
		}
	}
}

func TestAStepSaysWhatItWaitsFor(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	c := runtimetest.Full("tiny/1", runtime.Running)
	var said []string
	ctx := runtime.WithPhase(t.Context(), func(phase string) { said = append(said, phase) })
	for _, s := range []runtime.Step{runtime.CreateContainer{New: c}, runtime.StopContainer{Target: c}} {
		if _, err := b.rt.Do(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := strings.Join(said, ", "), "unpacking the image, writing keys, writing the environment, starting, stopping"; got != want {
		t.Errorf("said %s, want %s", got, want)
	}
	said = nil
	absent := runtimetest.Plain("none/1", runtime.Running)
	_, err := b.rt.Do(ctx, runtime.CreateContainer{New: absent})
	if err == nil || strings.Join(said, ", ") != "fetching the image" {
		t.Errorf("an image that is nowhere: said %v, error %v", said, err)
	}
}
