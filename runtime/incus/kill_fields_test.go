package incus

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// exactly holds a world to one container, with its ramdisk or without.
func exactly(want runtime.Container) func(*testing.T, *Runtime, runtime.Actual) {
	return func(t *testing.T, rt *Runtime, a runtime.Actual) {
		t.Helper()
		for i := range a.Containers { // the last thing written, and never compared
			a.Containers[i].Applied = want.Applied
		}
		if d := cmp.Diff([]runtime.Container{want}, a.Containers, runtimetest.Equal); d != "" {
			t.Errorf("observed (-want +got):\n%s", d)
		}
		_, err := os.Stat(ramdiskDir(rt.scope, want.ID))
		if want.Ramdisk != (err == nil) {
			t.Errorf("ramdisk %t: %v", want.Ramdisk, err)
		}
	}
}

func aCreation(*testing.T, *Runtime) world {
	c := runtimetest.Full("tiny/1", runtime.Running)
	return world{runtime.CreateContainer{New: c}, exactly(c)}
}

// anUpdate is of a paused container, as that stops at once.
func anUpdate(t *testing.T, rt *Runtime) world {
	from := runtimetest.Full("tiny/1", runtime.Paused)
	must(t, rt, runtime.CreateContainer{New: from})
	to := runtimetest.Plain("tiny/1", runtime.Running)
	to.ID = from.ID
	for _, f := range runtimetest.Fields {
		if f.Name != "Asked" && f.Name != "Ramdisk" {
			f.Values[1](&to)
		}
	}
	return world{runtime.UpdateContainer{From: from, To: to}, exactly(to)}
}

func aMove(t *testing.T, rt *Runtime) world {
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "shop"}})
	from := runtimetest.Full("tiny/1", runtime.Stopped)
	must(t, rt, runtime.CreateContainer{New: from})
	to := from
	to.Project, to.Name = "shop", "moved"
	return world{runtime.MoveContainer{From: from, To: to}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		exactly(to)(t, rt, a)
		must(t, rt, runtime.StartContainer{Target: to}) // it is whole
	}}
}

func aDeletion(t *testing.T, rt *Runtime) world {
	c := runtimetest.Full("tiny/1", runtime.Running)
	must(t, rt, runtime.CreateContainer{New: c})
	return world{runtime.DeleteContainer{Target: c}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		if _, err := os.Stat(ramdiskDir(rt.scope, c.ID)); err == nil || len(a.Containers) > 0 {
			t.Errorf("left: %+v, its ramdisk %v", a.Containers, err)
		}
	}}
}
