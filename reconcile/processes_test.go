package reconcile

import (
	"slices"
	"testing"

	"swage/runtime"
	"swage/schema"
)

// Every container has a bound on its processes, and what is adopted keeps what
// it has. The same bound is written in one way only, so that a plan is empty
// after it was applied.
func TestS20ProcessesAreBounded(t *testing.T) {
	for _, c := range []struct {
		of   schema.Container
		want int
	}{
		{schema.Container{}, 0},
		{schema.Container{Processes: 100}, 100},
		{schema.Container{Processes: runtime.DefaultProcesses}, 0},
		{schema.Container{Adopt: "default/old"}, runtime.NoLimit},
		{schema.Container{Adopt: "default/old", Processes: 100}, 100},
		{schema.Container{Adopt: "default/old", Processes: runtime.DefaultProcesses}, 0},
	} {
		if got := processes(c.of); got != c.want {
			t.Errorf("%+v: %d, want %d", c.of.Processes, got, c.want)
		}
	}
	with := func(n int) runtime.Container { return runtime.Container{Resources: runtime.Resources{Processes: n}} }
	for _, c := range []struct {
		from, to int
		want     []string
	}{
		{runtime.NoLimit, 0, []string{"resources.processes unlimited → 4096"}}, // one that was made before
		{0, 0, nil},
		{0, 100, []string{"resources.processes 4096 → 100"}},
		{100, runtime.NoLimit, []string{"resources.processes 100 → unlimited"}},
	} {
		step := runtime.UpdateContainer{From: with(c.from), To: with(c.to)}
		if got := step.Changes(); !slices.Equal(got, c.want) || step.Restarts() {
			t.Errorf("from %d to %d: %q, restarts %t", c.from, c.to, got, step.Restarts())
		}
		if same := with(c.from).Digest() == with(c.to).Digest(); same != (c.from == c.to) {
			t.Errorf("digests of %d and %d are the same: %t", c.from, c.to, same)
		}
	}
}
