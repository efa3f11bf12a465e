package reconcile

import (
	"slices"
	"strings"
	"sync"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// places finds what of a fleet asks for a change of access. It is safe for
// concurrent use.
type places struct {
	fleet  *schema.Fleet
	server string
	kept   map[string]Declaration // by ref

	index      func() // once
	containers map[string]*schema.Container
	projects   map[string]*schema.Project // by the ref of each container, and by alias
	aliases    map[string]*schema.Alias
}

func placesIn(f *schema.Fleet, server string, v View) *places {
	p := &places{fleet: f, server: server, kept: map[string]Declaration{}}
	for _, h := range v.Containers {
		if d, ok := v.Kept[h.ID]; ok {
			p.kept[h.Ref()] = d
		}
	}
	p.index = sync.OnceFunc(p.read)
	return p
}

func (p *places) read() {
	p.containers, p.projects, p.aliases = map[string]*schema.Container{}, map[string]*schema.Project{}, map[string]*schema.Alias{}
	for i := range p.fleet.Projects {
		project := &p.fleet.Projects[i]
		here := map[string]bool{}
		for j := range project.Containers {
			c := &project.Containers[j]
			if c.Server == p.server {
				ref := project.Name + "/" + c.Name
				here[c.Name], p.containers[ref], p.projects[ref] = true, c, project
			}
		}
		for j := range project.Aliases {
			a := &project.Aliases[j]
			if slices.ContainsFunc(a.Containers, func(name string) bool { return here[name] }) {
				p.aliases[a.Name] = a
			}
		}
	}
	for ref, d := range p.kept {
		p.containers[ref], p.projects[ref] = &d.Container, &d.Project
	}
}

// find is [edge.Config].Where.
func (p *places) find(c edge.Cause) (field, at string) {
	p.index()
	var pos schema.Pos
	if c.Alias != "" {
		a := p.aliases[c.Alias]
		if a == nil {
			return "", ""
		}
		field, pos = aliasField(c, a)
	} else {
		w := p.containers[c.Container]
		if w == nil {
			return "", ""
		}
		field, pos = p.containerField(c, w)
	}
	if pos.File == "" {
		return "", ""
	}
	return field, pos.String()
}

func (p *places) containerField(c edge.Cause, w *schema.Container) (string, schema.Pos) {
	doc := w.Permissions
	switch c.Kind {
	case edge.CauseCell, edge.CauseGroup, edge.CauseDefault:
		if doc == nil {
			return "", schema.Pos{}
		}
	}
	switch c.Kind {
	case edge.CauseCell:
		cell, ok := doc.Cells[c.Group][c.Program]
		if !ok {
			return "", schema.Pos{}
		}
		return "permissions." + c.Group + "." + c.Program, cell.Pos
	case edge.CauseGroup:
		return "groups." + c.Group, doc.Groups[c.Group].Pos
	case edge.CauseDefault:
		return "default", doc.Pos
	case edge.CauseEnableProxy:
		project := p.projects[c.Container]
		if at := w.At("enable_proxy"); at != w.Pos || project.EnableProxy == nil {
			return "enable_proxy", at
		}
		return "enable_proxy", project.At("enable_proxy")
	case edge.CausePrograms:
		if c.Program == "agent" && !w.AI {
			return "ai", w.At("ai")
		}
		if at := w.At("programs"); at != w.Pos {
			return "programs", at
		}
		return "programs", p.fleet.At("programs")
	case edge.CauseFirewall:
		return "firewall", w.At("firewall")
	}
	if doc != nil {
		return "permissions", doc.Pos
	}
	return "", w.Pos
}

func aliasField(c edge.Cause, a *schema.Alias) (string, schema.Pos) {
	name := "aliases." + a.Name
	switch c.Kind {
	case edge.CauseDomain:
		if !slices.Contains(a.Domains, c.Detail) {
			return "", schema.Pos{}
		}
		return name + ".domains", a.At("domains")
	case edge.CausePath:
		if !slices.ContainsFunc(a.Paths, func(p schema.AliasPath) bool { return p.Path == c.Detail }) {
			return "", schema.Pos{}
		}
		for _, spelled := range []string{c.Detail, strings.TrimSuffix(c.Detail, "/") + "/"} {
			if at := a.At("paths", spelled); at != a.Pos && at != a.At("paths") {
				return name + ".paths", at
			}
		}
		return name + ".paths", a.At("paths")
	case edge.CauseTargetPath:
		return name + ".target_path", a.At("target_path")
	case edge.CauseOverride:
		return name + ".allow_path_override", a.At("allow_path_override")
	case edge.CauseExpiry:
		return name + ".expires_at", a.At("expires_at")
	}
	if !a.Enabled {
		return name + ".enabled", a.At("enabled")
	}
	return name, a.Pos
}

// declaredIn is what a fleet, or what was kept beside it, says of a container.
func declaredIn(f *schema.Fleet, kept map[runtime.ID]Declaration, server string, h runtime.Container) (Declaration, bool) {
	if c := declaration(f, server, h); c != nil {
		for _, p := range f.Projects {
			for i := range p.Containers {
				if &p.Containers[i] == c {
					return Declaration{p, *c}, true
				}
			}
		}
	}
	d, ok := kept[h.ID]
	return d, ok
}
