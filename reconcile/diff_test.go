package reconcile

import (
	"strings"
	"testing"

	"swage/runtime"
)

// Thawing alone would leave the old environment in what runs, and no plan
// would ever show it.
func TestAFrozenContainerRestartsForItsEnvironment(t *testing.T) {
	have := runtime.Container{ID: "111111111111111111111111", Project: "web", Name: "app", Status: runtime.Other}
	want := have
	want.Status, want.Env = runtime.Running, map[string]string{"A": "1"}
	projects := []runtime.Project{{Name: "web"}}
	plan := Diff(runtime.State{Projects: projects, Containers: []runtime.Container{have}},
		runtime.State{Projects: projects, Containers: []runtime.Container{want}}, Terms{})
	if len(plan.Steps) != 1 || plan.Steps[0].Effect() != runtime.Restart {
		t.Errorf("plan:\n%s", plan)
	}
}

// TestP2EnvironmentFiles: files of the environment that are not as they should be
// are a difference of their own, which is mended live and seen as drift.
func TestP2EnvironmentFiles(t *testing.T) {
	want := runtime.Container{
		ID: "111111111111111111111111", Project: "web", Name: "app", Status: runtime.Running, Asked: runtime.Running,
		Env: map[string]string{"A": "1"},
	}
	projects := []runtime.Project{{Name: "web"}}
	planned := func(have runtime.Container, want runtime.Container) string {
		plan := Diff(runtime.State{Projects: projects, Containers: []runtime.Container{have}},
			runtime.State{Projects: projects, Containers: []runtime.Container{want}}, Terms{})
		if len(plan.Steps) != 1 {
			return plan.String()
		}
		return string(plan.Steps[0].Effect()) + ": " + plan.Steps[0].String()
	}
	unwritten, changed := want, want
	unwritten.Unwritten = true
	changed.Env = map[string]string{"A": "2"}
	for _, c := range []struct {
		have, want runtime.Container
		says       string
	}{
		{want, want, "no changes"},
		{unwritten, want, "live: update container web/app: environment_vars written for services and logins"},
		{unwritten, changed, "restart: update container web/app: environment_vars.A changed"},
	} {
		if got := planned(c.have, c.want); !strings.HasPrefix(got, c.says) {
			t.Errorf("%s, want %s", got, c.says)
		}
	}
	if unwritten.Digest() != want.Digest() {
		t.Error("an agent of before takes it for a change by a commit")
	}
}
