package runtime_test

import (
	"testing"

	"go.uber.org/goleak"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakeKeepsTheContract(t *testing.T) {
	var engine runtime.Fake
	runtimetest.Run(t, "tiny/1", func(_ *testing.T, s runtime.Scope) runtime.Runtime { return engine.Open(s) })
}

func TestFakeKeepsTheContractOfMaking(t *testing.T) {
	var engine runtime.Fake
	open := func(_ *testing.T, s runtime.Scope) runtime.Runtime { return engine.Open(s) }
	runtimetest.RunMaking(t, "tiny/1", open, runtimetest.Hands{
		Foreign: func(_ *testing.T, s runtime.Scope) string {
			name := "default/foreign-" + string(s.Fleet[:8])
			engine.AddForeign(name, runtime.Container{Status: runtime.Running, Asked: runtime.Running, Env: map[string]string{"FOREIGN": "yes"}})
			return name
		},
		Copy: func(_ *testing.T, _ runtime.Scope, id runtime.ID) func() {
			engine.Copy(id)
			return func() { engine.RemoveCopies(id) }
		},
		Snapshot: func(_ *testing.T, _ runtime.Scope, id runtime.ID, name string) { engine.TakeSnapshot(id, name) },
		Start:    func(*testing.T, runtime.Scope, runtime.ID) string { return "" },
	})
}

func TestEveryFieldIsCovered(t *testing.T) { runtimetest.CheckFields(t) }

func TestAHostThatWasRestartedFindsItsContainersAsleep(t *testing.T) {
	var engine runtime.Fake
	rt := engine.Open(runtime.Scope{Fleet: runtime.NewID(), Server: "lab"})
	c := runtimetest.Plain("tiny/1", runtime.Running)
	for _, s := range []runtime.Step{runtime.CreateProject{Project: runtime.Project{Name: "web"}}, runtime.CreateContainer{New: c}} {
		if _, err := rt.Do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	engine.Reboot()
	if a, _ := rt.Observe(t.Context()); !a.Containers[0].Asleep || a.Containers[0].Asked != runtime.Running {
		t.Errorf("observed %+v", a.Containers[0])
	}
	if _, err := rt.Do(t.Context(), runtime.StartContainer{Target: c}); err != nil {
		t.Fatal(err)
	}
	if a, _ := rt.Observe(t.Context()); a.Containers[0].Asleep {
		t.Errorf("observed %+v", a.Containers[0])
	}
}

// Every field that is compared shows in Changes, in Same and in the Digest; what
// is carried in none of them.
func TestNoFieldIsForgotten(t *testing.T) {
	for _, f := range runtimetest.Fields {
		var a, b runtime.Container
		f.Values[0](&a)
		f.Values[1](&b)
		carried := f.Name == "Commit" || f.Name == "Declared" || f.Name == "Replaced" || f.Name == "Applied"
		if a.Same(b) != carried || (len(runtime.Changes(a, b)) == 0) != carried || (a.Digest() == b.Digest()) != carried {
			t.Errorf("%s: same %t, changes %q, digests %s and %s", f.Name, a.Same(b), runtime.Changes(a, b), a.Digest(), b.Digest())
		}
		if !a.Same(a) || len(runtime.Changes(b, b)) != 0 {
			t.Errorf("%s: it differs from itself", f.Name)
		}
	}
}
