package reconcile

import (
	"slices"
	"strings"

	"swage/runtime"
	"swage/schema"
)

// rolledBack is the fleet that stands in for a commit that failed: containers
// and aliases as the good commit has them, all else as the failed one has it.
//
// What the failed commit closed or took away stays so: permissions,
// enable_proxy, firewall, publish, keys and aliases are its own, as are
// servers, tokens and signers. A container that it no longer declares is
// neither made again nor, if it is still there, deleted: it goes on, closed to
// the edge. One that is new with it is not asked for, so it is held.
func rolledBack(good, failed *schema.Fleet, server string, there runtime.State) *schema.Fleet {
	out := *failed
	out.Projects = nil
	left := map[string][]schema.Container{} // by the project that the good commit has them in
	done := map[string]bool{}               // refs of the good commit
	for _, p := range failed.Projects {
		for _, c := range p.Containers {
			if c.Server != server {
				left[p.Name] = append(left[p.Name], c)
				continue
			}
			was, ok := former(good, server, p.Name, c)
			if !ok {
				continue
			}
			done[was.Project.Name+"/"+was.Container.Name] = true
			left[was.Project.Name] = append(left[was.Project.Name], secured(was.Container, c))
		}
	}
	for _, p := range good.Projects {
		for _, c := range p.Containers {
			if c.Server != server || done[p.Name+"/"+c.Name] {
				continue
			}
			for _, h := range there.Containers {
				if h.ID == runtime.ID(c.ID) || c.ID == "" && h.Ref() == p.Name+"/"+c.Name {
					c.ProxyOpen, c.StaysOpen = false, false
					left[p.Name] = append(left[p.Name], c)
				}
			}
		}
	}
	for _, p := range failed.Projects {
		if g := project(good, p.Name); g != nil {
			p.Prespawn, p.MaxContainers = g.Prespawn, -1
		}
		p.Aliases = slices.Clone(p.Aliases)
		for i, x := range p.Aliases {
			if old, ok := formerAlias(good, p.Name, x.Name); ok {
				old.Enabled, old.ExpiresAt, old.Domains = x.Enabled, x.ExpiresAt, x.Domains
				p.Aliases[i] = old
			}
		}
		p.Containers = left[p.Name]
		delete(left, p.Name)
		out.Projects = append(out.Projects, p)
	}
	for _, g := range good.Projects {
		if len(left[g.Name]) > 0 { // the failed commit has no such project
			p := *project(good, g.Name)
			p.Containers, p.Aliases, p.Prespawn = left[g.Name], nil, nil
			out.Projects = append(out.Projects, p)
		}
	}
	for i := range out.Projects {
		slices.SortFunc(out.Projects[i].Containers, func(a, b schema.Container) int { return strings.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(out.Projects, func(a, b schema.Project) int { return strings.Compare(a.Name, b.Name) })
	return &out
}

// former is what the good commit says of a container of the failed one: by its
// id, else by its name.
func former(good *schema.Fleet, server, project string, c schema.Container) (Declaration, bool) {
	named := Declaration{}
	for _, p := range good.Projects {
		for _, g := range p.Containers {
			switch {
			case g.Server != server:
			case c.ID != "" && g.ID == c.ID:
				return Declaration{p, g}, true
			case p.Name == project && g.Name == c.Name && (g.ID == "" || c.ID == ""):
				named = Declaration{p, g}
			}
		}
	}
	return named, named.Container.Name != ""
}

// secured is a container as it was, with what decides who reaches it as it is.
func secured(was, is schema.Container) schema.Container {
	was.Permissions, was.ProxyOpen, was.StaysOpen = is.Permissions, is.ProxyOpen, is.StaysOpen
	was.Firewall, was.Publish = is.Firewall, is.Publish
	was.PublicKey, was.AuthorizedKeys, was.RealmIDs = is.PublicKey, is.AuthorizedKeys, is.RealmIDs
	was.Protected = was.Protected || is.Protected
	return was
}

func formerAlias(good *schema.Fleet, in, name string) (schema.Alias, bool) {
	if p := project(good, in); p != nil {
		for _, x := range p.Aliases {
			if x.Name == name {
				return x, true
			}
		}
	}
	return schema.Alias{}, false
}

func project(f *schema.Fleet, name string) *schema.Project {
	i := slices.IndexFunc(f.Projects, func(p schema.Project) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Projects[i]
}
