package edge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// naive is [P3] and [P4] of the specification, sentence by sentence, with no
// thought of speed and nothing of the real one.
type naive struct {
	config Config
	holds  func(Group) (until time.Time, ok bool) // the credentials of the caller
}

// outcomeOf is what becomes of a request to a program and number of a
// container.
func (n naive) outcomeOf(c Container, program string, number uint16, r Request) (status int, level string, ask Ask) {
	// "http-<n> and https-<n> on a port that belongs to a kit program are
	// decided as that program."
	var kind Program
	for _, p := range c.Catalogue.Programs {
		if program == "http" || program == "https" {
			switch last := int(p.InstanceBase) + p.Instances - 1; {
			case number == p.Port:
				program, number, kind = p.Name, 1, p
			case p.InstanceBase > 0 && number >= p.InstanceBase && int(number) <= last:
				program, number, kind = p.Name, number-p.InstanceBase+1, p
			}
		} else if p.Name == program {
			kind = p
		}
	}
	full := ""
	if len(kind.Levels) > 0 {
		full = kind.Levels[len(kind.Levels)-1]
	}
	verdict := "deny"
	switch p := c.Permissions; {
	case c.Closed: // "effective enable_proxy: false → 503"
		return 503, "", 0
	case p == nil: // "no document → allow"
		verdict, level = "allow", full
	default:
		// "otherwise collect the groups the request belongs to"
		names := false
		for name, g := range p.Groups {
			if !n.belongs(g, r) {
				continue
			}
			cell, ok := p.Cells[name][program]
			if !ok {
				continue
			}
			names = true
			if !n.covers(cell, number) {
				continue
			}
			granted := cell.Level
			if granted == "" {
				granted = full
			}
			// "any cell that allows → allow"
			if n.suffices(kind, granted, r) {
				verdict = "allow"
			}
			if n.above(kind, granted, level) {
				level = granted
			}
		}
		// "else any matching group's cell that names the program → deny; else
		// default"
		if verdict != "allow" && !names && p.Default == Allow {
			verdict, level = "allow", full
		}
	}
	if verdict != "allow" {
		// "401 with WWW-Authenticate where a credential could still help,
		// otherwise 403"
		for name, g := range c.Permissions.Groups {
			cell, ok := c.Permissions.Cells[name][program]
			granted := cell.Level
			if granted == "" {
				granted = full
			}
			if ok && n.covers(cell, number) && n.suffices(kind, granted, r) {
				ask |= n.lacks(g, r)
			}
		}
		if ask != 0 {
			return 401, "", ask
		}
		return 403, "", 0
	}
	if !c.Addr.IsValid() { // "container not running → 503"
		return 503, "", 0
	}
	return 200, level, 0
}

func (n naive) belongs(g Group, r Request) bool {
	for _, member := range g.All {
		if !n.belongs(member, r) {
			return false
		}
	}
	if len(g.All) > 0 {
		return true
	}
	for _, p := range g.Ranges {
		if p.Contains(r.Client.Unmap()) {
			return true
		}
	}
	return n.proven(g, r)
}

func (n naive) proven(g Group, r Request) bool {
	until, ok := n.holds(g)
	return ok && (until.IsZero() || r.Time.Before(until))
}

// lacks are the credentials that stand between the caller and a group; none
// where something else does.
func (n naive) lacks(g Group, r Request) (ask Ask) {
	members := g.All
	if len(members) == 0 {
		members = []Group{g}
	}
	for _, m := range members {
		switch {
		case m.Password != nil && !n.proven(m, r):
			ask |= AskBasic
		case (m.Token != nil || m.JWT != nil) && !n.proven(m, r):
			ask |= AskBearer
		case m.Password == nil && m.Token == nil && m.JWT == nil && !n.belongs(m, r):
			return 0
		}
	}
	return ask
}

func (n naive) covers(c Cell, number uint16) bool {
	return c.All || slices.ContainsFunc(c.Ports, func(r PortRange) bool { return r.First <= number && number <= r.Last })
}

// methodsUpTo lists what each level adds.
var methodsUpTo = map[string]string{
	"read-only": "GET HEAD OPTIONS", "view": "GET HEAD OPTIONS",
	"read": "GET HEAD OPTIONS PROPFIND", "write": "PUT POST PATCH MKCOL COPY LOCK UNLOCK PROPPATCH",
	"query": "GET HEAD",
}

