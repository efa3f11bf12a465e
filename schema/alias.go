package schema

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	generatedHost = regexp.MustCompile(`^[0-9a-f]{24}-`)
	reservedAlias = []string{"api", "containers", "git", "localhost", "ssh", "status"}
)

func (r *resolver) alias(f *Fleet, p *Project, byName map[string]*Container, d declared[rawAlias]) Alias {
	raw := d.raw
	a := Alias{
		Pos: d.label, own: d.spot, Name: d.name, Program: raw.Program, Port: raw.Port, Index: raw.Index,
		TargetPath: raw.TargetPath, AllowPathOverride: raw.AllowPathOverride,
		Enabled: raw.Enabled, Domains: raw.Domains,
	}
	name := spot{d.label, d.path, d.v}
	if generatedHost.MatchString(d.name) {
		r.add(name, "looks like a generated host name; choose another")
	}
	if slices.Contains(reservedAlias, d.name) {
		r.add(name, "is reserved; choose another name than %s", strings.Join(reservedAlias, ", "))
	}
	if d.broken {
		return a
	}
	a.ExpiresAt = r.time(d.in("expires_at"), raw.ExpiresAt)
	servers := r.aliasContainers(p, byName, d, &a)
	for server := range servers {
		r.unique("alias on "+server, d.name, name, "the alias is declared twice for server %s", server)
	}
	r.domains(f, d, servers)
	r.aliasPaths(p, byName, d, &a, servers)
	return a
}

// aliasContainers resolves the targets of an alias, one for each server.
func (r *resolver) aliasContainers(p *Project, byName map[string]*Container, d declared[rawAlias], a *Alias) (servers map[string]string) {
	servers = map[string]string{}
	take := func(at spot, name string) {
		c := byName[name]
		if c == nil {
			r.noContainer(at, p, byName, name)
			return
		}
		a.Containers = append(a.Containers, name)
		if other, ok := servers[c.Server]; ok {
			r.add(at, "%s and %s are both on server %s; an alias leads to one container of each server", other, name, c.Server)
			return
		}
		servers[c.Server] = name
		a.Program, a.Port, a.Index = r.target(d.spot, c, d.raw.Program, d.raw.Port, d.raw.Index)
	}
	switch names := d.raw.Container.(type) {
	case string:
		take(d.in("container"), names)
	case []any:
		if len(names) == 0 {
			r.add(d.in("container"), "is empty; want the name of a container")
		}
		for i, name := range names {
			take(d.in("container", i), name.(string))
		}
	}
	return servers
}

func (r *resolver) noContainer(at spot, p *Project, byName map[string]*Container, name string) {
	switch {
	case r.unread:
	case len(byName) == 0:
		r.add(at, "project %s has no container at all", p.Name)
	default:
		r.add(at, "project %s has no container %q%s", p.Name, name, r.suggest(name, maps.Keys(byName)))
	}
}

// domains are unique on each server, and none of ours: not the fleet's domain,
// no zone of any server nor what is in one, and no parent of those, whose
// cookies every host below would get.
func (r *resolver) domains(f *Fleet, d declared[rawAlias], servers map[string]string) {
	for i, domain := range d.raw.Domains {
		if r.full() {
			return
		}
		at := d.in("domains", i)
		for rest, more := domain, true; more; _, rest, more = strings.Cut(rest, ".") {
			if _, ok := r.zones[rest]; ok && f.Domain != "" {
				r.add(at, "lies in the zone %s, whose names are given by the aliases themselves; want a domain of your own", rest)
			}
		}
		if f.Domain != "" && (f.Domain == domain || strings.HasSuffix(f.Domain, "."+domain)) {
			r.add(at, "is the domain of the fleet, %s, or stands above it, and nobody's alias; want a domain of your own", f.Domain)
		} else if !strings.Contains(domain, ".") {
			r.add(at, "found %q, want a whole domain, as in \"api.example.com\"", domain)
		}
		for _, server := range slices.Sorted(maps.Keys(servers)) {
			r.unique("domain on "+server, domain, at, "the domain %s is used twice on server %s", domain, server)
		}
	}
}

func (r *resolver) aliasPaths(p *Project, byName map[string]*Container, d declared[rawAlias], a *Alias, servers map[string]string) {
	seen := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(d.raw.Paths)) {
		if r.full() {
			return
		}
		raw, at := d.raw.Paths[path], d.in("paths", path)
		key := cmp.Or(strings.TrimRight(path, "/"), "/")
		if seen[key] {
			r.add(at, "is written twice, once with a / at its end; keep one of them")
		}
		seen[key] = true
		c := byName[raw.Container]
		if c == nil {
			r.noContainer(at.in("container"), p, byName, raw.Container)
			continue
		}
		if _, ok := servers[c.Server]; !ok && len(servers) > 0 {
			r.add(at.in("container"), "container %s is on server %s, where the alias does not lead", c.Name, c.Server)
		}
		t := AliasPath{Path: key, Container: c.Name}
		t.Program, t.Port, t.Index = r.target(at, c, raw.Program, raw.Port, raw.Index)
		a.Paths = append(a.Paths, t)
	}
	slices.SortStableFunc(a.Paths, func(a, b AliasPath) int { return len(b.Path) - len(a.Path) })
}
