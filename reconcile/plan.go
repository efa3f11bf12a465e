package reconcile

import (
	"fmt"

	"swage/runtime"
)

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

// Summary counts the steps by kind.
func (p Plan) Summary() string {
	var create, change, remove int
	for _, s := range p.Steps {
		switch sign(s) {
		case "+":
			create++
		case "-":
			remove++
		default:
			change++
		}
	}
	return fmt.Sprintf("%d to create, %d to change, %d to delete, %d held", create, change, remove, len(p.Held))
}

func sign(s runtime.Step) string {
	switch s.(type) {
	case runtime.CreateProject, runtime.CreateContainer:
		return "+"
	case runtime.DeleteProject, runtime.DeleteContainer:
		return "-"
	}
	return "~"
}