func (n naive) suffices(p Program, granted string, r Request) bool {
	if len(p.Levels) == 0 {
		return granted == ""
	}
	at := slices.Index(p.Levels, granted)
	if at < 0 {
		return false
	}
	if at == len(p.Levels)-1 {
		return true
	}
	if r.Override || r.Method == "COPY" && r.Overwrite {
		return false
	}
	if r.Upgrade {
		return p.HonoursLevel
	}
	for _, level := range p.Levels[:at+1] {
		if slices.Contains(strings.Fields(methodsUpTo[level]), r.Method) {
			return true
		}
	}
	return false
}

func (n naive) above(p Program, a, b string) bool {
	return slices.Index(p.Levels, a) > slices.Index(p.Levels, b)
}

// levelled is a catalogue with the levels of the specification.
var levelled = &Catalogue{Programs: []Program{
	{Name: "terminal", Port: 76, Instances: 9, Levels: []string{"read-only", "execute"}, HonoursLevel: true},
	{Name: "display", Port: 3998, Instances: 9, InstanceBase: 4000, Levels: []string{"view", "control"}, HonoursLevel: true},
	{Name: "files", Port: 70, Instances: 3, Levels: []string{"read", "write", "delete"}},
	{Name: "sqlite", Port: 5, Instances: 3, Levels: []string{"query", "modify"}},
	{Name: "notes", Port: 74, Instances: 9},
}}

// TestAgreesWithTheSpecification compares Decide with the naive evaluator: in
// 50,000 random cases, with SWAGE_SOAK in 1,000,000.
func TestAgreesWithTheSpecification(t *testing.T) {
	worlds := 250
	if os.Getenv("SWAGE_SOAK") != "" {
		worlds = 5000
	}
	const each = 200
	seen := map[int]int{}
	for seed := range worlds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 6))
		w := randomWorld(rnd)
		table, err := Compile(w.config)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range each {
			seen[w.compare(t, seed, rnd, table)]++
		}
		if t.Failed() {
			return
		}
	}
	for _, status := range []int{200, 401, 403, 503} {
		if seen[status] < worlds*each/50 {
			t.Errorf("only %d cases of status %d: %v", seen[status], status, seen)
		}
	}
}

type world struct {
	config Config
	kinds  []Group // single groups to choose from
}

func pick[T any](rnd *rand.Rand, from ...T) T { return from[rnd.IntN(len(from))] }

var someAddrs = []string{"192.0.2.9", "192.0.2.200", "198.51.100.7", "203.0.113.5", "2001:db8:1::5", "2001:db8:2::5", "::ffff:192.0.2.9"}

func randomWorld(rnd *rand.Rand) world {
	w := world{config: Config{Zone: zone}}
	for _, cidr := range []string{"192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32", "0.0.0.0/0", "2001:db8:1::/48", "::/0"} {
		w.kinds = append(w.kinds, Group{Ranges: []netip.Prefix{netip.MustParsePrefix(cidr)}})
	}
	w.kinds = append(w.kinds,
		Group{}, // of a lost secret
		Group{Password: &Password{"ann", "$a"}}, Group{Password: &Password{"ann", "$b"}}, Group{Password: &Password{"bob", "$a"}},
		Group{Token: &Token{Source{Header: "X-Key"}, [32]byte{1}}}, Group{Token: &Token{Source{Cookie: "X-Key"}, [32]byte{1}}},
		Group{JWT: &JWT{Sources: []Source{authorization}, Rules: JWTRules{Algorithm: "HS256", Secret: []byte("a")}}},
		Group{JWT: &JWT{Sources: []Source{authorization}, Rules: JWTRules{Algorithm: "HS256", Secret: []byte("a"), Claims: map[string][]any{"x": {"y", 1.0}}}}},
	)
	for i := range 3 {
		c := Container{
			ProjectID: shop, ID: strings.Repeat(fmt.Sprint(i), 24), Name: fmt.Sprint(i), Catalogue: levelled,
			Closed: rnd.IntN(20) == 0, Permissions: w.document(rnd),
		}
		if rnd.IntN(5) > 0 {
			c.Addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		}
		w.config.Containers = append(w.config.Containers, c)
	}
	return w
}

