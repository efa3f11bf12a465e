package reconcile

import (
	"slices"

	"swage/runtime"
)

// order says for each step which steps before it must have gone well: those
// of the same container, the making of its project, of the source it is
// copied from and of what it depends on; a stop waits for the stop of those
// that depend on it. What destroys waits for all before it besides; see
// lateness.
func order(steps []runtime.Step) [][]int {
	project := map[string]int{} // made by
	end := map[string]int{}     // last step of a container, by chain
	stops := map[string][]int{} // stops and deletions of those that depend on a ref
	after := make([][]int, len(steps))
	for i, s := range steps {
		if s, ok := s.(runtime.CreateProject); ok {
			project[s.Project.Name] = i
		}
		c := s.Container()
		if c.Name != "" && lateness(s) == 0 {
			end[chain(s)] = i
		}
		if ends(s) {
			for _, name := range c.DependsOn {
				stops[c.Project+"/"+name] = append(stops[c.Project+"/"+name], i)
			}
		}
	}
	// Names as they are in the end: a step may come before a rename.
	last := map[string]int{}
	for _, i := range end {
		last[steps[i].Container().Ref()] = i
	}
	previous := map[string]int{} // step of the same container
	wait := func(i, on int, ok bool) {
		if ok && on != i && !slices.Contains(after[i], on) {
			after[i] = append(after[i], on)
		}
	}
	for i, s := range steps {
		c := s.Container()
		if s, ok := s.(runtime.CreateSpare); ok {
			on, made := project[s.Spare.Project]
			wait(i, on, made)
		}
		if ends(s) {
			for _, on := range stops[c.Ref()] {
				wait(i, on, lateness(steps[on]) == lateness(s) && chain(steps[on]) != chain(s))
			}
		}
		if c.Name == "" || lateness(s) > 0 {
			continue
		}
		on, ok := project[c.Project]
		wait(i, on, ok)
		on, ok = previous[chain(s)]
		wait(i, on, ok)
		previous[chain(s)] = i
		if ok || ends(s) { // only the first step waits for others
			continue
		}
		if s, ok := s.(runtime.CopyContainer); ok {
			on, ok := last[s.Of]
			wait(i, on, ok)
		}
		in := steps[end[chain(s)]].Container()
		if !runs(steps[end[chain(s)]]) { // it needs nobody
			continue
		}
		for _, name := range in.DependsOn {
			on, ok := last[in.Project+"/"+name]
			wait(i, on, ok)
		}
	}
	for i := range after {
		slices.Sort(after[i])
	}
	return after
}

// ends reports whether a step takes a container away from those that depend on
// it.
func ends(s runtime.Step) bool {
	switch s.(type) {
	case runtime.StopContainer, runtime.DeleteContainer:
		return true
	}
	return false
}

// runs reports whether a container runs, or is paused, after a step.
func runs(s runtime.Step) bool {
	switch s := s.(type) {
	case runtime.StartContainer, runtime.ResumeContainer, runtime.PauseContainer:
		return true
	case runtime.StopContainer:
		return false
	default:
		return s.Container().Status != runtime.Stopped
	}
}

// chain is the same for all steps of one container: a move and a rename change
// its name, and a container that is made may have no ID yet.
func chain(s runtime.Step) string {
	c := s.Container()
	if c.ID != "" {
		return string(c.ID)
	}
	return c.Ref()
}

// lateness is how late a kind of step comes: 0 with the rest, 1 and 2 once all
// before them went well, 3 when nothing else is left to do.
func lateness(s runtime.Step) int {
	switch s.(type) {
	case runtime.DeleteContainer, runtime.DeleteArchive, runtime.DeleteSnapshot, runtime.DeleteSpare:
		return 1
	case runtime.DeleteProject:
		return 2
	case runtime.CreateSpare, runtime.TakeSnapshot, runtime.ExpireSnapshot:
		return 3
	}
	return 0
}
