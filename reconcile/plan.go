package reconcile

import "swage/runtime"

// Plan is what to do, in order, and what is not done although it was asked
// for. The zero Plan does nothing.
type Plan struct {
	Steps []runtime.Step
	// After holds for each step those that must have gone well before it. What
	// destroys waits for all that does not, besides.
	After [][]int
	Held  []Held
	// Drift is what was changed behind swage's back: put back by Steps, or left
	// alone if the fleet says so.
	Drift []Drift
	// Conflicts are objects of the engine with the mark of this server that are
	// left as they are, and some that are not made or deleted for their sake are
	// Held.
	Conflicts []Conflict
}

// Conflict is an object of the engine that carries the mark of this server and is
// not taken for one of its own.
type Conflict struct {
	Ref string `json:"container,omitempty"` // project/container that it carries; either may be empty
	Why string `json:"why"`                 // with what to do
}

// Held is a change that swage does not make by itself.
type Held struct {
	What string `json:"step"` // "delete container web/db"
	Why  string `json:"why"`  // what its author can do about it
	// Plan is what swage approve takes, where a person's word is enough.
	Plan string `json:"plan,omitempty"`

	Ref       string     `json:"container,omitempty"` // project/container
	Container runtime.ID `json:"id,omitempty"`        // of what is there and left as it is

	replaced bool // see runtime.Container.Replaced
	part     bool // all else of the container is applied
}

// Drift is a container that was changed behind swage's back.
type Drift struct {
	Container runtime.ID `json:"id"`
	Ref       string     `json:"container"`
	Changed   []string   `json:"changed"`
}

// Empty reports whether nothing differs.
func (p Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Held) == 0 }

// String is the plan as people read it.
func (p Plan) String() string {
	var all Proposal
	all.Add("", p, nil, nil)
	return all.Text(false)
}
