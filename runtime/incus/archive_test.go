package incus

import (
	"testing"

	"swage/runtime"
)

// TestASnapshotFromBeforeTheAdoptionIsKept: what was adopted becomes an archive
// as it is at the end, with the snapshots that it had, and comes back.
func TestASnapshotFromBeforeTheAdoptionIsKept(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "b" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	defer clean(t, rt)
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	instance := foreign(t, scope)
	if err := rt.takeSnapshot(t.Context(), place{project: "default", name: foreignName(scope)}, "theirs", nil); err != nil {
		t.Fatal(err)
	}
	c := runtime.Container{ID: runtime.NewID(), Project: "web", Name: "taken", Image: "tiny/1", Status: runtime.Running, Asked: runtime.Running}
	must(t, rt, runtime.AdoptContainer{New: c, Instance: instance})
	put(t, rt, c.ID, "/etc/data", "since then")
	must(t, rt, runtime.DeleteContainer{Target: c, Archives: true})
	a, err := rt.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Containers) != 0 || len(a.Archives) != 1 || a.Archives[0].ID != c.ID || a.Archives[0].Project != "web" {
		t.Errorf("observed %+v and %+v", a.Containers, a.Archives)
	}
	if s := a.Snapshots[c.ID]; len(s) != 1 || s[0].Name != "theirs" {
		t.Errorf("snapshots %+v", s)
	}
	holds(t, rt, c.ID, "/etc/data", "since then")
	to := runtime.Container{ID: runtime.NewID(), Project: "web", Name: "back", Status: runtime.Stopped, Asked: runtime.Stopped}
	must(t, rt, runtime.CopyContainer{New: to, From: c.ID, Snapshot: "theirs"})
	holds(t, rt, to.ID, "/etc/data", "")
	must(t, rt, runtime.RestoreContainer{New: c})
	holds(t, rt, c.ID, "/etc/data", "since then")
	if a, err = rt.Observe(t.Context()); err != nil || len(a.Containers) != 2 || len(a.Archives) != 0 {
		t.Errorf("observed %+v and %+v, %v", a.Containers, a.Archives, err)
	}
}
