package schema

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// resolver joins the files: it follows references between them and finds what
// only shows when all are read.
type resolver struct {
	shapes   map[string]*shape
	problems Problems
	warnings Problems

	swage    *declared[rawSwage]
	servers  map[string]*declared[rawServer]
	projects map[string]*parts
	declared map[string]Pos // every object, to refuse a second declaration

	// unread: some file could not be taken, so what is missing from the
	// others may be in it and is not reported.
	unread bool

	fleetPrograms *programs
	uses          map[string]map[string]Pos // kind → what must be unique → its first place
	perServer     map[string]*demand
	zones         map[string]string // zone → server
	realms        map[string]bool   // of the project that is resolved now
	baseBroken    bool              // its permissions have problems of their own
	merged        int               // parts of inherited permissions that were copied
	maxMerged     int
}

// parts are what the files of one project declare.
type parts struct {
	name        string
	first       Pos
	project     *declared[rawProject]
	permissions *declared[rawPermissions]
	containers  map[string]declared[rawContainer]
	aliases     map[string]declared[rawAlias]
}

func newResolver(shapes map[string]*shape) *resolver {
	return &resolver{
		shapes:    shapes,
		servers:   map[string]*declared[rawServer]{},
		projects:  map[string]*parts{},
		declared:  map[string]Pos{},
		uses:      map[string]map[string]Pos{},
		perServer: map[string]*demand{},
	}
}

// full: enough was found. What follows would only repeat it.
func (r *resolver) full() bool { return len(r.problems) >= maxTold }

func (r *resolver) add(at spot, format string, args ...any) {
	if r.full() {
		return
	}
	r.problems = append(r.problems, tell(at.pos, at.path, format, args...))
}

// suggest is didYouMean, which costs as much as there are names: a repository
// full of slips gets the first of them explained only.
func (r *resolver) suggest(name string, known iter.Seq[string]) string {
	if len(r.problems) > 50 {
		return ""
	}
	return didYouMean(name, slices.Collect(known))
}

func (r *resolver) warn(at spot, format string, args ...any) {
	if len(r.warnings) >= maxTold {
		return
	}
	r.warnings = append(r.warnings, tell(at.pos, at.path, format, args...))
}

// take adds what a file declares.
func (r *resolver) take(u *unit) {
	if !r.full() {
		r.problems = append(r.problems, u.problems...)
	}
	if u.v == nil && (len(u.problems) > 0 || !isLib(u.name)) {
		r.unread = true
	}
	if u.swage != nil && r.once(u.swage.at(), "swage") {
		r.swage = u.swage
	}
	if s := u.server; s != nil && r.once(s.at(), "server "+s.name) {
		r.servers[s.name] = s
	}
	rest, ok := strings.CutPrefix(u.name, "projects/")
	if !ok || u.v == nil {
		return
	}
	name, _, _ := strings.Cut(rest, "/")
	p := r.projects[name]
	if p == nil {
		p = &parts{name: name, first: Pos{File: u.name}, containers: map[string]declared[rawContainer]{}, aliases: map[string]declared[rawAlias]{}}
		r.projects[name] = p
	}
	if u.project != nil && r.once(u.project.at(), name+" project") {
		p.project = u.project
	}
	if u.permissions != nil && r.once(u.permissions.at(), name+" permissions") {
		p.permissions = u.permissions
	}
	for _, d := range u.containers {
		if r.once(d.at(), name+" container "+d.name) {
			p.containers[d.name] = d
		}
	}
	for _, d := range u.aliases {
		if r.once(d.at(), name+" alias "+d.name) {
			p.aliases[d.name] = d
		}
	}
}

// once refuses a second declaration of an object, naming the first.
func (r *resolver) once(at spot, key string) bool {
	if first, ok := r.declared[key]; ok {
		r.add(at, "is declared a second time; the first is at %s; keep one of them", first)
		return false
	}
	r.declared[key] = at.pos
	return true
}

// unique refuses a second use of something that only one may have.
func (r *resolver) unique(kind, what string, at spot, format string, args ...any) {
	uses := r.uses[kind]
	if uses == nil {
		uses = map[string]Pos{}
		r.uses[kind] = uses
	}
	if first, ok := uses[what]; ok {
		r.add(at, "%s; the first is at %s", fmt.Sprintf(format, args...), first)
		return
	}
	uses[what] = at.pos
}

// mostSettle bounds swage.cue's settle.
const mostSettle = 10 * time.Minute

