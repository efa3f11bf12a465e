package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"

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

// MarshalJSON is a plan for other programs: {"steps": [{"step", "effect"}],
// "held": [{"step", "why"}]}.
func (p Plan) MarshalJSON() ([]byte, error) {
	type step struct {
		Step   string         `json:"step"`
		Effect runtime.Effect `json:"effect"`
	}
	out := struct {
		Steps []step `json:"steps"`
		Held  []Held `json:"held"`
	}{[]step{}, append([]Held{}, p.Held...)}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, step{s.String(), s.Effect()})
	}
	return json.Marshal(out)
}

// Empty reports whether nothing differs.
func (p Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Held) == 0 }

// String is the plan as people read it: a line for each step with its effect
// on what runs, and a line to count them.
func (p Plan) String() string {
	if p.Empty() {
		return "no changes\n"
	}
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%s %s (%s)\n", sign(s), s, s.Effect())
	}
	for _, h := range p.Held {
		fmt.Fprintf(&b, "! held: %s: %s\n", h.What, h.Why)
	}
	fmt.Fprintf(&b, "%s\n", p.Summary())
	return b.String()
}

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
