package edge

import (
	"fmt"
	"math"
	"slices"
)

// side is what judges a container in one of two tables. The zero side lets
// nobody in.
type side struct {
	document  *document // nil: none, which allows
	catalogue *catalogue
}

func sideOf(c *container) side {
	if c == nil {
		return side{document: shut}
	}
	return side{c.judges(), c.catalogue}
}

func (s side) groups() map[string]*group {
	if s.document == nil {
		return nil
	}
	return s.document.groups
}

// open reports whether those are let in of whom no group says anything.
func (s side) open() bool { return s.document == nil || s.document.fallback == Allow }

// grant is how far a cell lets its group into a program: nowhere, up to a
// level, or everywhere.
type grant struct {
	rank  int
	level string
}

var nothing, everything = grant{rank: -1}, grant{rank: math.MaxInt}

func granted(c *cell, p *program, n uint16) grant {
	if c == nil || !c.allows(n) {
		return nothing
	}
	rank := p.rank(c.level)
	switch {
	case rank < 0:
		return nothing
	case p == nil || len(p.levels) == 0 || rank == len(p.levels)-1:
		return everything
	}
	return grant{rank, c.level}
}

// lessThan reports whether a grant of one table may be less than one of
// another.
func lessThan(a, b grant, alike bool) bool {
	switch {
	case b.rank < 0, a == everything:
		return false
	case a.rank < 0, b == everything, !alike:
		return true
	}
	return a.rank < b.rank
}

// steps bounds what a comparison of two tables may take, in looks at a cell of
// another group. What would need more is compared group by group, by name and
// definition: a change may then name somebody who had the same from another
// group.
const steps = 1 << 22

// gain is a change with what asks for it, seen from the side that has more:
// level is what it allows of the program, kept what the other side does.
type gain struct {
	change      AccessChange
	cause       Cause
	level, kept string
}

// gains is what one side lets callers do that another did not.
func gains(from, to side, left *int) []gain {
	g := &gaining{from: from, to: to, left: left, known: map[string]int{}, like: map[Digest][]*group{}, likeTo: map[Digest][]*group{}}
	for _, name := range names(from.groups()) {
		group := from.groups()[name]
		g.like[group.like] = append(g.like[group.like], group)
	}
	for _, name := range names(to.groups()) {
		group := to.groups()[name]
		g.likeTo[group.like] = append(g.likeTo[group.like], group)
	}
	g.everyone = !from.open() && to.open() && to.catalogue != nil
	if g.everyone {
		g.put(&class{name: "*"}, nil, who{}, everything, nothing, false, 1, math.MaxUint16)
	}
	for _, c := range classes(from, to) {
		g.class(&c)
	}
	return g.result()
}

type gaining struct {
	from, to     side
	left         *int // of the steps
	everyone     bool // gains every program
	like, likeTo map[Digest][]*group
	found        []found
	known        map[string]int // index in found
}

// found is a gain whose numbers are still being counted.
type found struct {
	class   class
	group   *group // nil: everyone
	by      bool   // by default: what the group was denied is no longer
	left    who
	level   grant
	kept    grant
	numbers []PortRange
}

func (g *gaining) put(c *class, group *group, left who, level, kept grant, by bool, lo, hi uint16) {
	name := ""
	if group != nil {
		name = group.name
	}
	key := fmt.Sprintf("%s %s %q %v %v %t %s %s", c.name, c.to.program, name, left.ranges, c.changed, by, level.level, kept.level)
	i, ok := g.known[key]
	if !ok {
		i = len(g.found)
		g.known[key] = i
		g.found = append(g.found, found{class: *c, group: group, left: left, level: level, kept: kept, by: by})
	}
	g.found[i].numbers = append(g.found[i].numbers, PortRange{lo, hi})
}

