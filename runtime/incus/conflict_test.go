package incus

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// copyByHand is incus copy, which takes all keys along.
func copyByHand(t *testing.T, s runtime.Scope, id runtime.ID) func() {
	t.Helper()
	rt := opened(t, s)
	in, _, err := rt.seek(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	name := "by-hand-" + in.Name
	c := rt.in(t.Context(), in.Project)
	op, err := c.CreateInstance(api.InstancesPost{
		Name: name, Type: api.InstanceTypeContainer,
		Source:      api.InstanceSource{Type: "copy", Source: in.Name, Project: in.Project, InstanceOnly: true},
		InstancePut: api.InstancePut{Config: map[string]string{}, Devices: map[string]device{}, Profiles: []string{}},
	})
	if err := finish(c, op, err); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		c := rt.in(context.Background(), in.Project)
		op, err := c.DeleteInstance(name)
		if err := finish(c, op, err); err != nil {
			t.Error(err)
		}
	})
}

// TestL13LostKeysAreAConflictOfThatInstance: one that lost what tells whose it is
// stops nothing else, and comes back with its keys.
func TestL13LostKeysAreAConflictOfThatInstance(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	whole, hurt := runtimetest.Plain("tiny/1", runtime.Running), runtimetest.Plain("tiny/1", runtime.Running)
	whole.Name, hurt.Name = "whole", "hurt"
	b.do(runtime.CreateContainer{New: whole})
	b.do(runtime.CreateContainer{New: hurt})
	at, err := b.rt.find(t.Context(), hurt.ID)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys map[string]string) {
		t.Helper()
		if err := b.rt.patch(context.Background(), at, map[string]any{"config": keys}); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{keyID: string(hurt.ID), keyProject: "web", keyName: "hurt"}
	t.Cleanup(func() { set(all) })
	for _, c := range []struct {
		lost  map[string]string
		stays bool // among the containers
		says  string
	}{
		{map[string]string{keyID: ""}, false, "has lost user.swage.id;"},
		{map[string]string{keyName: ""}, true, "has lost user.swage.name;"},
		{map[string]string{keyID: "", keyName: ""}, false, "has lost user.swage.id, user.swage.name;"},
		{map[string]string{keyProject: ""}, true, ""}, // the project of Incus tells it
	} {
		set(all)
		set(c.lost)
		a, err := b.rt.Observe(t.Context())
		if err != nil {
			t.Errorf("%v: %v", c.lost, err)
			continue
		}
		names := ""
		for _, x := range a.Containers {
			names += x.Project + "/" + x.Name + " "
		}
		if !strings.Contains(names, "web/whole ") || (len(a.Containers) == 2) != c.stays {
			t.Errorf("%v: observed %s", c.lost, names)
		}
		if c.says == "" {
			if len(a.Conflicts) > 0 || !strings.Contains(names, "web/hurt ") {
				t.Errorf("%v: observed %s, conflicts %+v", c.lost, names, a.Conflicts)
			}
			continue
		}
		if len(a.Conflicts) != 1 || !a.Conflicts[0].MayBe(hurt) || a.Conflicts[0].MayBe(whole) && a.Conflicts[0].Name != "" || !strings.Contains(a.Conflicts[0].Why, c.says) {
			t.Errorf("%v: conflicts %+v", c.lost, a.Conflicts)
		}
		b.do(runtime.StopContainer{Target: whole})
		b.do(runtime.StartContainer{Target: whole})
	}
	// What has its id gets its name again with the next change.
	set(all)
	set(map[string]string{keyName: ""})
	from := hurt
	from.Name = ""
	b.do(runtime.UpdateContainer{From: from, To: hurt})
	if a, err := b.rt.Observe(t.Context()); err != nil || len(a.Conflicts) > 0 || len(a.Containers) != 2 {
		t.Errorf("with its name: %+v, %v", a.Conflicts, err)
	}
}

// TestL13ASecondIncusProjectIsAConflict: the projects of Incus are held to the
// same.
func TestL13ASecondIncusProjectIsAConflict(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	c := b.rt.in(t.Context(), "")
	for name, config := range map[string]map[string]string{
		"second": {keyProject: "web", keyID: string(runtime.NewID())},
		"lost":   {keyProject: "other"},
	} {
		config[keyFleet], config[keyServer] = string(b.rt.scope.Fleet), b.rt.scope.Server
		config["features.images"], config["features.profiles"] = "false", "false"
		name = b.rt.scope.Prefix + name
		if err := c.CreateProject(api.ProjectsPost{Name: name, ProjectPut: api.ProjectPut{Config: config}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.rt.in(context.Background(), "").DeleteProject(name); err != nil {
				t.Error(err)
			}
		})
	}
	a, err := b.rt.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Projects) != 1 || len(a.Conflicts) != 2 {
		t.Errorf("projects %+v, conflicts %+v", a.Projects, a.Conflicts)
	}
	if got := b.rt.projects["web"]; got != b.rt.scope.Prefix+"web" {
		t.Errorf("project web is %s in Incus", got)
	}
}
