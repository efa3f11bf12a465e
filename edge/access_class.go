package edge

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
)

// class are hosts of a container that the same holds for: a program's name with
// the numbers from lo to hi, and what they lead to in each of two tables.
type class struct {
	name     string
	lo, hi   uint16
	from, to reach
	changed  bool // they lead elsewhere, or levels mean something else
}

// reach is what permissions know a class as.
type reach struct {
	ok      bool // false: 404
	program string
	first   uint16 // number that the class's lo leads to
	of      *program
}

func (r reach) at(c *class, n uint16) uint16 { return r.first + (n - c.lo) }

// alikeLevels reports whether ranks of levels mean the same.
func alikeLevels(a, b *program) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.levels, b.levels) && a.honours == b.honours
}

// classes are the hosts of a container that documents or catalogues may judge
// differently in two tables. Programs that no cell names are left out where the
// catalogues are equal: only the default is about them.
func classes(from, to side) []class {
	if from.catalogue.digest() == to.catalogue.digest() {
		return sameClasses(from, to)
	}
	a, b := from.catalogue, to.catalogue
	out := portClasses(a, b)
	out = append(out, sameClasses(side{from.document, nil}, side{to.document, nil})...) // ssh
	all := map[string]bool{}
	for _, c := range []*catalogue{a, b} {
		if c != nil {
			for name := range c.byName {
				all[name] = true
			}
		}
	}
	named := func(c *catalogue, name string) *program {
		if c == nil {
			return nil
		}
		return c.byName[name]
	}
	for _, name := range names(all) {
		was, is := named(a, name), named(b, name)
		if canonical := cmpName(was, is); canonical != name && named(a, canonical) == was && named(b, canonical) == is {
			continue // its own name says it all
		}
		out = append(out, kitClasses(name, was, is)...)
	}
	return out
}

// cmpName is the name by which permissions know a program of either table.
func cmpName(was, is *program) string {
	if is != nil {
		return is.name
	}
	return was.name
}

// kitClasses are the instances of a program's name; a program may be nil.
func kitClasses(name string, was, is *program) (out []class) {
	r := func(p *program, n uint16) reach {
		if p == nil || n > p.instances {
			return reach{}
		}
		return reach{true, p.name, n, p}
	}
	lo := uint16(1)
	var ends []uint16
	for _, p := range []*program{was, is} {
		if p != nil {
			ends = append(ends, p.instances)
		}
	}
	slices.Sort(ends)
	for _, hi := range slices.Compact(ends) {
		c := class{name: name, lo: lo, hi: hi, from: r(was, lo), to: r(is, lo)}
		c.changed = c.from.ok != c.to.ok || c.from.program != c.to.program || !alikeLevels(was, is)
		out = append(out, c)
		lo = hi + 1
	}
	return out
}

// portClasses are the hosts of http and https, between the ports that belong
// to a program in one of the catalogues.
func portClasses(a, b *catalogue) (out []class) {
	var cuts []int
	for _, c := range []*catalogue{a, b} {
		if c != nil {
			for _, s := range c.spans {
				cuts = append(cuts, int(s.first), int(s.last)+1)
			}
		}
	}
	for _, name := range []string{programHTTP, programHTTPS} {
		for lo, hi := range intervals(&class{lo: 1, hi: math.MaxUint16}, inside(cuts)) {
			c := class{name: name, lo: lo, hi: hi, from: portReach(a, name, lo), to: portReach(b, name, lo)}
			if c.from.of != nil && c.to.of != nil && c.from.of.name == c.to.of.name && c.from.first == c.to.first {
				continue // the program's own hosts say it all
			}
			c.changed = c.from.ok != c.to.ok || c.from.program != c.to.program
			out = append(out, c)
		}
	}
	return out
}

// inside are the cuts behind the first port and before the last.
func inside(cuts []int) []int {
	return slices.DeleteFunc(slices.Clone(cuts), func(n int) bool { return n <= 1 || n > math.MaxUint16 })
}

func portReach(c *catalogue, name string, port uint16) reach {
	if c == nil {
		return reach{}
	}
	var e endpoint
	c.at(port, name, &e)
	return reach{true, e.program, e.number, e.of}
}

// sameClasses are those of two sides with one catalogue.
func sameClasses(from, to side) (out []class) {
	named := map[string]bool{}
	for _, s := range []side{from, to} {
		for _, g := range s.groups() {
			for i := range g.cells {
				named[g.cells[i].program] = true
			}
		}
	}
	for _, name := range names(named) {
		r := reach{true, name, 1, nil}
		hi := uint16(math.MaxUint16)
		switch {
		case name == programSSH:
		case to.catalogue == nil:
			continue
		case name != programHTTP && name != programHTTPS:
			p := to.catalogue.byName[name]
			if p == nil || p.name != name {
				continue
			}
			r.of, hi = p, p.instances
		}
		c := class{name: name, lo: 1, hi: hi, from: r, to: r}
		if from.catalogue != nil && r.of != nil { // another one of equal content
			c.from.of = from.catalogue.byName[name]
		}
		out = append(out, c)
	}
	return out
}

// digest stands for what a catalogue says; nil has one of its own.
func (c *catalogue) digest() Digest {
	if c == nil {
		return Digest{}
	}
	return c.says
}

func digestOf(v any) Digest { return sha256.Sum256(fmt.Appendf(nil, "%+v", v)) }