func (g *gaining) class(c *class) {
	if !c.to.ok {
		return
	}
	fromOpen, toOpen := c.from.ok && g.from.open(), g.to.open()
	if toOpen && !fromOpen && !g.everyone {
		g.put(c, nil, who{}, everything, nothing, false, c.lo, c.hi)
	}
	precise := g.precise(c)
	for _, name := range names(g.to.groups()) {
		now := g.to.groups()[name]
		if cell := now.cell(c.to.program); cell != nil && !now.who().nobody() {
			g.grants(c, now, cell, precise)
		}
	}
	if toOpen && fromOpen {
		for _, name := range names(g.from.groups()) {
			was := g.from.groups()[name]
			if cell := was.cell(c.from.program); cell != nil && !was.who().nobody() {
				g.lifted(c, was, cell, precise)
			}
		}
	}
}

// precise reports whether all groups may be compared with each other.
func (g *gaining) precise(c *class) bool {
	count := func(groups map[string]*group, other side, program, there string) (all, weight, changed int) {
		for _, x := range groups {
			cell := x.cell(program)
			if cell == nil {
				continue
			}
			all, weight = all+1, weight+1+len(cell.ports)
			if o := other.groups()[x.name]; c.changed || o == nil || o.like != x.like || o.cell(there) == nil || !o.cell(there).equal(cell) {
				changed++
			}
		}
		return all, weight, changed
	}
	n, a, ended := count(g.from.groups(), g.to, c.from.program, c.to.program)
	m, b, changed := count(g.to.groups(), g.from, c.to.program, c.from.program)
	cost := (ended + changed) * (n + m) * (a + b)
	if cost > *g.left {
		return false
	}
	*g.left -= cost
	return true
}

