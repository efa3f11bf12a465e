package reconcile

import (
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
