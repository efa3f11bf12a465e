package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"

	"swage/runtime"
)

// PlanVersion is the version of the JSON form of plans. Fields may be added
// under one version; none changes its meaning.
const PlanVersion = 1

// Plans holds the plan of each server that was asked about, by name in order.
type Plans []ServerPlan

// ServerPlan is the plan of one server.
type ServerPlan struct {
	Server string
	Plan
}

// Empty reports whether no server has anything to do.
func (ps Plans) Empty() bool {
	for _, p := range ps {
		if !p.Plan.Empty() {
			return false
		}
	}
	return true
}

// Held reports whether some server holds something.
func (ps Plans) Held() bool {
	for _, p := range ps {
		if len(p.Plan.Held) > 0 {
			return true
		}
	}
	return false
}

// String is the plan as people read it, without colour.
func (p Plan) String() string { return p.text(func(_, s string) string { return s }) }

// Text is the plans as people read them: a line for each step with its effect
// on what runs, and a line to count them. Colour is for terminals.
func (ps Plans) Text(colour bool) string {
	paint := func(_, s string) string { return s }
	if colour {
		paint = func(sign, s string) string {
			code := map[string]string{"+": "32", "~": "33", "-": "31", "!": "1;31"}[sign]
			return "\x1b[" + code + "m" + s + "\x1b[0m"
		}
	}
	var b strings.Builder
	for _, p := range ps {
		if len(ps) > 1 {
			fmt.Fprintf(&b, "server %s:\n", p.Server)
		}
		b.WriteString(p.text(paint))
	}
	return b.String()
}

func (p Plan) text(paint func(sign, s string) string) string {
	if p.Empty() {
		return "no changes\n"
	}
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintln(&b, paint(sign(s), fmt.Sprintf("%s %s (%s)", sign(s), s, s.Effect())))
	}
	for _, h := range p.Held {
		fmt.Fprintln(&b, paint("!", fmt.Sprintf("! held: %s: %s", h.What, h.Why)))
	}
	fmt.Fprintln(&b, p.Summary())
	return b.String()
}

// Markdown is the plans as a comment on a pull request. Names come from the
// fleet's authors; the schema lets none through that Markdown would read.
func (ps Plans) Markdown() string {
	var b strings.Builder
	b.WriteString("### swage plan\n\n")
	for _, p := range ps {
		if p.Plan.Empty() {
			fmt.Fprintf(&b, "**%s**: no changes\n\n", p.Server)
			continue
		}
		fmt.Fprintf(&b, "**%s**: %s\n\n| | step | effect |\n|---|---|---|\n", p.Server, p.Summary())
		for _, s := range p.Steps {
			effect := string(s.Effect())
			if s.Effect() != runtime.Live {
				effect = "**" + effect + "**"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", sign(s), s, effect)
		}
		for _, h := range p.Held {
			fmt.Fprintf(&b, "| `!` | %s | **held**: %s |\n", h.What, h.Why)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// MarshalJSON is the plans for other programs:
//
//	{"version": 1, "servers": [{"server": "…",
//	  "steps": [{"step": "…", "effect": "live|restart|stop|destroy", "container": "project/name"}],
//	  "held": [{"step": "…", "why": "…"}]}]}
func (ps Plans) MarshalJSON() ([]byte, error) {
	type step struct {
		Step      string         `json:"step"`
		Effect    runtime.Effect `json:"effect"`
		Container string         `json:"container,omitempty"`
	}
	type server struct {
		Server string `json:"server"`
		Steps  []step `json:"steps"`
		Held   []Held `json:"held"`
	}
	out := struct {
		Version int      `json:"version"`
		Servers []server `json:"servers"`
	}{PlanVersion, []server{}}
	for _, p := range ps {
		s := server{p.Server, []step{}, append([]Held{}, p.Plan.Held...)}
		for _, x := range p.Steps {
			line := step{Step: x.String(), Effect: x.Effect()}
			if c := x.Container(); c.Name != "" {
				line.Container = c.Ref()
			}
			s.Steps = append(s.Steps, line)
		}
		out.Servers = append(out.Servers, s)
	}
	return json.Marshal(out)
}
