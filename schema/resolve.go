package schema

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fleet resolves references between the files. What it returns is whole only
// if no problem was added.
func (l *loader) fleet() *Fleet {
	f := &Fleet{Servers: map[string]Server{}}
	if l.swage == nil {
		if !l.unread {
			l.add(Pos{File: "swage.cue"}, "", "is missing; every fleet repository has one at its root")
		}
		return f
	}
	f.ID, f.Domain, f.MaxDeletes = l.swage.ID, l.swage.Domain, l.swage.Prune.Max
	for name, s := range l.servers {
		if len(s.Listen) == 0 {
			s.Listen = []string{":443"}
		}
		f.Servers[name] = Server{
			Listen: s.Listen, Bridge: s.Network.Bridge,
			StoragePool: s.StoragePool, ProjectPrefix: s.Incus.ProjectPrefix, ImageServer: s.Incus.ImageServer,
		}
		if zone := f.Zone(name); len(zone) > 253-64 {
			l.add(Pos{File: "servers/" + name + ".cue"}, "", "the zone %s is longer than a host name allows", zone)
		}
	}
	if len(f.Servers) == 0 && !l.unread {
		l.add(Pos{File: "servers"}, "", "there is no server; declare one in servers/<server>.cue")
	}
	ids := map[string]Pos{}
	names := map[string]Pos{} // of aliases, by server
	for _, name := range slices.Sorted(maps.Keys(l.projects)) {
		f.Projects = append(f.Projects, l.project(f, name, l.projects[name], ids, names))
	}
	return f
}

func (l *loader) project(f *Fleet, name string, raw *rawProject, ids, names map[string]Pos) Project {
	p := Project{Name: name, ID: raw.id, Permissions: l.permissions(raw.permissions)}
	if p.Permissions == nil && l.swage.DefaultPermissions == "deny" {
		p.Permissions = &Permissions{}
	}
	if raw.id != "" {
		l.unique(ids, raw.id, l.declared[name+"\x00project"], "project.id")
	}
	servers := map[string]bool{}
	for _, k := range slices.Sorted(maps.Keys(raw.containers)) {
		d := raw.containers[k]
		c := Container{
			Pos: d.pos, Name: k, ID: d.raw.ID, Image: d.raw.ContainerImage,
			Env: d.raw.EnvironmentVars, State: d.raw.State,
			Server: l.server(f, d.pos, join("containers", k), d.raw.Server),
		}
		if c.Image == "" {
			c.Image = l.swage.ContainerImage
		}
		if c.ID != "" {
			l.unique(ids, c.ID, d.pos, join("containers", k)+".id")
		}
		servers[c.Server] = true
		p.Containers = append(p.Containers, c)
	}
	if len(servers) > 1 && p.ID == "" {
		l.add(p.Containers[0].Pos, "project.id", "is missing; a project on more than one server needs one, as 24 lower-case hexadecimal digits")
	}
	for _, k := range slices.Sorted(maps.Keys(raw.aliases)) {
		p.Aliases = append(p.Aliases, l.alias(&p, k, raw.aliases[k], names))
	}
	return p
}

// server resolves the server of a container; a fleet of one needs no name.
func (l *loader) server(f *Fleet, pos Pos, path, name string) string {
	known := slices.Sorted(maps.Keys(f.Servers))
	switch {
	case name == "" && len(known) == 1:
		return known[0]
	case name == "" && !l.unread:
		l.add(pos, path+".server", "is missing; this fleet has %s", strings.Join(known, ", "))
	case !slices.Contains(known, name) && !l.unread:
		l.add(pos, path+".server", "there is no server %q%s", name, didYouMean(name, known))
	}
	return name
}

// unique refuses a second use of an id anywhere in the fleet.
func (l *loader) unique(seen map[string]Pos, id string, pos Pos, path string) {
	if first, ok := seen[id]; ok {
		l.add(pos, path, "%s is used twice; the first is at %s", id, first)
		return
	}
	seen[id] = pos
}

var (
	generatedHost = regexp.MustCompile(`^[0-9a-f]{24}-`)
	reservedAlias = []string{"api", "containers", "git", "localhost", "ssh", "status"}
)

