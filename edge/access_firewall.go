package edge

import "slices"

// digest stands for the rules; none have one of their own.
func (in *ingress) digest() Digest {
	if in == nil {
		return Digest{}
	}
	return in.says
}

// firewallChanges are what other rules of the firewall change for callers whom
// the permissions let in. They say that somebody may gain or lose, not who: the
// rules themselves do.
func firewallChanges(b, n *container) (out []AccessChange) {
	// Rules judge ports, and another catalogue may lead programs to others.
	moved := b.catalogue.digest() != n.catalogue.digest() && (b.ingress != nil || n.ingress != nil)
	if b.ingress.digest() == n.ingress.digest() && !moved {
		return nil
	}
	rules := func(in *ingress) (allow, deny []Digest, closed bool) {
		if in == nil {
			return nil, nil, false
		}
		return in.allows, in.denies, in.closed
	}
	allowWas, denyWas, closedWas := rules(b.ingress)
	allowIs, denyIs, closedIs := rules(n.ingress)
	more := func(a, b []Digest) bool { // some of b is not in a
		return slices.ContainsFunc(b, func(d Digest) bool { return !slices.Contains(a, d) })
	}
	c := AccessChange{Program: "*", Numbers: "*", Subject: Subject{Kind: SubjectFirewall, Who: "its rules"}}
	if after := sideOf(n); (moved || closedWas && (!closedIs || more(allowWas, allowIs)) || more(denyIs, denyWas)) && after.admits() {
		c := c
		c.Gains, c.Opens = true, after.admitsStrangers()
		out = append(out, c)
	}
	if before := sideOf(b); (moved || closedIs && (!closedWas || more(allowIs, allowWas)) || more(denyWas, denyIs)) && before.admits() {
		out = append(out, c)
	}
	return out
}

// admits reports whether anybody gets in.
func (s side) admits() bool {
	if s.open() {
		return true
	}
	for _, g := range s.groups() {
		if !g.who().nobody() && slices.ContainsFunc(g.cells, func(c cell) bool { return c.all || len(c.ports) > 0 }) {
			return true
		}
	}
	return false
}

// admitsStrangers reports whether somebody gets in who is in no group, or in
// one that has every address.
func (s side) admitsStrangers() bool {
	if s.open() {
		return true
	}
	for _, g := range s.groups() {
		if g.prove == nil && holdsEverybody(g.ranges) && slices.ContainsFunc(g.cells, func(c cell) bool { return c.all || len(c.ports) > 0 }) {
			return true
		}
	}
	return false
}