// fleet is whole only if no problem was added.
func (r *resolver) fleet() *Fleet {
	f := &Fleet{Servers: map[string]Server{}}
	var raw rawSwage
	at := spot{pos: Pos{File: "swage.cue"}}
	switch {
	case r.swage != nil:
		raw, at = r.swage.raw, r.swage.spot
		r.unread = r.unread || r.swage.broken
	case !r.unread:
		r.add(at, "is missing; every fleet repository has one at its root, with id and domain")
	}
	f.own = at
	f.ID, f.Domain, f.MaxDeletes, f.ArchiveDays = raw.ID, raw.Domain, raw.Prune.Max, raw.Prune.Archive
	f.Signers, f.Events = Signers(raw.Signers), Events(raw.Events)
	f.ReportDrift, f.AutoRollback, f.Parallel = raw.Drift == "report", raw.Rollback == "auto", raw.Parallel
	if f.Settle = duration(raw.Settle); f.Settle > mostSettle {
		r.add(at.in("settle"), "found %q, want at most %s: each deploy waits for it", raw.Settle, mostSettle)
	}
	r.fleetPrograms = r.catalogue(at.in("programs"), raw.Programs)
	f.Programs = r.fleetPrograms.entries
	for _, name := range slices.Sorted(maps.Keys(r.servers)) {
		f.Servers[name] = r.server(f, r.servers[name])
	}
	if len(f.Servers) == 0 && !r.unread {
		r.add(spot{pos: Pos{File: "servers"}}, "there is no server; declare one in servers/<server>.cue, which may be empty")
	}
	r.zones = map[string]string{}
	for name := range f.Servers {
		r.zones[f.Zone(name)] = name
	}
	for _, name := range slices.Sorted(maps.Keys(r.projects)) {
		if r.full() {
			break
		}
		f.Projects = append(f.Projects, r.project(f, r.projects[name]))
	}
	r.copies(f)
	r.capacity(f)
	return f
}

func (r *resolver) project(f *Fleet, parts *parts) Project {
	p := Project{Pos: parts.first, Name: parts.name, MaxContainers: -1}
	at := spot{pos: parts.first, path: "project"}
	if d := parts.project; d != nil {
		at = d.spot
		p.Pos, p.own = d.label, d.spot
		p.ID, p.Color, p.Comment, p.RealmIDs = d.raw.ID, d.raw.Color, d.raw.Comment, d.raw.RealmIDs
		p.EnableProxy, p.Protected = d.raw.EnableProxy, d.raw.Protected
		if d.raw.MaxContainers != nil {
			p.MaxContainers = *d.raw.MaxContainers
		}
		r.prespawn(&p, d)
		if p.ID != "" {
			r.unique("id", p.ID, d.in("id"), "the id %s is used twice", p.ID)
		}
	}
	shared := r.projectPermissions(parts.permissions)
	r.baseBroken = parts.permissions != nil && parts.permissions.broken
	if shared != nil {
		p.Permissions = shared.doc
	} else if r.swage != nil && r.swage.raw.DefaultPermissions == "deny" {
		p.Permissions = &Permissions{Pos: r.swage.in("default_permissions").pos}
	}
	servers := map[string]bool{}
	r.realms = map[string]bool{}
	for _, id := range p.RealmIDs {
		r.realms[id] = true
	}
	for _, name := range slices.Sorted(maps.Keys(parts.containers)) {
		if r.full() {
			return p
		}
		c := r.container(f, &p, shared, parts.containers[name])
		if _, ok := f.Servers[c.Server]; ok {
			servers[c.Server] = true
			if len(servers) == 2 && parts.project == nil {
				at.pos = c.own.in("server").pos // which made the second
			}
		}
		p.Containers = append(p.Containers, c)
	}
	if len(servers) > 1 && p.ID == "" && (parts.project == nil || !parts.project.broken) && !r.unread {
		r.add(at.in("id"), "is missing; a project with containers on more than one server (%s) needs one, so that its addresses agree; want 24 lower-case hexadecimal digits",
			strings.Join(slices.Sorted(maps.Keys(servers)), ", "))
	}
	if n := len(p.Containers); p.MaxContainers >= 0 && n > p.MaxContainers {
		r.add(at.in("max_containers"), "the project has %d containers and allows itself %d", n, p.MaxContainers)
	}
	byName := make(map[string]*Container, len(p.Containers))
	for i := range p.Containers {
		byName[p.Containers[i].Name] = &p.Containers[i]
	}
	r.dependencies(&p, byName)
	for _, name := range slices.Sorted(maps.Keys(parts.aliases)) {
		if r.full() {
			return p
		}
		p.Aliases = append(p.Aliases, r.alias(f, &p, byName, parts.aliases[name]))
	}
	r.judge(shared)
	return p
}

func (r *resolver) prespawn(p *Project, d *declared[rawProject]) {
	seen := map[string]bool{}
	for i, raw := range d.raw.Prespawn {
		image := raw.ContainerImage
		if image == "" && r.swage != nil {
			image = r.swage.raw.ContainerImage
		}
		key := fmt.Sprint(image, raw.Kit)
		if seen[key] {
			r.add(d.in("prespawn", i), "names %s with kit: %t a second time; add up the counts", image, raw.Kit)
		}
		seen[key] = true
		p.Prespawn = append(p.Prespawn, Prespawn{image, raw.Kit, raw.Count})
	}
}
