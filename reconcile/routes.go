package reconcile

import (
	"net/netip"
	"slices"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// Routes is what the edge of one server must know: every container and alias
// that the fleet declares there, at the address where it was seen.
//
// What the fleet wants stopped has no address, whatever was seen: it is
// withdrawn before the container stops. What the fleet does not declare has
// no route at all.
func Routes(f *schema.Fleet, server string, seen runtime.Actual) edge.Config {
	c := edge.Config{Zone: f.Zone(server), Version: f.Commit, API: len(f.Servers[server].Tokens) > 0}
	projectID := map[string]runtime.ID{}
	for _, p := range seen.Projects {
		projectID[p.Name] = p.ID
	}
	drawn := map[string]runtime.ID{} // by ref, for containers that declare no id
	for _, h := range seen.Containers {
		drawn[h.Ref()] = h.ID
	}
	docs := map[*schema.Permissions]*edge.Permissions{} // most containers share one
	for _, p := range f.Projects {
		here := map[string]bool{} // by name
		for _, w := range p.Containers {
			if w.Server != server {
				continue
			}
			doc, ok := docs[w.Permissions]
			if !ok {
				doc = permissions(w.Permissions)
				docs[w.Permissions] = doc
			}
			id := runtime.ID(w.ID)
			if id == "" {
				id = drawn[p.Name+"/"+w.Name]
			}
			t := edge.Container{
				ProjectID: string(projectID[p.Name]), ID: string(id),
				Name: p.Name + "/" + w.Name, Permissions: doc,
			}
			if p.ID != "" {
				t.ProjectID = p.ID
			}
			// A container that is closed is to the edge as one that does not run.
			if w.State == string(runtime.Running) && w.ProxyOpen && id != "" {
				t.Addr = seen.Addr[id]
			}
			if t.ID == "" || t.ProjectID == "" { // not made yet
				t.ID, t.ProjectID, t.Addr = "", "", netip.Addr{}
			}
			here[w.Name] = true
			c.Containers = append(c.Containers, t)
		}
		for _, a := range p.Aliases {
			i := slices.IndexFunc(a.Containers, func(name string) bool { return here[name] })
			if !a.Enabled || i < 0 || a.Program != "http" { // the only program that the edge knows
				continue
			}
			c.Aliases = append(c.Aliases, edge.Alias{
				Name: a.Name, Container: p.Name + "/" + a.Containers[i], Program: a.Program, Port: a.Port,
				TargetPath: a.TargetPath, AllowPathOverride: a.AllowPathOverride, ExpiresAt: a.ExpiresAt,
			})
		}
	}
	return c
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
