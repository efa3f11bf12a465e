package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"swage/reconcile"
	"swage/runtime"
)

// TestL13ACopyByHandStopsNothing: the copy of one container is told everywhere,
// and every change of all containers goes on, but for a deletion that would make
// the copy the container.
func TestL13ACopyByHandStopsNothing(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: {app: {}, other: {}}`)
	id := n.id(t, "app")
	n.engine.Copy(id)
	r := n.pass(t, `containers: {app: {comment: "changed"}, other: {}, third: {}}`)
	if r.State != reconcile.Applied || n.running(t) != "app other third" {
		t.Errorf("%s; %s run", r.State, n.running(t))
	}
	if len(r.Conflicts) != 1 || r.Conflicts[0].Ref != "web/app" || !strings.Contains(r.Conflicts[0].Why, "copy of web/app") {
		t.Errorf("conflicts %+v", r.Conflicts)
	}
	for _, c := range n.Report().Containers {
		if c.State != reconcile.StateRunning || strings.Contains(c.Reason, "copy") != (c.Name == "app") {
			t.Errorf("%s is %s: %s", c.Name, c.State, c.Reason)
		}
	}
	plan, err := n.Plan(t.Context())
	if err != nil || !plan.Empty() || !strings.Contains(plan.String(), "! conflict: it is a copy of web/app") || !strings.Contains(plan.String(), "no changes") {
		t.Errorf("plan %q, %v", plan, err)
	}
	told := 0
	events, _ := n.Events(0)
	for _, e := range events {
		if e.Type == reconcile.ConflictSeen && e.Container == "web/app" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}

	// Deleted, the copy would be the container, and be deleted next.
	r = n.pass(t, `containers: {other: {}, third: {}}`)
	if r.State != reconcile.Incomplete || len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, "copy of web/app") {
		t.Errorf("%s, held %+v", r.State, r.Held)
	}
	n.engine.RemoveCopies(id)
	r, err = n.Pass(t.Context())
	if err != nil || r.State != reconcile.Applied || len(r.Conflicts) > 0 || n.running(t) != "other third" {
		t.Errorf("without the copy: %s %+v %v", r.State, r.Conflicts, err)
	}
}

// TestL13ConflictsInADiff: what may be a container that lost its keys is not made
// anew, and what a copy would take the place of is not deleted.
func TestL13ConflictsInADiff(t *testing.T) {
	const id, other = "0123456789abcdef01234567", "89abcdef0123456789abcdef"
	project := runtime.Project{Name: "web", ID: other}
	web := runtime.Container{ID: id, Project: "web", Name: "app", Image: "tiny/1", Status: runtime.Running, Asked: runtime.Running}
	noID := web
	noID.ID = ""
	past := time.Now().Add(-time.Hour)
	copied := runtime.Conflict{ID: id, Project: "web", Name: "app", Object: "copy", Why: "conflict"}
	for _, c := range []struct {
		name      string
		have      runtime.State
		want      []runtime.Container
		steps     int
		heldSteps int
	}{
		{"one without its id may be it", runtime.State{Conflicts: []runtime.Conflict{{Project: "web", Name: "app", Lost: true, Why: "conflict"}}}, []runtime.Container{web}, 0, 1},
		{"one without its name may be it", runtime.State{Conflicts: []runtime.Conflict{{ID: id, Lost: true, Why: "conflict"}}}, []runtime.Container{web}, 0, 1},
		{"one without its name may be one without an id", runtime.State{Conflicts: []runtime.Conflict{{ID: other, Project: "web", Lost: true, Why: "conflict"}}}, []runtime.Container{noID}, 0, 1},
		{"one with another name is not it", runtime.State{Conflicts: []runtime.Conflict{{Project: "web", Name: "db", Lost: true, Why: "conflict"}}}, []runtime.Container{web}, 1, 0},
		{"one with another id is not it", runtime.State{Conflicts: []runtime.Conflict{{ID: other, Lost: true, Why: "conflict"}}}, []runtime.Container{web}, 1, 0},
		{"a project's conflict holds no container", runtime.State{Conflicts: []runtime.Conflict{{Project: "web", Why: "conflict"}}}, []runtime.Container{web}, 1, 0},
		{"a copy of what runs changes nothing", runtime.State{Containers: []runtime.Container{web}, Conflicts: []runtime.Conflict{copied}}, []runtime.Container{web}, 0, 0},
		{"what has a copy is not deleted", runtime.State{Containers: []runtime.Container{web}, Conflicts: []runtime.Conflict{copied}}, nil, 0, 1},
		{"nor an archive whose time is over", runtime.State{Archives: []runtime.Archive{{ID: id, Project: "web", Until: past}}, Conflicts: []runtime.Conflict{copied}}, nil, 0, 0},
		{"nor a spare", runtime.State{Spares: []runtime.Spare{{ID: id, Project: "web"}}, Conflicts: []runtime.Conflict{copied}}, nil, 0, 0},
		{"nor its project", runtime.State{Conflicts: []runtime.Conflict{{ID: other, Project: "web", Name: "x", Why: "conflict"}}}, nil, 0, 0},
	} {
		c.have.Projects = []runtime.Project{project}
		want := runtime.State{Containers: c.want}
		if len(c.want) > 0 {
			want.Projects = []runtime.Project{project}
		}
		plan := reconcile.Diff(c.have, want, reconcile.Terms{MaxDeletes: 5, Now: time.Now()})
		if len(plan.Steps) != c.steps || len(plan.Held) != c.heldSteps || len(plan.Conflicts) != len(c.have.Conflicts) {
			t.Errorf("%s: %v", c.name, plan)
		}
		for _, h := range plan.Held {
			if h.Why != "conflict" {
				t.Errorf("%s: held since %s", c.name, h.Why)
			}
		}
	}
}
