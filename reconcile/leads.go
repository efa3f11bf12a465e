package reconcile

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// An alias that is moved to another container follows once that one is healthy.
// Until then it leads where it led last: that is remembered for each alias, since
// a commit of which something is held may have moved it meanwhile.

// lead is what an alias led to last.
type lead struct {
	of    runtime.ID
	alias schema.Alias // as the commit declared it that led it there
	from  string       // that commit
}

// leadNote is a lead that the commit applied last does not tell, as it stands on
// the server: by alias.
type leadNote struct {
	Container runtime.ID `json:"container"`
	Commit    string     `json:"commit"`
}

// followAliases finds the aliases that do not follow yet: what they are to lead to
// is not healthy, and what they led to last still runs. next is where each alias
// leads once a table is made of that.
func (a *Agent) followAliases() (stay map[string]edge.Alias, next map[string]lead) {
	stay, next = map[string]edge.Alias{}, map[string]lead{}
	for _, p := range a.fleet.Projects {
		for _, x := range p.Aliases {
			target, c := a.targetHere(p, x)
			if c == nil { // another server's
				continue
			}
			if a.healthy(target, *c) {
				next[x.Name] = lead{a.idOf(target), x, a.fleet.Commit}
				continue
			}
			was, known := a.leads[x.Name]
			if !known {
				continue
			}
			next[x.Name] = was
			if ref := a.reachedRef(was.of); ref != "" && ref != target {
				stay[x.Name] = alias(was.alias, ref)
			}
		}
	}
	return stay, next
}

// targetHere is the container of this server that an alias of a project asks
// for; nil: there is none.
func (a *Agent) targetHere(p schema.Project, x schema.Alias) (ref string, c *schema.Container) {
	for i := range p.Containers {
		if c := &p.Containers[i]; c.Server == a.Server && slices.Contains(x.Containers, c.Name) { // there is one at most
			return p.Name + "/" + c.Name, c
		}
	}
	return "", nil
}

// reachedRef is the name by which the table knows a container that can be
// reached; empty if it cannot.
func (a *Agent) reachedRef(id runtime.ID) string {
	for _, h := range a.seen.Containers {
		if h.ID != id || !a.seen.Reached(id).IsValid() {
			continue
		}
		if d, ok := a.declared(a.fleet, h); ok {
			return d.Project.Name + "/" + d.Container.Name
		}
		if _, ok := a.kept[id]; ok {
			return h.Ref()
		}
	}
	return ""
}

// idOf is the id of a container that is there under a name of the fleet; empty:
// none is.
func (a *Agent) idOf(ref string) runtime.ID {
	for _, h := range a.seen.Containers {
		if h.Ref() == ref {
			return h.ID
		}
	}
	return ""
}

// recallLeads takes up what an earlier process knew: what the commit applied last
// says, and what was noted besides.
func (a *Agent) recallLeads(ctx context.Context) {
	if a.leads != nil {
		return
	}
	a.leads = a.leadsOf(a.done)
	var noted map[string]leadNote
	if text := a.seen.Notes[noteLeads]; text == "" || json.Unmarshal([]byte(text), &noted) != nil {
		return // written by hand; each alias follows the fleet then
	}
	for name, n := range noted {
		f := a.at(ctx, n.Commit)
		if f == nil {
			delete(a.leads, name)
			continue
		}
		for _, p := range f.Projects {
			for _, x := range p.Aliases {
				if x.Name == name {
					a.leads[name] = lead{n.Container, x, n.Commit}
				}
			}
		}
	}
}

// leadsOf is where the aliases of a fleet lead that was applied.
func (a *Agent) leadsOf(f *schema.Fleet) map[string]lead {
	out := map[string]lead{}
	if f == nil {
		return out
	}
	for _, p := range f.Projects {
		for _, x := range p.Aliases {
			if ref, c := a.targetHere(p, x); c != nil {
				id := runtime.ID(c.ID)
				if id == "" {
					id = a.idOf(ref)
				}
				out[x.Name] = lead{id, x, f.Commit}
			}
		}
	}
	return out
}

// noteLeads keeps what the commit applied last does not tell.
func (a *Agent) noteLeads(ctx context.Context) {
	if a.seen == nil || a.leads == nil {
		return
	}
	known, noted := a.leadsOf(a.done), map[string]leadNote{}
	for name, l := range a.leads {
		if known[name].of != l.of {
			noted[name] = leadNote{l.of, l.from}
		}
	}
	text := ""
	if len(noted) > 0 {
		b, err := json.Marshal(noted)
		if err != nil {
			a.Log.Error("where aliases lead cannot be noted", "err", err)
			return
		}
		text = string(b)
	}
	if err := a.note(ctx, noteLeads, text); err != nil {
		a.Log.Error("where aliases lead cannot be noted", "aliases", slices.Sorted(maps.Keys(noted)), "err", err)
	}
}