func (w *world) document(rnd *rand.Rand) *Permissions {
	if rnd.IntN(8) == 0 {
		return nil
	}
	p := &Permissions{Default: pick(rnd, Allow, Deny, Deny), Groups: map[string]Group{}, Cells: map[string]map[string]Cell{}}
	for i := range rnd.IntN(6) {
		name := fmt.Sprint("g", i)
		g := pick(rnd, w.kinds...)
		switch rnd.IntN(4) {
		case 0: // several networks
			g = Group{Ranges: slices.Concat(w.kinds[rnd.IntN(6)].Ranges, w.kinds[rnd.IntN(6)].Ranges)}
		case 1:
			g = Group{}
			for range 1 + rnd.IntN(3) {
				g.All = append(g.All, pick(rnd, w.kinds...))
			}
		}
		p.Groups[name] = g
		p.Cells[name] = map[string]Cell{}
		for _, program := range []string{"http", "https", "terminal", "display", "files", "sqlite", "notes"} {
			if rnd.IntN(2) == 0 {
				continue
			}
			var c Cell
			switch rnd.IntN(5) {
			case 0: // nothing
			case 1:
				c.Ports = []PortRange{{1, 1}, {80, 81}}
			case 2:
				c.Ports = []PortRange{{2, 9}, {81, 3000}}
			default:
				c.All = true
			}
			for _, k := range levelled.Programs {
				if k.Name == program && rnd.IntN(2) == 0 {
					c.Level = pick(rnd, append(slices.Clone(k.Levels), "", "unheard-of")...)
				}
			}
			p.Cells[name][program] = c
		}
	}
	return p
}

func (w *world) compare(t *testing.T, seed int, rnd *rand.Rand, table *Table) int {
	c := pick(rnd, w.config.Containers...)
	program := pick(rnd, "http", "https", "terminal", "display", "files", "sqlite", "notes")
	number := uint16(1 + rnd.IntN(3))
	if strings.HasPrefix(program, "http") {
		number = pick[uint16](rnd, 80, 81, 2999, 76, 70, 5, 74, 3998, 4000, 4008, 4009)
	}
	r := Request{
		Host: c.ProjectID + "-" + c.ID + fmt.Sprintf("-%s-%d.", program, number) + zone, Path: "/", Time: noon,
		Method:  pick(rnd, "GET", "HEAD", "OPTIONS", "PROPFIND", "PUT", "POST", "PATCH", "MKCOL", "COPY", "DELETE", "MOVE", "LOCK", "UNLOCK", "PROPPATCH", "get", "TRACE"),
		Upgrade: rnd.IntN(8) == 0, Override: rnd.IntN(12) == 0, Overwrite: rnd.IntN(4) == 0,
	}
	if rnd.IntN(20) > 0 {
		r.Client = netip.MustParseAddr(pick(rnd, someAddrs...))
	}
	held := map[Digest]time.Time{}
	var proofs []Proof
	for i := range w.kinds {
		if cred := w.kinds[i].credential(); cred != nil && rnd.IntN(3) == 0 {
			until := pick(rnd, time.Time{}, time.Time{}, noon, noon.Add(-time.Second), noon.Add(time.Nanosecond), noon.Add(time.Hour))
			held[cred.id] = until
			proofs = append(proofs, Proof{cred.id, until})
		}
	}
	r.Identity = NewIdentity(proofs...)
	n := naive{w.config, func(g Group) (time.Time, bool) {
		cred := g.credential()
		if cred == nil {
			return time.Time{}, false
		}
		until, ok := held[cred.id]
		return until, ok
	}}
	status, level, ask := n.outcomeOf(c, program, number, r)
	d := table.Decide(r)
	if d.Status() != status || d.Route.Level != level || d.Ask != ask {
		t.Errorf("seed %d: %s %s from %v with %d proofs: %d %q %b (%s), the specification says %d %q %b", seed, r.Method, r.Host, r.Client, len(proofs), d.Status(), d.Route.Level, d.Ask, d.Why, status, level, ask)
	}
	// Until is when the decision may change for the worse, and not earlier
	// than anything changes at all.
	if d.Verdict == Allow && !d.Until.IsZero() {
		r.Time = d.Until.Add(-1)
		if s, l, _ := n.outcomeOf(c, program, number, r); s != status || l != level {
			t.Errorf("seed %d: %s is allowed until %v, and before that it is %d %q", seed, r.Host, d.Until, s, l)
		}
	}
	if d.Verdict == Allow && d.Until.IsZero() {
		r.Time = noon.Add(24 * time.Hour)
		if s, l, _ := n.outcomeOf(c, program, number, r); s != status || l != level {
			t.Errorf("seed %d: %s is allowed for ever, and a day later it is %d %q", seed, r.Host, s, l)
		}
	}
	return status
}
