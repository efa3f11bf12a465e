package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// document is a compiled [Permissions].
type document struct {
	fallback Verdict

	// members leads from an address to every group that it belongs to, in
	// the order of their names: the list of a prefix also holds the groups
	// of all prefixes around it, so the longest match is the whole answer.
	members bart.Table[[]*group]
}

type group struct {
	name  string
	cells map[string]cell // by program

	// The reasons, made once so that deciding need not.
	allowed, denied string
}

// cell is a [Cell] whose ranges are sorted and do not touch.
type cell struct {
	all   bool
	ports []PortRange
}

func (c cell) allows(port uint16) bool {
	if c.all {
		return true
	}
	for _, r := range c.ports {
		if port <= r.Last {
			return port >= r.First
		}
	}
	return false
}

// decide judges a caller. Any group that allows is enough; a group that names
// the program without allowing the port denies; the default is for callers of
// whom no group says anything.
func (d *document) decide(client netip.Addr, program string, port uint16) (Verdict, string) {
	if d == nil {
		return Allow, "no permissions document"
	}
	groups, _ := d.members.Lookup(client)
	var denied *group
	for _, g := range groups {
		c, named := g.cells[program]
		switch {
		case !named:
		case c.allows(port):
			return Allow, g.allowed
		case denied == nil:
			denied = g
		}
	}
	switch {
	case denied != nil:
		return Deny, denied.denied
	case d.fallback == Allow:
		return Allow, "allowed by default"
	default:
		return Deny, "denied by default"
	}
}

func compileDocument(p *Permissions) (*document, error) {
	var problems []error
	if p.Default != Allow && p.Default != Deny {
		problems = append(problems, fmt.Errorf("permissions: the default is %q", p.Default))
	}
	var exact bart.Table[[]*group]
	for _, name := range names(p.Groups) {
		g := &group{
			name:    name,
			cells:   make(map[string]cell, len(p.Cells[name])),
			allowed: "allowed by group " + name,
			denied:  "denied by group " + name,
		}
		for _, r := range p.Groups[name].Ranges {
			if !r.IsValid() || r != r.Masked() || r.Addr().Is4In6() {
				problems = append(problems, fmt.Errorf("permissions: group %q: %v is not a canonical range", name, r))
				continue
			}
			exact.Modify(r, func(gs []*group, _ bool) ([]*group, bool) {
				if slices.Contains(gs, g) {
					return gs, false
				}
				return append(gs, g), false
			})
		}
		for _, program := range names(p.Cells[name]) {
			c, err := compileCell(p.Cells[name][program])
			if err != nil {
				problems = append(problems, fmt.Errorf("permissions: group %q, program %q: %w", name, program, err))
			}
			g.cells[program] = c
		}
	}
	for _, name := range names(p.Cells) {
		if _, ok := p.Groups[name]; !ok {
			problems = append(problems, fmt.Errorf("permissions: cells for %q, which is no group", name))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}

	d := &document{fallback: p.Default}
	for prefix := range exact.All() {
		var around []*group
		for _, groups := range exact.Supernets(prefix) {
			around = append(around, groups...)
		}
		slices.SortFunc(around, func(a, b *group) int { return strings.Compare(a.name, b.name) })
		d.members.Insert(prefix, slices.Compact(around))
	}
	return d, nil
}

func compileCell(c Cell) (cell, error) {
	if c.All {
		return cell{all: true}, nil
	}
	sorted := slices.SortedFunc(slices.Values(c.Ports), func(a, b PortRange) int { return int(a.First) - int(b.First) })
	var merged []PortRange
	for _, r := range sorted {
		if r.First == 0 || r.First > r.Last {
			return cell{}, fmt.Errorf("%d-%d is not a range of ports", r.First, r.Last)
		}
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return cell{ports: merged}, nil
}