// others are the groups of a side that a group is compared with.
func others(s side, like map[Digest][]*group, g *group, program string, precise bool) (out []*group) {
	take := func(x *group) {
		if x != nil && x.cell(program) != nil && !x.who().nobody() && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	take(s.groups()[g.name])
	for _, x := range like[g.like] {
		take(x)
	}
	if precise {
		for _, name := range names(s.groups()) {
			take(s.groups()[name])
		}
	}
	return out
}

// grants puts out what a cell gives that its group did not have.
func (g *gaining) grants(c *class, now *group, to *cell, precise bool) {
	alike := alikeLevels(c.from.of, c.to.of)
	if was := g.from.groups()[now.name]; !c.changed && was != nil && was.like == now.like {
		if old := was.cell(c.from.program); old != nil && old.equal(to) {
			return
		}
	}
	var had []*group
	if c.from.ok {
		had = others(g.from, g.like, now, c.from.program, precise)
	}
	cuts := cutsOf(c, to, c.to.first)
	for _, h := range had {
		cuts = append(cuts, cutsOf(c, h.cell(c.from.program), c.from.first)...)
	}
	for lo, hi := range intervals(c, cuts) {
		level := granted(to, c.to.of, c.to.at(c, lo))
		if level == nothing {
			continue
		}
		if (c.from.ok && g.from.open() || g.to.open()) && !g.restricted(c, now, level, alike, lo, precise) {
			continue // everybody had it, or everybody gains it
		}
		left, kept := now.who(), nothing
		for _, h := range had {
			has := granted(h.cell(c.from.program), c.from.of, c.from.at(c, lo))
			if has == nothing {
				continue
			}
			if !lessThan(has, level, alike) {
				left = left.minus(h.who())
			} else if lessThan(kept, has, alike) && now.who().minus(h.who()).nobody() {
				kept = has
			}
		}
		if !left.nobody() {
			g.put(c, now, left, level, kept, false, lo, hi)
		}
	}
}

// restricted reports whether a group has a member who had less than a level
// because another group has, or whom another group would deny it now.
func (g *gaining) restricted(c *class, now *group, level grant, alike bool, n uint16, precise bool) bool {
	if !precise {
		return true
	}
	if c.from.ok && g.from.open() {
		for _, h := range g.from.groups() {
			if cell := h.cell(c.from.program); cell != nil && !h.who().apart(now.who()) &&
				lessThan(granted(cell, c.from.of, c.from.at(c, n)), level, alike) {
				return true
			}
		}
		return false
	}
	for _, h := range g.to.groups() {
		if cell := h.cell(c.to.program); cell != nil && granted(cell, c.to.of, c.to.at(c, n)) != everything && !h.who().apart(now.who()) {
			return true
		}
	}
	return false
}

// lifted puts out what a cell took from its group, and no cell takes now.
func (g *gaining) lifted(c *class, was *group, old *cell, precise bool) {
	now := others(g.to, g.likeTo, was, c.to.program, precise)
	left := was.who()
	for _, k := range now {
		left = left.minus(k.who())
	}
	if left.nobody() {
		return
	}
	for lo, hi := range intervals(c, cutsOf(c, old, c.from.first)) {
		if had := granted(old, c.from.of, c.from.at(c, lo)); had != everything {
			g.put(c, was, left, everything, had, true, lo, hi)
		}
	}
}

// result makes changes of what was found.
func (g *gaining) result() []gain {
	out := make([]gain, 0, len(g.found))
	for _, f := range g.found {
		c := AccessChange{Program: f.class.name, Numbers: "*"}
		if merged, err := compileCell(Cell{Ports: f.numbers}); err == nil && !f.whole(merged.ports) {
			c.Numbers, c.ports = merged.String(), merged.ports
		}
		cause := Cause{Kind: CauseDefault, Program: f.class.to.program}
		switch {
		case f.group == nil:
			c.Subject, c.Opens = Subject{Kind: SubjectEveryone, Who: "by default"}, true
			if g.to.document == nil {
				c.Subject.Who, cause.Kind = "no permissions", CauseContainer
			}
			if f.class.changed {
				cause.Kind = CausePrograms
			}
		default:
			other := g.from.groups()[f.group.name]
			all := holdsEverybody(f.group.ranges)
			c.Subject = f.group.subject(f.left, all || other == nil || other.ranges == nil)
			c.Opens = all && f.left.prove == nil
			cause.Group = f.group.name
			cause.Kind = CauseCell
			switch {
			case other == nil || f.by:
			case other.like != f.group.like:
				c.Subject.Changed = f.group.prove != nil || other.prove != nil
				a, b := other.cell(f.class.from.program), f.group.cell(f.class.to.program)
				if a != nil && b != nil && a.equal(b) {
					cause.Kind = CauseGroup
				}
			case f.class.changed:
				cause.Kind = CausePrograms
			}
		}
		out = append(out, gain{c, cause, f.level.level, f.kept.level})
	}
	return out
}

// whole reports whether numbers are all that a program has.
func (f *found) whole(numbers []PortRange) bool {
	if len(numbers) != 1 || numbers[0].First != 1 {
		return false
	}
	last := uint16(math.MaxUint16)
	if p := f.class.to.of; p != nil && f.class.name != programHTTP && f.class.name != programHTTPS {
		last = p.instances
	}
	return numbers[0].Last >= last
}

// equal reports whether two cells grant the same of one program.
func (c *cell) equal(o *cell) bool {
	return c.all == o.all && c.level == o.level && slices.Equal(c.ports, o.ports)
}

// cutsOf are the numbers of a class's hosts at which a cell begins to allow or
// to refuse.
func cutsOf(c *class, x *cell, first uint16) (out []int) {
	if x == nil {
		return nil
	}
	for _, r := range x.ports {
		for _, n := range []int{int(r.First), int(r.Last) + 1} {
			if at := n - int(first) + int(c.lo); at > int(c.lo) && at <= int(c.hi) {
				out = append(out, at)
			}
		}
	}
	return out
}

// intervals yields the parts of a class between cuts.
func intervals(c *class, cuts []int) func(yield func(lo, hi uint16) bool) {
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	return func(yield func(lo, hi uint16) bool) {
		lo := int(c.lo)
		for _, cut := range append(cuts, int(c.hi)+1) {
			if !yield(uint16(lo), uint16(cut-1)) {
				return
			}
			lo = cut
		}
	}
}

// gained is the change, from the side that has less to the one that has more.
func (g gain) gained() gain {
	g.change.Gains, g.change.Level = true, g.level
	return g
}

// lost is the change the other way.
func (g gain) lost() gain {
	g.change.Opens, g.change.Level = false, g.kept
	return g
}
