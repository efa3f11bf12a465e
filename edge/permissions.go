package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"
)

// document is a compiled [Permissions].
type document struct {
	fallback Verdict

	// members leads from an address to every group that it belongs to by
	// itself, in the order of their names: the list of a prefix also holds
	// the groups of all prefixes around it, so the longest match is the whole
	// answer. Fast costs about 800 bytes a document and saves a twelfth of
	// the instructions of a decision.
	members bart.Fast[[]*group]

	// proven leads from a credential to the groups that ask for it first;
	// credentials are all that any group asks for, and asking the groups that
	// ask for some, by name.
	proven      map[Digest][]*group
	credentials []*credential
	asking      []*group
	reading     reading

	groups map[string]*group // all, by name, for comparing
	allows Digest            // stands for all that is granted
}

type group struct {
	name  string
	cells []cell // of one program each: few, so looking is quicker than hashing

	// The reasons, made once so that deciding need not.
	allowed, denied string

	from   *bart.Lite // of a group that asks for credentials; nil: everywhere
	prove  []*credential
	ranges []netip.Prefix // that its members come from, for comparing
	like   Digest         // stands for the definition of its members
}

// cell is a [Cell] whose ranges are sorted and do not touch.
type cell struct {
	program string
	level   string
	ports   []PortRange
	all     bool
}

// cell is what the group may do with a program; nil when it does not name it.
func (g *group) cell(program string) *cell {
	for i := range g.cells {
		if g.cells[i].program == program {
			return &g.cells[i]
		}
	}
	return nil
}

func (c *cell) allows(port uint16) bool {
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

// matches reports whether a group that asks for credentials has the caller,
// and until when.
func (g *group) matches(client netip.Addr, id Identity, now time.Time) (until time.Time, ok bool) {
	if g.from != nil && !g.from.Contains(client) {
		return time.Time{}, false
	}
	for _, c := range g.prove {
		end, ok := id.proves(&c.id, now)
		if !ok {
			return time.Time{}, false
		}
		if later(until, end) {
			until = end
		}
	}
	return until, true
}

// decide judges a caller. Of the cells of all groups that the caller belongs
// to the one with the highest level counts, and it allows what needs no more.
// A group that names the program without allowing the request denies; the
// default is for callers of whom no group says anything. The ruling is put in
// Verdict, Why, Group, Until and Ask of out; rank is that of the level that is
// granted.
func (d *document) decide(client netip.Addr, e *endpoint, r *Request, out *Decision) (rank int) {
	full := e.of.rank("")
	if d == nil {
		out.Verdict, out.Why = Allow, "no permissions document"
		return full
	}
	var best, named *group
	rank = -1 // of best, as out.Until
	need := e.of.needs(r)
	weigh := func(g *group, ends time.Time) {
		c := g.cell(e.program)
		if c == nil {
			return
		}
		if named == nil {
			named = g
		}
		if !c.allows(e.number) {
			return
		}
		if has := e.of.rank(c.level); has > rank || has == rank && later(ends, out.Until) {
			best, rank, out.Until = g, has, ends
		}
	}
	alone, _ := d.members.Lookup(client)
	for _, g := range alone {
		weigh(g, time.Time{})
	}
	for i := range r.Identity.proofs {
		for _, g := range d.proven[r.Identity.proofs[i].Credential] {
			if ends, ok := g.matches(client, r.Identity, r.Time); ok {
				weigh(g, ends)
			}
		}
	}
	switch {
	case rank >= need:
		out.Verdict, out.Why, out.Group = Allow, best.allowed, best.name
		return rank
	case named == nil && d.fallback == Allow:
		out.Verdict, out.Why = Allow, "allowed by default"
		return full
	}
	out.Verdict, out.Why, out.Ask = Deny, "denied by default", d.helps(client, e, need, r)
	if named != nil {
		out.Why, out.Group = named.denied, named.name
	}
	return rank
}

// helps are the ways to ask for credentials with which the refused caller would
// belong to a group that allows the request.
func (d *document) helps(client netip.Addr, e *endpoint, need int, r *Request) (ask Ask) {
	for _, g := range d.asking {
		c := g.cell(e.program)
		if c == nil || !c.allows(e.number) || e.of.rank(c.level) < need || g.from != nil && !g.from.Contains(client) {
			continue
		}
		for _, want := range g.prove {
			if _, ok := r.Identity.proves(&want.id, r.Time); !ok {
				ask |= want.asks()
			}
		}
	}
	return ask
}

func compileDocument(p *Permissions) (*document, error) {
	var problems []error
	if p.Default != Allow && p.Default != Deny {
		problems = append(problems, fmt.Errorf("permissions: the default is %q", p.Default))
	}
	d := &document{fallback: p.Default, proven: map[Digest][]*group{}, groups: map[string]*group{}}
	known := map[Digest]*credential{}
	var exact bart.Table[[]*group]
	// Groups that may do the same share their cells: what is at hand for one
	// decision serves the next, whoever calls.
	alike := map[string][]cell{} // by their text
	for _, name := range names(p.Groups) {
		in := p.Groups[name]
		who, err := in.members()
		if err != nil {
			problems = append(problems, fmt.Errorf("permissions: group %q: %w", name, err))
			continue
		}
		g := &group{
			name:    name,
			like:    who.digest(),
			allowed: "allowed by group " + name,
			denied:  "denied by group " + name,
		}
		for _, program := range names(p.Cells[name]) {
			c, err := compileCell(p.Cells[name][program])
			if err != nil {
				problems = append(problems, fmt.Errorf("permissions: group %q, program %q: %w", name, program, err))
			}
			c.program = program
			g.cells = append(g.cells, c)
		}
		text := fmt.Sprintf("%#v", g.cells)
		if same, ok := alike[text]; ok {
			g.cells = same
		}
		alike[text] = g.cells
		d.groups[name] = g
		if who.empty {
			continue
		}
		g.ranges = who.ranges
		if len(who.prove) > 0 {
			d.asking = append(d.asking, g)
			for _, c := range who.prove {
				if known[c.id] == nil {
					known[c.id] = c
					d.credentials = append(d.credentials, c)
					d.reads(c)
				}
				g.prove = append(g.prove, known[c.id])
			}
			if !who.anywhere {
				g.from = new(bart.Lite)
				for _, r := range who.ranges {
					g.from.Insert(r)
				}
			}
			first := g.prove[0].id
			d.proven[first] = append(d.proven[first], g)
			continue
		}
		for _, r := range who.ranges {
			exact.Modify(r, func(gs []*group, _ bool) ([]*group, bool) {
				if slices.Contains(gs, g) {
					return gs, false
				}
				return append(gs, g), false
			})
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

	for prefix := range exact.All() {
		var around []*group
		for _, groups := range exact.Supernets(prefix) {
			around = append(around, groups...)
		}
		slices.SortFunc(around, func(a, b *group) int { return strings.Compare(a.name, b.name) })
		d.members.Insert(prefix, slices.Compact(around))
	}
	return d.sealed(), nil
}

func compileCell(c Cell) (cell, error) {
	if c.All {
		return cell{all: true, level: c.Level}, nil
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
	return cell{ports: merged, level: c.Level}, nil
}
