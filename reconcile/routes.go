package reconcile

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

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
	// Token says that the node has a token of its own.
	Token bool
}

// Routes is what the edge of one server must know: every container and alias
// that the fleet declares there, at the address where it was seen.
//
// What the fleet wants stopped has no address, whatever was seen: it is
// withdrawn before the container stops. What the fleet does not declare has
// no route, unless it is kept.
func Routes(f *schema.Fleet, server string, v View) edge.Config {
	r := router{
		view:       v,
		docs:       map[*schema.Permissions]*edge.Permissions{},
		catalogues: map[catalogueKey]*edge.Catalogue{},
		known:      map[string]bool{},
		projectID:  map[string]runtime.ID{},
	}
	s := f.Servers[server]
	open := len(s.Tokens) > 0 || v.Token
	r.config = edge.Config{Zone: f.Zone(server), Version: f.Commit, API: open, Git: open || len(s.Webhooks) > 0}
	r.config.Where = placesIn(f, server, v).find
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
			if !a.Enabled || i < 0 {
				continue
			}
			next := alias(a, p.Name+"/"+a.Containers[i])
			if old, ok := v.Stay[a.Name]; ok {
				// Where it leads waits, and nothing else: what ends or hides
				// an alias never does.
				next.Target, next.TargetPath, next.AllowPathOverride = old.Target, old.TargetPath, old.AllowPathOverride
			}
			r.config.Aliases = append(r.config.Aliases, next)
		}
	}
	for _, a := range r.config.Aliases {
		for i := range a.Paths {
			if !r.known[a.Paths[i].Container] { // of another server, or called otherwise for now
				a.Paths[i].Target = edge.Target{}
			}
		}
	}
	return r.config
}

func alias(a schema.Alias, ref string) edge.Alias {
	out := edge.Alias{
		Name: a.Name, Domains: a.Domains,
		Target:     edge.Target{Container: ref, Program: a.Program, Port: a.Port, Index: a.Index},
		TargetPath: a.TargetPath, AllowPathOverride: a.AllowPathOverride, ExpiresAt: a.ExpiresAt,
	}
	project, _, _ := strings.Cut(ref, "/")
	for _, p := range a.Paths {
		out.Paths = append(out.Paths, edge.AliasPath{Path: p.Path, Target: edge.Target{
			Container: project + "/" + p.Container, Program: p.Program, Port: p.Port, Index: p.Index,
		}})
	}
	return out
}

type router struct {
	view       View
	config     edge.Config
	docs       map[*schema.Permissions]*edge.Permissions // most containers share one
	catalogues map[catalogueKey]*edge.Catalogue          // as they do this
	known      map[string]bool                           // refs of the containers of config
	projectID  map[string]runtime.ID
}

// catalogueKey tells catalogues apart without reading them: containers that
// change nothing have the map of the fleet itself.
type catalogueKey struct {
	programs uintptr
	agent    bool
}

// catalogue is what a container offers: nil without kit.
func (r *router) catalogue(w schema.Container) *edge.Catalogue {
	if !w.Kit {
		return nil
	}
	key := catalogueKey{reflect.ValueOf(w.Programs).Pointer(), w.AI}
	if known := r.catalogues[key]; known != nil {
		return known
	}
	out := &edge.Catalogue{}
	for _, name := range slices.Sorted(maps.Keys(w.Programs)) {
		p := w.Programs[name]
		if p.Port == 0 || name == "agent" && !w.AI { // http and https are there anyway
			continue
		}
		e := edge.Program{Name: name, Names: slices.Clone(p.Names), Port: p.Port, Instances: p.Instances, InstanceBase: p.InstanceBase, Levels: p.Levels, HonoursLevel: p.HonoursLevel}
		if p.Slug != name {
			e.Names = append(e.Names, p.Slug)
		}
		out.Programs = append(out.Programs, e)
	}
	r.catalogues[key] = out
	return out
}

func (r *router) container(ref string, id runtime.ID, p schema.Project, w schema.Container) {
	doc, ok := r.docs[w.Permissions]
	if !ok {
		doc = permissions(w.Permissions)
		r.docs[w.Permissions] = doc
	}
	t := edge.Container{ProjectID: string(r.projectID[p.Name]), ID: string(id), Name: ref, Permissions: doc, Ingress: ingress(w.Firewall), Closed: !w.ProxyOpen, Catalogue: r.catalogue(w)}
	r.known[ref] = true
	if p.ID != "" {
		t.ProjectID = p.ID
	}
	if w.State == string(runtime.Running) && id != "" {
		t.Addr, t.Addr6 = r.view.Addr[id], r.view.Addr6[id]
	}
	if t.ID == "" || t.ProjectID == "" { // not made yet
		t.ID, t.ProjectID, t.Addr, t.Addr6 = "", "", netip.Addr{}, netip.Addr{}
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
