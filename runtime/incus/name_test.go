package incus

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sync/errgroup"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

func TestL1NamesInIncus(t *testing.T) {
	takes := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,62}$`)
	names := map[string]string{}
	for i, name := range []string{"web", "web", "web_1", "web-1", "db", "1", "-", "__", strings.Repeat("long_", 20)} {
		id := runtime.ID(fmt.Sprintf("7e57000000000000000000%02x", i))
		for n := range maxNames {
			c := runtime.Container{ID: id, Name: name}
			got, of := instanceName(c, n), fmt.Sprint(name, " ", id, " ", n)
			if !takes.MatchString(got) || !isNameOf(c, got) {
				t.Errorf("%s: %q is no name for Incus", of, got)
			}
			if isNameOf(runtime.Container{ID: id[:23] + "f", Name: name}, got) {
				t.Errorf("%s: %q is the name of another, too", of, got)
			}
			if other, ok := names[got]; ok {
				t.Errorf("%s: %q is that of %s", of, got, other)
			}
			names[got] = of
		}
	}
}

// TestL1ManyOfOneName: containers of one name in many projects on one bridge,
// with ids that differ in their last two digits, start and start again.
func TestL1ManyOfOneName(t *testing.T) {
	count := 12
	if os.Getenv("SWAGE_SOAK") != "" {
		count = 40
	}
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "n" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	prefix := runtime.NewID()[:22]
	all := make([]runtime.Container, count)
	each := func(what string, step func(runtime.Container) runtime.Step) {
		t.Helper()
		g, ctx := errgroup.WithContext(context.Background())
		g.SetLimit(4)
		for i := range all {
			g.Go(func() error {
				_, err := rt.Do(ctx, step(all[i]))
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(what, err)
		}
	}
	for i := range all {
		all[i] = runtimetest.Plain("tiny/1", runtime.Running)
		all[i].ID = prefix + runtime.ID(fmt.Sprintf("%02d", i+1))
		all[i].Name, all[i].Project = "web", fmt.Sprintf("p%d", i+1)
	}
	each("create the project", func(c runtime.Container) runtime.Step {
		return runtime.CreateProject{Project: runtime.Project{Name: c.Project}}
	})
	t.Cleanup(func() {
		each("delete", func(c runtime.Container) runtime.Step { return runtime.DeleteContainer{Target: c} })
		each("delete the project", func(c runtime.Container) runtime.Step {
			return runtime.DeleteProject{Project: runtime.Project{Name: c.Project}}
		})
	})
	each("create", func(c runtime.Container) runtime.Step { return runtime.CreateContainer{New: c} })
	each("stop", func(c runtime.Container) runtime.Step { return runtime.StopContainer{Target: c} })
	each("start", func(c runtime.Container) runtime.Step { return runtime.StartContainer{Target: c} })
	seen, err := rt.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, c := range seen.Containers {
		if c.Status == runtime.Running {
			running++
		}
	}
	if running != count {
		t.Errorf("%d of %d run", running, count)
	}
}

// TestL1ANameThatIsTaken: an instance of somebody else with the name in Incus
// that a container would have neither keeps it from being created nor from
// starting, in its own project or in another on the bridge, and is left alone.
func TestL1ANameThatIsTaken(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	squat := func(project, name string, start bool) {
		t.Helper()
		c := b.rt.in(context.Background(), project)
		op, err := c.CreateInstance(api.InstancesPost{
			Name: name, Type: api.InstanceTypeContainer, Start: start,
			Source: api.InstanceSource{Type: "image", Alias: "tiny/1"},
			InstancePut: api.InstancePut{
				Profiles: []string{"default"},
				Devices:  map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "default"}},
			},
		})
		if err := finish(c, op, err); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			at := place{project: project, name: name}
			if err := b.rt.kill(context.Background(), &at); err != nil {
				t.Error(err)
			}
			op, err := c.DeleteInstance(name)
			if err := finish(c, op, err); err != nil {
				t.Error(err)
			}
		})
	}
	web, err := b.rt.project(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	nameOf := func(c runtime.Container) string {
		t.Helper()
		at, err := b.rt.find(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return at.name
	}

	c := runtimetest.Plain("tiny/1", runtime.Running)
	squat(web, instanceName(c, 0), true)
	squat("default", instanceName(c, 1), true)
	b.do(runtime.CreateContainer{New: c})
	if got := nameOf(c); got != instanceName(c, 2) {
		t.Errorf("its name is %s", got)
	}
	b.observed(c)

	// One that stands, and whose name another takes while it is stopped.
	d := runtimetest.Plain("tiny/1", runtime.Running)
	d.Name = "web_1"
	b.do(runtime.CreateContainer{New: d})
	b.do(runtime.StopContainer{Target: d})
	squat("default", nameOf(d), false) // Incus refuses the name to whichever starts later
	b.do(runtime.StartContainer{Target: d})
	if got := nameOf(d); got != instanceName(d, 1) {
		t.Errorf("its name is %s", got)
	}
	b.observed(d)

	// Two names that Incus would be told alike.
	e := runtimetest.Plain("tiny/1", runtime.Running)
	e.Name = "web-1"
	b.do(runtime.CreateContainer{New: e})
	b.observed(e)
	moved := e
	moved.Name = "web__1"
	b.do(runtime.MoveContainer{From: e, To: moved})
	b.observed(moved)
	if got := nameOf(moved); got != instanceName(moved, 0) {
		t.Errorf("its name is %s", got)
	}
}

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
