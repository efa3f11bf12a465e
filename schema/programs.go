package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
)

// programs is a catalogue with every name that reaches an entry.
type programs struct {
	entries map[string]Program
	names   map[string]string // name, slug or other name → name
}

// builtIn is the catalogue of programs.cue.
var builtIn = sync.OnceValues(func() (map[string]rawProgram, error) {
	src, err := definitions.ReadFile("programs.cue")
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseFile("programs.cue", src)
	if err != nil {
		return nil, err
	}
	all, err := shapes()
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		d, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		if name, _, _ := ast.LabelName(d.Label); name != "catalogue" {
			continue
		}
		r := reader{file: "programs.cue"}
		v := r.expr("catalogue", d.Value, 1)
		if v == nil {
			continue // the one that says what the entries are
		}
		text, err := json.Marshal(complete(v, &shape{kind: isStruct, each: all["#Program"]}))
		if err != nil {
			return nil, err
		}
		var out map[string]rawProgram
		return out, json.Unmarshal(text, &out)
	}
	return nil, fmt.Errorf("schema: programs.cue has no catalogue")
})

// maxPrograms bounds the catalogue, of which containers may need copies.
const maxPrograms = 200

// defaultInstances of a program that does not say how many.
const defaultInstances = 99

// The three programs that every catalogue knows without naming them.
var notInCatalogue = []string{"http", "https", "ssh"}

// catalogue is the built-in one with a fleet's changes.
func (r *resolver) catalogue(at spot, changes map[string]rawProgram) *programs {
	base, err := builtIn()
	if err != nil {
		r.add(at, "%v", err)
	}
	if len(changes) > maxPrograms {
		r.add(at, "has %d entries; a fleet has at most %d", len(changes), maxPrograms)
		changes = nil
	}
	p := &programs{entries: make(map[string]Program, len(base)+len(changes)), names: map[string]string{}}
	for name, raw := range base {
		p.entries[name] = changed(Program{Instances: defaultInstances, Slug: name}, raw)
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		raw, old := changes[name], p.entries[name]
		if slices.Contains(notInCatalogue, name) {
			r.add(at.label(name), "is no program of the kit and cannot be changed here")
			continue
		}
		if old.Port == 0 {
			old = Program{Instances: defaultInstances, Slug: name}
			if raw.Port == 0 {
				r.add(at.in(name, "port"), "is missing; %s is a new program%s", name, r.suggest(name, maps.Keys(base)))
				continue
			}
		}
		p.entries[name] = changed(old, raw)
	}
	r.checkPrograms(at, p, changes)
	return p
}

// containerPrograms is the fleet's catalogue with a container's changes.
func (r *resolver) containerPrograms(at spot, changes map[string]rawProgram) *programs {
	if len(changes) == 0 {
		return r.fleetPrograms
	}
	p := &programs{entries: maps.Clone(r.fleetPrograms.entries), names: r.fleetPrograms.names}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		raw := changes[name]
		if name == "http" || name == "https" {
			if raw.Port != 0 || raw.Instances != 0 {
				r.add(at.label(name), "can only be told cache; http and https reach any port")
			}
			p.entries[name] = Program{NoCache: raw.Cache != nil && !*raw.Cache}
			continue
		}
		key, ok := p.names[name]
		if !ok && r.programsUnread() {
			continue
		}
		if !ok {
			r.add(at.label(name), "there is no program %q%s", name, r.suggest(name, maps.Keys(r.fleetPrograms.entries)))
			continue
		}
		p.entries[key] = changed(p.entries[key], raw)
	}
	r.checkPrograms(at, p, changes)
	return p
}

func changed(p Program, raw rawProgram) Program {
	p.Port = cmp.Or(raw.Port, p.Port)
	p.Instances = cmp.Or(raw.Instances, p.Instances)
	p.InstanceBase = cmp.Or(raw.InstanceBase, p.InstanceBase)
	p.Slug = cmp.Or(raw.Slug, p.Slug)
	if raw.Names != nil {
		p.Names = raw.Names
	}
	if raw.Levels != nil {
		p.Levels = raw.Levels
	}
	if raw.HonoursLevel != nil {
		p.HonoursLevel = *raw.HonoursLevel
	}
	if raw.Cache != nil {
		p.NoCache = !*raw.Cache
	}
	return p
}

