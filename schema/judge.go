package schema

import (
	"maps"
	"slices"
)

// judge warns of what is allowed in a document and yet has no effect: what
// can never match, and what the default says anyway.
func (r *resolver) judge(d *document) {
	if d == nil {
		return
	}
	for _, group := range slices.Sorted(maps.Keys(d.raw.Groups)) {
		if !d.used[group] {
			r.warn(d.at.in("groups").label(group), "no permission names this group, so it has no effect")
		}
	}
	restricted := d.restricted()
	for _, group := range slices.Sorted(maps.Keys(d.raw.Permissions)) {
		for _, name := range slices.Sorted(maps.Keys(d.raw.Permissions[group])) {
			at := d.at.in("permissions", group, name)
			key, e, ok := d.scope.programs.find(name)
			if !ok {
				key = name
			}
			cell, ok := d.doc.Cells[group][key]
			if !ok {
				continue // a problem, which was told
			}
			r.judgeCell(d, at, group, key, e, cell, restricted[key])
		}
	}
}

func (r *resolver) judgeCell(d *document, at spot, group, program string, e Program, c Cell, restricted bool) {
	full := slices.Contains(c.Ports, everyPort)
	for _, p := range c.Ports {
		if e.Instances > 0 && p != everyPort && int(p.From) > e.Instances {
			r.warn(at, "%d can never match: %s has the instances 1 to %d", p.From, program, e.Instances)
		}
	}
	switch {
	case len(c.Ports) == 0 && !d.doc.DefaultAllow:
		r.warn(at, "has no effect: what no group allows is denied by default")
	case full && c.Level == "" && d.doc.DefaultAllow && !restricted:
		r.warn(at, "has no effect: default is \"allow\", and no group is denied anything of %s", program)
	case program == "ssh" && !addressOnly(d.doc.Groups[group]):
		r.warn(at, "can never match: only groups of type \"ip\" apply to ssh")
	}
}

// restricted are the programs of which some group may reach less than all.
func (d *document) restricted() map[string]bool {
	out := map[string]bool{}
	for _, cells := range d.doc.Cells {
		for program, c := range cells {
			if c.Level != "" || !slices.Contains(c.Ports, everyPort) {
				out[program] = true
			}
		}
	}
	return out
}

func addressOnly(g Group) bool {
	for _, member := range g.All {
		if !addressOnly(member) {
			return false
		}
	}
	return g.Password == nil && g.Token == nil && g.JWT == nil
}