func (l *loader) alias(p *Project, name string, d declared[rawAlias], names map[string]Pos) Alias {
	path := join("aliases", name)
	a := Alias{
		Pos: d.pos, Name: name, Container: d.raw.Container, Program: d.raw.Program,
		Port: d.raw.Port, TargetPath: d.raw.TargetPath,
		AllowPathOverride: d.raw.AllowPathOverride, Enabled: d.raw.Enabled,
	}
	if d.raw.ExpiresAt != "" {
		t, err := time.Parse(time.RFC3339, d.raw.ExpiresAt)
		if err != nil {
			l.add(d.pos, path+".expires_at", "found %q, want a time as in \"2030-01-31T12:00:00Z\" (RFC 3339)", d.raw.ExpiresAt)
		}
		a.ExpiresAt = t
	}
	if generatedHost.MatchString(name) {
		l.add(d.pos, path, "looks like a generated host name; choose another")
	}
	if slices.Contains(reservedAlias, name) {
		l.add(d.pos, path, "is reserved; choose another name than %s", strings.Join(reservedAlias, ", "))
	}
	i := slices.IndexFunc(p.Containers, func(c Container) bool { return c.Name == a.Container })
	if i < 0 && l.unread {
		return a
	}
	if i < 0 {
		var known []string
		for _, c := range p.Containers {
			known = append(known, c.Name)
		}
		l.add(d.pos, path+".container", "project %s has no container %q%s", p.Name, a.Container, didYouMean(a.Container, known))
		return a
	}
	key := p.Containers[i].Server + "\x00" + name
	if first, ok := names[key]; ok {
		l.add(d.pos, path, "is declared twice for server %s; the first is at %s", p.Containers[i].Server, first)
	}
	names[key] = d.pos
	return a
}

func (l *loader) permissions(d *declared[rawPermissions]) *Permissions {
	if d == nil {
		return nil
	}
	doc := &Permissions{
		DefaultAllow: d.raw.Default == "allow",
		Groups:       map[string][]netip.Prefix{},
		Cells:        map[string]map[string]Cell{},
	}
	known := slices.Sorted(maps.Keys(d.raw.Groups))
	for _, name := range known {
		g := d.raw.Groups[name]
		path := join("permissions.groups", name)
		ranges := g.Ranges
		if g.Range != "" {
			ranges = append(ranges, g.Range)
		}
		if len(ranges) == 0 {
			l.add(d.pos, path, "has neither range nor ranges")
		}
		for _, r := range ranges {
			prefix, err := parsePrefix(r)
			if err != nil {
				l.add(d.pos, path, "%v", err)
			}
			doc.Groups[name] = append(doc.Groups[name], prefix)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(d.raw.Permissions)) {
		path := join("permissions.permissions", group)
		if !slices.Contains(known, group) {
			l.add(d.pos, path, "there is no group %q%s", group, didYouMean(group, known))
			continue
		}
		doc.Cells[group] = map[string]Cell{}
		for program, v := range d.raw.Permissions[group] {
			cell, err := parseCell(v)
			if err != nil {
				l.add(d.pos, join(path, program), "%v", err)
			}
			doc.Cells[group][program] = cell
		}
	}
	return doc
}

// parsePrefix reads a network or a single address. Bits below the prefix
// length are refused: they are nearly always a mistaken length.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("found %q, want a network as in \"203.0.113.0/24\" or \"2001:db8::/32\"", s)
	}
	if p.Masked() != p {
		return p, fmt.Errorf("found %q, whose address has bits set beyond /%d; write %q or a longer prefix", s, p.Bits(), p.Masked())
	}
	return p, nil
}

var everyPort = PortRange{1, 65535}

// parseCell reads a cell that the schema let pass.
func parseCell(v any) (Cell, error) {
	switch v := v.(type) {
	case bool:
		if v {
			return Cell{[]PortRange{everyPort}}, nil
		}
		return Cell{}, nil
	case int64:
		return Cell{[]PortRange{{uint16(v), uint16(v)}}}, nil
	case int:
		return Cell{[]PortRange{{uint16(v), uint16(v)}}}, nil
	case string:
		if v == "*" {
			return Cell{[]PortRange{everyPort}}, nil
		}
		from, to, _ := strings.Cut(v, "-")
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if errA != nil || errB != nil || a == 0 || a > b {
			return Cell{}, fmt.Errorf("found %q, want a range of ports from low to high, as in \"8000-8100\"", v)
		}
		return Cell{[]PortRange{{uint16(a), uint16(b)}}}, nil
	case []any:
		var all Cell
		for _, item := range v {
			c, err := parseCell(item)
			if err != nil {
				return Cell{}, err
			}
			all.Ports = append(all.Ports, c.Ports...)
		}
		return all, nil
	}
	return Cell{}, fmt.Errorf("found %v, want true, false, \"*\", a port, a range or a list of those", v)
}
