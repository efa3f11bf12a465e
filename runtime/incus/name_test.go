package incus

import (
	"testing"

	"swage/runtime"
)

// Whoever names a container after one that stands, with an id that begins alike,
// in a project of their own, keeps it from nothing: not from starting again, and
// not by renaming either.
func TestA9NamesOfOthers(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default", Ramdisks: ramdisks()}
	scope.Prefix = "n" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	defer clean(t, rt)
	for _, p := range []string{"web", "evil"} {
		must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: p}})
	}
	of := func(project, name string, id runtime.ID) runtime.Container {
		c := inhabited(name, runtime.Running)
		c.Project, c.ID = project, id
		return c
	}
	begin := runtime.NewID()[:6]
	victim := of("web", "page", begin+runtime.NewID()[6:])
	must(t, rt, runtime.CreateContainer{New: victim})
	same := of("evil", "page", begin+runtime.NewID()[6:])
	must(t, rt, runtime.CreateContainer{New: same})
	renamed := of("evil", "other", begin+runtime.NewID()[6:])
	must(t, rt, runtime.CreateContainer{New: renamed})
	to := renamed
	to.Name = "page-"
	must(t, rt, runtime.MoveContainer{From: renamed, To: to})
	for _, c := range []runtime.Container{victim, same, to} {
		must(t, rt, runtime.StopContainer{Target: c})
		must(t, rt, runtime.StartContainer{Target: c})
	}
}