// labelRoom is what the two ids leave of a DNS label's 63 bytes.
const labelRoom = 63 - len("0123456789abcdef01234567-0123456789abcdef01234567-")

// checkPrograms finds names, ports and host names that do not go together.
// What is wrong is said at the changes: the built-in catalogue is right, and
// what is wrong with the fleet's is told there, not again at each container.
func (r *resolver) checkPrograms(at spot, p *programs, changes map[string]rawProgram) {
	type span struct {
		from, to int
		program  string
	}
	var spans []span
	names := map[string]string{}
	blame := func(name, other, format string, args ...any) {
		if _, ok := changes[name]; !ok {
			name = other
		}
		if _, ok := changes[name]; ok {
			r.add(at.label(name), format, args...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.entries)) {
		e := p.entries[name]
		if e.Port == 0 {
			continue // http and https of a container
		}
		if label := e.Slug + "-" + strconv.Itoa(e.Instances); len(label) > labelRoom {
			blame(name, "", "the host name part %q has %d characters and only %d fit; allow fewer instances or give it a shorter slug", label, len(label), labelRoom)
		}
		for _, n := range append([]string{name, e.Slug}, e.Names...) {
			if other, ok := names[n]; ok && other != name || slices.Contains(notInCatalogue, n) {
				blame(name, other, "the name %q is taken by another program", n)
			}
			names[n] = name
		}
		spans = append(spans, span{int(e.Port), int(e.Port), name})
		if base := int(e.InstanceBase); base > 0 {
			last := base + e.Instances - 1
			if last > 65535 {
				blame(name, "", "the last of %d instances from port %d would have port %d; 65535 is the highest", e.Instances, base, last)
			}
			spans = append(spans, span{base, last, name})
		}
	}
	p.names = names
	if len(changes) == 0 {
		return
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(a.from-b.from, strings.Compare(a.program, b.program)) })
	for i := 1; i < len(spans); i++ {
		if a, b := spans[i-1], spans[i]; b.from <= a.to {
			blame(b.program, a.program, "the ports of %s and %s overlap at %d", a.program, b.program, b.from)
		}
		if spans[i-1].to > spans[i].to {
			spans[i] = spans[i-1]
		}
	}
}

// programsUnread: the fleet's own programs are not known, so that a name which
// is in no catalogue may yet be right.
func (r *resolver) programsUnread() bool { return r.swage == nil || r.swage.broken }

// find resolves a name of a program: its own, its slug or another.
func (p *programs) find(name string) (key string, e Program, ok bool) {
	key, ok = p.names[name]
	return key, p.entries[key], ok
}

func (p *programs) known(more ...string) []string {
	return append(slices.Collect(maps.Keys(p.entries)), more...)
}

// target checks what an alias, a path of one or a health check leads to.
func (r *resolver) target(at spot, c *Container, program string, port uint16, index int) (string, uint16, int) {
	if c.broken { // what it has is not known
		return program, port, index
	}
	if !c.Kit {
		r.add(at.in("program"), "container %s has kit: false, so its only program is ssh; nothing else leads to it", c.Name)
		return program, port, index
	}
	_, hasPort := at.v.field("port")
	_, hasIndex := at.v.field("index")
	if program == "http" || program == "https" {
		if hasIndex {
			r.add(at.in("index"), "is for programs of the kit; %s has ports: write port", program)
		}
		return program, cmp.Or(port, map[string]uint16{"http": 80, "https": 443}[program]), 0
	}
	key, e, ok := c.programs(r).find(program)
	switch {
	case program == "ssh":
		r.add(at.in("program"), "ssh is reached as it is, without an alias or a check; want http, https or a program of the kit")
	case !ok && r.programsUnread():
	case !ok:
		r.add(at.in("program"), "there is no program %q%s", program, r.suggest(program, slices.Values(c.programs(r).known("http", "https"))))
	case key == "agent" && !c.AI:
		r.add(at.in("program"), "container %s has ai: false, so there is no agent in it", c.Name)
	case hasPort:
		r.add(at.in("port"), "is for http and https; %s has instances: write index", program)
	case index > e.Instances:
		r.add(at.in("index"), "found %d, want 1 to %d, the instances of %s", index, e.Instances, program)
	}
	return key, 0, cmp.Or(index, 1)
}
