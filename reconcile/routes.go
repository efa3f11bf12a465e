package reconcile

import (
	"net/netip"
	"slices"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// View is what Routes heeds beside the fleet.
type View struct {
	runtime.Actual
	// Kept declares what the fleet does not and what runs nevertheless.
	Kept map[runtime.ID]Declaration
	// Stay holds aliases, by name, that lead where they led before, until
	// what they are to lead to is healthy.
	Stay map[string]edge.Alias
}

// Routes is what the edge of one server must know: every container and alias
// that the fleet declares there, at the address where it was seen.
//
// What the fleet wants stopped has no address, whatever was seen: it is
// withdrawn before the container stops. What the fleet does not declare has
// no route, unless it is kept.
func Routes(f *schema.Fleet, server string, v View) edge.Config {
	r := router{view: v, docs: map[*schema.Permissions]*edge.Permissions{}, projectID: map[string]runtime.ID{}}
	r.config = edge.Config{Zone: f.Zone(server), Version: f.Commit, API: len(f.Servers[server].Tokens) > 0}
	for _, p := range v.Projects {
		r.projectID[p.Name] = p.ID
	}
	drawn := map[string]runtime.ID{} // by ref, for containers that declare no id
	for _, h := range v.Containers {
		drawn[h.Ref()] = h.ID
	}
	kept := map[string]bool{} // by ref
	for _, h := range v.Containers {
		if d, ok := v.Kept[h.ID]; ok {
			kept[h.Ref()] = true
			r.container(h.Ref(), h.ID, d.Project, d.Container)
		}
	}
	for _, p := range f.Projects {
		here := map[string]bool{} // by name
		for _, w := range p.Containers {
			if w.Server != server {
				continue
			}
			here[w.Name] = true
			ref := p.Name + "/" + w.Name
			if kept[ref] { // which has the name for now
				continue
			}
			id := runtime.ID(w.ID)
			if id == "" {
				id = drawn[ref]
			}
			r.container(ref, id, p, w)
		}
		for _, a := range p.Aliases {
			i := slices.IndexFunc(a.Containers, func(name string) bool { return here[name] })
			if !a.Enabled || i < 0 || a.Program != "http" { // the only program that the edge knows
				continue
			}
			if old, ok := v.Stay[a.Name]; ok {
				r.config.Aliases = append(r.config.Aliases, old)
				continue
			}
			r.config.Aliases = append(r.config.Aliases, alias(a, p.Name+"/"+a.Containers[i]))
		}
	}
	return r.config
}

func alias(a schema.Alias, ref string) edge.Alias {
	return edge.Alias{
		Name: a.Name, Container: ref, Program: a.Program, Port: a.Port,
		TargetPath: a.TargetPath, AllowPathOverride: a.AllowPathOverride, ExpiresAt: a.ExpiresAt,
	}
}

type router struct {
	view      View
	config    edge.Config
	docs      map[*schema.Permissions]*edge.Permissions // most containers share one
	projectID map[string]runtime.ID
}

func (r *router) container(ref string, id runtime.ID, p schema.Project, w schema.Container) {
	doc, ok := r.docs[w.Permissions]
	if !ok {
		doc = permissions(w.Permissions)
		r.docs[w.Permissions] = doc
	}
	t := edge.Container{ProjectID: string(r.projectID[p.Name]), ID: string(id), Name: ref, Permissions: doc, Ingress: ingress(w.Firewall)}
	if p.ID != "" {
		t.ProjectID = p.ID
	}
	// A container that is closed is to the edge as one that does not run.
	if w.State == string(runtime.Running) && w.ProxyOpen && id != "" {
		t.Addr = r.view.Addr[id]
	}
	if t.ID == "" || t.ProjectID == "" { // not made yet
		t.ID, t.ProjectID, t.Addr = "", "", netip.Addr{}
	}
	r.config.Containers = append(r.config.Containers, t)
}

// ingress are the rules that judge what comes through the edge. Those of other
// protocols count: one that allows closes what none allows.
func ingress(rules []schema.FirewallRule) []edge.Rule {
	var out []edge.Rule
	for _, r := range rules {
		if !r.Enabled || r.Direction != "ingress" {
			continue
		}
		rule := edge.Rule{
			Action: edge.Deny, Protocol: r.Protocol, Sources: r.Sources, Destinations: r.Destinations,
			SourcePorts: len(r.SourcePorts) > 0,
		}
		if r.Action == "allow" {
			rule.Action = edge.Allow
		}
		for _, p := range r.DestinationPorts {
			rule.Ports = append(rule.Ports, edge.PortRange{First: p.From, Last: p.To})
		}
		out = append(out, rule)
	}
	return out
}

func permissions(p *schema.Permissions) *edge.Permissions {
	if p == nil {
		return nil
	}
	doc := &edge.Permissions{
		Default: edge.Deny,
		Groups:  map[string]edge.Group{},
		Cells:   map[string]map[string]edge.Cell{},
	}
	if p.DefaultAllow {
		doc.Default = edge.Allow
	}
	for name, g := range p.Groups { // what is no address matches nobody yet
		doc.Groups[name] = edge.Group{Ranges: slices.Clone(g.Ranges)}
	}
	for group, programs := range p.Cells {
		doc.Cells[group] = map[string]edge.Cell{}
		for program, cell := range programs {
			var ports []edge.PortRange
			for _, r := range cell.Ports {
				ports = append(ports, edge.PortRange{First: r.From, Last: r.To})
			}
			doc.Cells[group][program] = edge.Cell{Ports: ports}
		}
	}
	return doc
}
