package reconcile

import "swage/runtime"

// Plan is what to do, in order, and what is not done although it was asked
// for. The zero Plan does nothing.
type Plan struct {
	Steps []runtime.Step
	Held  []Held
}

// Held is a change that swage does not make by itself.
type Held struct {
	What string `json:"step"` // "delete container web/db"
	Why  string `json:"why"`  // what its author can do about it
}

// Empty reports whether nothing differs.
func (p Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Held) == 0 }

// String is the plan as people read it.
func (p Plan) String() string {
	var all Proposal
	all.Add("", p, nil)
	return all.Text(false)
}
