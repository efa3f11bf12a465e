package reconcile

import (
	"fmt"
	"strings"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// Proposal is plans in words: what people, programs and other machines see of
// them. Its JSON form is versioned: fields may be added under one version,
// none changes its meaning.
type Proposal struct {
	Version int              `json:"version"` // 1
	Servers []ServerProposal `json:"servers"` // by name in order

	// Refused are changes that cannot be made: a push of them is rejected, a
	// plan holds them.
	Refused schema.Problems `json:"-"`
}

// ServerProposal is the plan of one server.
type ServerProposal struct {
	Server string         `json:"server"`
	Steps  []ProposedStep `json:"steps"`
	Held   []Held         `json:"held"`
	// Access is who gains and who loses which program of which container.
	Access []edge.AccessChange `json:"access"`
	// Rights is who may push, plan, read, sign or name callers, and could not
	// before, and the reverse.
	Rights []RightChange `json:"rights"`
	// AccessUnknown says why Access and Rights could not be made; empty: they were.
	AccessUnknown string `json:"access_unknown,omitempty"`
	// Opens is what everyone may reach afterwards and could not before: what of
	// Access opens, container by container.
	Opens []Opening `json:"opens,omitempty"`
	// StaysOpen are containers that are open although their project is closed.
	StaysOpen []Origin `json:"stays_open,omitempty"`
	// Drift is what was changed behind swage's back. Steps put it back, unless
	// the fleet says drift: "report".
	Drift []Drift `json:"drift,omitempty"`
	// Conflicts are objects of the engine that are left as they are; they are no
	// change.
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// ProposedStep is one step.
type ProposedStep struct {
	Sign      string         `json:"sign"` // + makes, ~ changes, - removes
	Step      string         `json:"step"`
	Effect    runtime.Effect `json:"effect"`
	Container string         `json:"container,omitempty"` // project/name
	AskedBy   []Origin       `json:"asked_by,omitempty"`
	// After are the steps, by index from 0, that must have gone well before.
	// What destroys waits for all that does not, besides.
	After []int `json:"after,omitempty"`
}

// Add puts the plan of one more server into the proposal, with what it changes
// of access. The fleet that it was made for tells what asks for each step; nil
// tells nothing.
func (p *Proposal) Add(server string, plan Plan, access []edge.AccessChange, fleet *schema.Fleet) {
	s := ServerProposal{
		Server: server, Steps: []ProposedStep{}, Held: append([]Held{}, plan.Held...),
		Access: append([]edge.AccessChange{}, access...), Rights: []RightChange{}, Opens: openings(access), StaysOpen: staysOpen(fleet, server), Drift: plan.Drift,
		Conflicts: plan.Conflicts,
	}
	var declared declarations
	if fleet != nil {
		declared = declarationsOf(fleet, server)
	}
	for i, x := range plan.Steps {
		step := ProposedStep{Sign: sign(x), Step: x.String(), Effect: x.Effect(), After: plan.After[i]}
		if c := x.Container(); c.Name != "" {
			step.Container = c.Ref()
		}
		if fleet != nil {
			step.AskedBy = declared.origins(x)
		}
		s.Steps = append(s.Steps, step)
	}
	p.Version = 1
	p.Servers = append(p.Servers, s)
}

// Within is what of a proposal is about some containers, by project/name: what
// is said of others may hold ids, which are parts of their addresses.
func (p Proposal) Within(own func(ref string) bool) Proposal {
	out := Proposal{Version: p.Version}
	for _, s := range p.Servers {
		kept := ServerProposal{Server: s.Server, Access: accessWithin(s.Access, own), AccessUnknown: s.AccessUnknown}
		for _, x := range s.Steps {
			if own(x.Container) {
				x.After = nil // counts steps that are left out
				kept.Steps = append(kept.Steps, x)
			}
		}
		for _, h := range s.Held {
			if own(h.Ref) {
				kept.Held = append(kept.Held, h)
			}
		}
		for _, o := range s.Opens {
			if own(o.Container) {
				kept.Opens = append(kept.Opens, o)
			}
		}
		out.Servers = append(out.Servers, kept)
	}
	return out
}

func sign(s runtime.Step) string {
	switch s.(type) {
	case runtime.CreateProject, runtime.CreateContainer, runtime.CopyContainer,
		runtime.ClaimContainer, runtime.AdoptContainer, runtime.RestoreContainer, runtime.CreateSpare, runtime.TakeSnapshot:
		return "+"
	case runtime.DeleteProject, runtime.DeleteContainer, runtime.DeleteArchive,
		runtime.DeleteSnapshot, runtime.DeleteSpare:
		return "-"
	}
	return "~"
}

// Empty reports whether no server has anything to do.
func (p Proposal) Empty() bool {
	for _, s := range p.Servers {
		if !s.empty() {
			return false
		}
	}
	return true
}

func (s ServerProposal) empty() bool {
	return len(s.Steps)+len(s.Held)+len(s.Access)+len(s.Rights)+len(s.Drift) == 0
}

// Holds reports whether some server holds something.
func (p Proposal) Holds() bool {
	for _, s := range p.Servers {
		if len(s.Held) > 0 {
			return true
		}
	}
	return false
}

// summary counts the steps by kind.
func (s ServerProposal) summary() string {
	n := map[string]int{}
	for _, x := range s.Steps {
		n[x.Sign]++
	}
	return fmt.Sprintf("%d to create, %d to change, %d to delete, %d held", n["+"], n["~"], n["-"], len(s.Held))
}

// Text is the proposal as people read it: a line for each step with its effect
// on what runs, and a line to count them. Colour is for terminals.
func (p Proposal) Text(colour bool) string {
	var b strings.Builder
	line := func(sign, text string) {
		text = Visible(text)
		if colour {
			code := map[string]string{"+": "32", "~": "33", "-": "31", "!": "1;31"}[sign]
			text = "\x1b[" + code + "m" + text + "\x1b[0m"
		}
		fmt.Fprintln(&b, text)
	}
	for _, s := range p.Servers {
		if len(p.Servers) > 1 {
			fmt.Fprintf(&b, "server %s:\n", s.Server)
		}
		for _, o := range s.StaysOpen {
			line("!", fmt.Sprintf("! %s stays open, although its project has enable_proxy: false %s", o.Field, o.At))
		}
		for _, c := range s.Conflicts {
			line("!", "! conflict: "+c.Why)
		}
		if s.AccessUnknown != "" {
			line("!", "! access is not compared: "+s.AccessUnknown)
		}
		if s.empty() {
			fmt.Fprintln(&b, "no changes")
			continue
		}
		for _, x := range s.Steps {
			text := fmt.Sprintf("%s %s (%s)", x.Sign, x.Step, x.Effect)
			for _, o := range x.AskedBy {
				text += " " + o.At
			}
			line(x.Sign, text)
		}
		for _, h := range s.Held {
			line("!", fmt.Sprintf("! held: %s: %s", h.What, h.Why))
		}
		for _, c := range s.Rights {
			line(c.sign(), c.text())
		}
		for _, a := range accessLines(s.Access) {
			line(a.sign, a.text())
		}
		for _, d := range s.Drift {
			line("~", fmt.Sprintf("~ drift: %s was changed behind swage's back: %s", d.Ref, strings.Join(d.Changed, ", ")))
		}
		fmt.Fprintln(&b, s.summary())
		if len(s.Access) > 0 {
			fmt.Fprintln(&b, accessSummary(s.Access))
		}
	}
	return b.String()
}

// Markdown is the proposal as a comment on a pull request. Names come from the
// fleet's authors; the schema lets none through that Markdown would read, but
// for names of files.
func (p Proposal) Markdown() string {
	var b strings.Builder
	b.WriteString("### swage plan\n\n")
	for _, s := range p.Servers {
		for _, o := range s.StaysOpen {
			fmt.Fprintf(&b, "**%s** stays open, although its project has `enable_proxy: false` (%s)\n\n", o.Field, code(o.At))
		}
		for _, c := range s.Conflicts {
			fmt.Fprintf(&b, "**conflict**: %s\n\n", escape(c.Why))
		}
		if s.AccessUnknown != "" {
			fmt.Fprintf(&b, "**access is not compared**: %s\n\n", escape(s.AccessUnknown))
		}
		if s.empty() {
			fmt.Fprintf(&b, "**%s**: no changes\n\n", s.Server)
			continue
		}
		summary := s.summary()
		if len(s.Access) > 0 {
			summary += "; " + accessSummary(s.Access)
		}
		fmt.Fprintf(&b, "**%s**: %s\n\n| | step | effect | asked by |\n|---|---|---|---|\n", s.Server, summary)
		for _, x := range s.Steps {
			effect := string(x.Effect)
			if x.Effect != runtime.Live {
				effect = "**" + effect + "**"
			}
			var asked []string
			for _, o := range x.AskedBy {
				asked = append(asked, code(o.At))
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", x.Sign, x.Step, effect, strings.Join(asked, " "))
		}
		for _, h := range s.Held {
			fmt.Fprintf(&b, "| `!` | %s | **held**: %s | |\n", h.What, h.Why)
		}
		for _, c := range s.Rights {
			b.WriteString(c.markdown())
		}
		for _, a := range accessLines(s.Access) {
			b.WriteString(a.markdown())
		}
		for _, d := range s.Drift {
			fmt.Fprintf(&b, "| `~` | drift of %s | changed behind swage's back: %s | |\n", d.Ref, strings.Join(d.Changed, ", "))
		}
		b.WriteString("\n")
	}
	return b.String()
}
