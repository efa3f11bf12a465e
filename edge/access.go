package edge

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// AccessChange is one thing that somebody may do under a table and could not
// under the one before, or the reverse. It holds no secret and no generated
// host: the IDs in one work as a credential.
type AccessChange struct {
	// Gains says that access is gained, otherwise it is lost.
	Gains bool `json:"gains"`

	// Opens says that somebody gains who is in no group, or in one that has
	// every address.
	Opens bool `json:"opens,omitempty"`

	Subject Subject `json:"subject"`

	// Program as hosts name it, and its numbers as a cell is written: ports of
	// http and https, instances of others. "*" is every program, every number.
	Program string      `json:"program"`
	Numbers string      `json:"numbers"`
	ports   []PortRange // Numbers; nil: all

	// Level is up to where a gain reaches, empty for the full level; of a loss
	// it is the level that is kept, empty for none.
	Level string `json:"level,omitempty"`

	// Containers by project/name, sorted; More is how many there are beside
	// them, where a comparison would name more than 200,000. Changes may share
	// the slice.
	Containers []string `json:"containers"`
	More       int      `json:"more,omitempty"`

	// OwnHosts says that the generated hosts of the containers are meant. Hosts
	// are aliases and custom domains through which the change is felt as well,
	// or alone. Where it concerns more than 100 containers they are not listed.
	OwnHosts bool     `json:"own_hosts"`
	Hosts    []string `json:"hosts,omitempty"`

	// Path is the part of Hosts that is meant, "" for all that no other part
	// has. TargetPath is what "/" leads to there. Exact says that no other path
	// is meant, Rest that every other one is.
	Path       string `json:"path,omitempty"`
	TargetPath string `json:"target_path,omitempty"`
	Exact      bool   `json:"exact,omitempty"`
	Rest       bool   `json:"rest,omitempty"`

	// From and Until bound the time for which a change by the expiry of an alias
	// holds; nil: now, and for ever.
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`

	// Field asks for the change, and stands At file:line:column: in the new
	// fleet, or in the old one where something was taken away. Both are empty
	// for a table that was made without Config.Where.
	Field string `json:"field,omitempty"`
	At    string `json:"at,omitempty"`
}

// Kinds of a Subject.
const (
	SubjectEveryone = "everyone" // of whom no group says anything
	SubjectRanges   = "ip"
	SubjectPassword = "password"
	SubjectToken    = "token"
	SubjectJWT      = "jwt"
	SubjectAll      = "all"      // who meets several of these at once
	SubjectFirewall = "firewall" // whom the firewall lets through, or no longer
)

// Subject is who gains or loses.
type Subject struct {
	Kind  string `json:"kind"`
	Group string `json:"group,omitempty"`

	// Who says in words how its members are known.
	Who string `json:"who"`

	// Ranges are the addresses that gain or lose: of those of the group not the
	// ones that have the same by another group, or had it before. With
	// credentials beside them both are asked for.
	Ranges []netip.Prefix `json:"ranges,omitempty"`

	// Changed says that a group of this name had other credentials.
	Changed bool `json:"changed,omitempty"`

	holders []Digest // credentials that a member proves
}

// Cause is a part of a fleet that asks for a change of access.
type Cause struct {
	Kind      CauseKind
	Container string // its name in the table; empty for one of an alias
	Group     string
	Program   string
	Alias     string
	Detail    string // of an alias: a path, or a domain
}

// CauseKind tells what part of the fleet a Cause is.
type CauseKind uint8

const (
	CauseContainer CauseKind = iota // there is no document
	CauseCell
	CauseGroup
	CauseDefault
	CauseEnableProxy
	CausePrograms
	CauseFirewall
	CauseAlias
	CauseDomain
	CausePath
	CauseTargetPath
	CauseOverride
	CauseExpiry
)

// mostNamed is how many containers a change may have and name its hosts, and
// how many it names once a comparison has named mostNames.
const (
	mostNamed = 100
	mostNames = 200000
)

// CompareAccess returns what now allows and before did not, and the reverse,
// sorted. A nil Table allows nothing. Who a group has and what it may do counts,
// not where a container runs or whether it does. Times count from at: an alias
// that has expired by then is not there.
//
// If a caller is answered differently by the tables, but for a container that
// does not run, some change covers it. The hosts api and git are no container's
// and have no part in it.
func CompareAccess(before, now *Table, at time.Time) []AccessChange {
	x := &comparison{before: before, now: now, at: at, left: steps}
	x.containers()
	if before == nil || now == nil || before.leads != now.leads || before.zone != now.zone {
		x.aliases()
	}
	x.finish()
	return x.out
}

type comparison struct {
	before, now *Table
	at          time.Time
	left        int                  // of the steps
	named       int                  // containers, in all changes
	uses        map[*container][]use // unchanged ways of aliases, by container of now
	out         []AccessChange
}

// use is a way of an alias that leads to the same before and now.
type use struct {
	host    string
	program string
	number  uint16
}

// pairing is what differs between two containers that are the same, or between
// one and none. Most pairs of a fleet are equal to another.
type pairing struct {
	before, now     *document
	catBefore, cat  *catalogue
	closed          bool // one of the two is closed
	noneBefore      bool
	noneNow         bool
	firewall, rules Digest
}

func (x *comparison) containers() {
	type pair struct{ before, now *container }
	var pairs []pair
	was, is := x.before.allSections(), x.now.allSections()
	sameZone := x.before != nil && x.now != nil && x.before.zone == x.now.zone
	var olds, news []*container
	for i := range was {
		if was[i].digest != is[i].digest || !sameZone {
			olds, news = append(olds, was[i].containers...), append(news, is[i].containers...)
		}
	}
	matched := map[*container]bool{}
	for _, n := range news {
		b := x.twin(n, x.now, x.before)
		if b != nil {
			matched[b] = true
		}
		pairs = append(pairs, pair{b, n})
	}
	for _, b := range olds {
		if !matched[b] && x.twin(b, x.before, x.now) == nil {
			pairs = append(pairs, pair{b, nil})
		}
	}
	alike := map[pairing][]*container{}
	var order []pairing
	first := map[pairing]pair{}
	for _, p := range pairs {
		key := pairingOf(p.before, p.now)
		if p.before != nil && p.now != nil && key.equal() {
			continue
		}
		if _, known := first[key]; !known {
			first[key], order = p, append(order, key)
		}
		one := p.now
		if one == nil {
			one = p.before
		}
		alike[key] = append(alike[key], one)
	}
	if len(order) > 0 {
		x.findUses()
	}
	for _, key := range order {
		p := first[key]
		x.pair(p.before, p.now, alike[key])
	}
}

// equal reports whether the two judge alike.
func (p *pairing) equal() bool {
	return p.before.digest() == p.now.digest() && p.catBefore.digest() == p.cat.digest() && p.firewall == p.rules
}

func pairingOf(b, n *container) pairing {
	p := pairing{noneBefore: b == nil, noneNow: n == nil}
	if b != nil {
		p.before, p.catBefore, p.firewall = b.judges(), b.catalogue, b.ingress.digest()
	}
	if n != nil {
		p.now, p.cat, p.rules = n.judges(), n.catalogue, n.ingress.digest()
	}
	p.closed = (b != nil && b.closed) != (n != nil && n.closed)
	return p
}

// twin is the same container in another table than its own: by its IDs, or by
// name where one of the two is not made yet.
func (x *comparison) twin(c *container, own, in *Table) *container {
	if own == nil || in == nil || own.zone != in.zone {
		return nil
	}
	made := c.key != (key{})
	if made {
		if other := in.byKey.find(&c.key); other != nil {
			return other
		}
	}
	for _, other := range in.sections.of(c.name).containers {
		switch {
		case other.name != c.name:
		case other.key == (key{}), !made && own.byKey.find(&other.key) == nil:
			return other
		}
	}
	return nil
}

// pair puts out what differs for containers that differ alike; b or n is nil
// where they are not.
func (x *comparison) pair(b, n *container, all []*container) {
	before, now := sideOf(b), sideOf(n)
	if b == nil {
		before.catalogue = now.catalogue
	}
	if n == nil {
		now.catalogue = before.catalogue
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *container) int { return strings.Compare(a.name, b.name) })
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = one.name
	}
	var found []gain
	for _, g := range gains(before, now, &x.left) {
		found = append(found, g.gained())
	}
	for _, g := range gains(now, before, &x.left) {
		found = append(found, g.lost())
	}
	toggled := (b != nil && b.closed) != (n != nil && n.closed)
	for _, g := range found {
		if toggled {
			g.cause = Cause{Kind: CauseEnableProxy}
		}
		x.put(g.change, g.cause, all, names)
	}
	if b != nil && n != nil {
		for _, c := range firewallChanges(b, n) {
			x.put(c, Cause{Kind: CauseFirewall}, all, names)
		}
	}
}

// put adds a change of some containers, which names are those of. Where each has
// its own place in the files it is put in once for each.
func (x *comparison) put(c AccessChange, cause Cause, all []*container, names []string) {
	shared := cause.Kind == CauseCell || cause.Kind == CauseGroup || cause.Kind == CauseDefault
	for n := len(all); n > 0; n = len(all) {
		if !shared {
			n = 1
		}
		part, c := all[:n], c
		c.OwnHosts, c.Containers = true, names[:n:n]
		all, names = all[n:], names[n:]
		if x.named += n; x.named > mostNames && n > mostNamed {
			c.Containers, c.More = c.Containers[:mostNamed:mostNamed], n-mostNamed
		}
		if n <= mostNamed {
			c.Hosts = x.hosts(part, &c)
		}
		cause.Container = part[0].name
		c.Field, c.At = x.where(cause)
		x.out = append(x.out, c)
	}
}

// hosts are those of aliases that lead some containers, before and now, to what
// a change is about.
func (x *comparison) hosts(all []*container, c *AccessChange) (out []string) {
	about := cell{ports: c.ports, all: c.ports == nil}
	for _, one := range all {
		for _, u := range x.uses[one] {
			if c.Program == "*" || c.Program == u.program && about.allows(u.number) {
				out = append(out, u.host)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// where finds the place of a cause: in what is new, else in what was before.
func (x *comparison) where(c Cause) (field, at string) {
	for _, t := range []*Table{x.now, x.before} {
		if t == nil || t.where == nil {
			continue
		}
		if field, at := t.where(c); at != "" {
			return field, at
		}
	}
	return "", ""
}

func (x *comparison) finish() {
	slices.SortStableFunc(x.out, func(a, b AccessChange) int {
		return cmp.Or(
			strings.Compare(a.Containers[0], b.Containers[0]),
			trueFirst(a.OwnHosts, b.OwnHosts),
			slices.Compare(a.Hosts, b.Hosts),
			strings.Compare(a.Path, b.Path),
			trueFirst(a.Gains, b.Gains),
			strings.Compare(a.Subject.Group, b.Subject.Group),
			strings.Compare(a.Program, b.Program),
			strings.Compare(a.Numbers, b.Numbers),
			strings.Compare(a.Level, b.Level),
			strings.Compare(a.Subject.Who, b.Subject.Who),
			len(a.Containers)-len(b.Containers),
			strings.Compare(a.At, b.At),
		)
	})
}

// trueFirst sorts what is true before what is false.
func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
