package edge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// otherLevels is levelled with other ports, programs, levels and names.
var otherLevels = &Catalogue{Programs: []Program{
	{Name: "terminal", Port: 76, Instances: 4, Levels: []string{"read-only", "execute"}},
	{Name: "display", Port: 3998, Instances: 9, InstanceBase: 4100, Levels: []string{"view", "control"}, HonoursLevel: true},
	{Name: "files", Port: 70, Instances: 3, Levels: []string{"read", "delete"}, Names: []string{"f"}},
	{Name: "notes", Port: 81, Instances: 9},
}}

// change makes another world of w: a few things differ, or all.
func (w world) change(rnd *rand.Rand) world {
	out := world{config: w.config, kinds: w.kinds}
	c := &out.config
	c.Containers, c.Aliases = slices.Clone(c.Containers), slices.Clone(c.Aliases)
	for range 1 + rnd.IntN(4) {
		i := rnd.IntN(len(c.Containers))
		at := &c.Containers[i]
		switch rnd.IntN(14) {
		case 0:
			at.Permissions = w.document(rnd)
		case 1:
			at.Closed = !at.Closed
		case 2:
			at.Catalogue = pick(rnd, levelled, otherLevels)
		case 3:
			at.Ingress = someRules(rnd)
		case 4:
			if len(c.Containers) > 2 && !slices.ContainsFunc(c.Aliases, func(a Alias) bool { return strings.Contains(fmt.Sprint(a), at.Name) }) {
				c.Containers = slices.Delete(c.Containers, i, i+1)
			}
		case 5, 6:
			c.Aliases = someAliases(rnd, c)
		case 7: // the same name, another container
			at.ID = strings.Repeat(pick(rnd, "a", "b", "c", "d"), 24)
			for j := range c.Containers {
				if j != i && c.Containers[j].ID == at.ID {
					at.ID = strings.Repeat("e"+fmt.Sprint(i), 12)
				}
			}
		default:
			if at.Permissions != nil {
				at.Permissions = w.edited(rnd, at.Permissions)
			}
		}
	}
	return out
}

// edited is a document with one difference.
func (w world) edited(rnd *rand.Rand, old *Permissions) *Permissions {
	p := &Permissions{Default: old.Default, Groups: map[string]Group{}, Cells: map[string]map[string]Cell{}}
	for name, g := range old.Groups {
		p.Groups[name], p.Cells[name] = g, map[string]Cell{}
		for program, cell := range old.Cells[name] {
			p.Cells[name][program] = cell
		}
	}
	all := names(p.Groups)
	if len(all) == 0 || rnd.IntN(8) == 0 {
		p.Default = pick(rnd, Allow, Deny)
		return p
	}
	name := pick(rnd, all...)
	switch rnd.IntN(4) {
	case 0:
		p.Groups[name] = pick(rnd, w.kinds...)
	case 1:
		delete(p.Groups, name)
		delete(p.Cells, name)
	default:
		fresh := w.document(rnd)
		for fresh == nil || len(fresh.Cells) == 0 {
			fresh = w.document(rnd)
		}
		p.Cells[name] = fresh.Cells[pick(rnd, names(fresh.Cells)...)]
	}
	return p
}

func someRules(rnd *rand.Rand) (out []Rule) {
	for range rnd.IntN(3) {
		r := Rule{Action: pick(rnd, Allow, Deny), Protocol: pick(rnd, "", "tcp", "udp")}
		if rnd.IntN(2) == 0 {
			r.Sources = []netip.Prefix{netip.MustParsePrefix(pick(rnd, "192.0.2.0/24", "2001:db8:1::/48"))}
		}
		if rnd.IntN(2) == 0 {
			r.Ports = []PortRange{{70, 80}}
		}
		out = append(out, r)
	}
	return out
}

func someAliases(rnd *rand.Rand, c *Config) (out []Alias) {
	target := func() Target {
		t := Target{Container: pick(rnd, c.Containers...).Name, Program: pick(rnd, "http", "http", "files", "notes")}
		if t.Program == "http" {
			t.Port = pick[uint16](rnd, 0, 81, 70, 2999)
		} else {
			t.Index = rnd.IntN(3)
		}
		return t
	}
	free := []string{"a.example", "b.example"}
	for _, name := range []string{"x", "y"} {
		if rnd.IntN(4) == 0 {
			continue
		}
		a := Alias{
			Name: name, Target: target(), AllowPathOverride: rnd.IntN(3) > 0, TargetPath: pick(rnd, "", "", "/v1", "/v2"),
			ExpiresAt: pick(rnd, time.Time{}, time.Time{}, noon.Add(-time.Hour), noon.Add(time.Hour), noon.Add(2*time.Hour)),
		}
		for _, path := range []string{"/", "/api", "/api/v1"} {
			if rnd.IntN(4) == 0 {
				a.Paths = append(a.Paths, AliasPath{path, target()})
			}
		}
		if n := rnd.IntN(3); n > 0 && len(free) > 0 {
			a.Domains, free = free[:1], free[1:]
		}
		out = append(out, a)
	}
	return out
}

// posed is a request with what its host names.
type posed struct {
	Request
	container       string // of a generated host
	program, number string
	held            map[Digest]bool
}

func (w world) ask(rnd *rand.Rand, other Config) posed {
	c := pick(rnd, slices.Concat(w.config.Containers, other.Containers)...)
	q := posed{container: c.Name, held: map[Digest]bool{}}
	q.program = pick(rnd, "http", "https", "terminal", "display", "files", "sqlite", "notes", "f")
	n := 1 + rnd.IntN(5)
	if strings.HasPrefix(q.program, "http") {
		n = pick(rnd, 80, 81, 2999, 76, 70, 5, 74, 3998, 4000, 4008, 4009, 4100, 9)
	}
	q.number = strconv.Itoa(n)
	q.Request = Request{
		Host: c.ProjectID + "-" + c.ID + "-" + q.program + "-" + q.number + "." + zone, Path: "/",
		Time: noon.Add(pick(rnd, 0, 90*time.Minute)), Method: pick(rnd, "GET", "PUT", "DELETE"), Client: netip.MustParseAddr(pick(rnd, someAddrs...)),
	}
	if rnd.IntN(3) == 0 {
		q.container = ""
		q.Host = pick(rnd, "x."+zone, "y."+zone, "a.example", "b.example")
		q.Path = pick(rnd, "/", "/v1", "/v1/x", "/api", "/api/v1", "/api/v1/x", "/api/../x", "/apis", "/x")
	}
	var proofs []Proof
	for i := range w.kinds {
		if cred := w.kinds[i].credential(); cred != nil && rnd.IntN(3) == 0 {
			proofs = append(proofs, Proof{cred.id, time.Time{}})
			q.held[cred.id] = true
		}
	}
	q.Identity = NewIdentity(proofs...)
	return q
}

// letIn is what of a decision counts: whether the request is let in, where to
// and up to which level.
type letIn struct {
	in                                   bool
	container, program, path, id, prefix string
	number                               uint16
	level                                string
}

func accessOf(d Decision) letIn {
	if d.Verdict != Allow {
		return letIn{}
	}
	in := letIn{true, d.Container, d.Program, d.Route.Path, d.Route.ContainerID, d.Route.Prefix, d.Number, d.Route.Level}
	if slices.Contains([]string{"execute", "control", "delete", "modify"}, in.level) {
		in.level = "" // the full one, as of programs without levels
	}
	if d.Generated { // leads to the same, whatever permissions know it as
		in.program, in.number = "", 0
	}
	return in
}

// covers reports whether a change is about a request that d lets in.
func (q posed) covers(c AccessChange, gains bool, d Decision) bool {
	number := func(n uint16) bool {
		if c.Numbers == "*" {
			return true
		}
		for part := range strings.SplitSeq(c.Numbers, ",") {
			first, last, ok := strings.Cut(part, "-")
			if !ok {
				last = first
			}
			a, _ := strconv.Atoi(first)
			b, _ := strconv.Atoi(last)
			if int(n) >= a && int(n) <= b {
				return true
			}
		}
		return false
	}
	asked, _ := strconv.Atoi(q.number)
	switch {
	case c.Gains != gains || !slices.Contains(c.Containers, d.Container):
		return false
	case c.Program != "*" && !(c.Program == d.Program && number(d.Number)) && !(q.container != "" && c.Program == q.program && number(uint16(asked))):
		return false
	case q.container != "" && !c.OwnHosts, q.container == "" && !slices.Contains(c.Hosts, q.Host):
		return false
	case q.container == "" && !c.OwnHosts && c.Path != "" && c.Path != "/" && q.Path != c.Path && !strings.HasPrefix(q.Path, c.Path+"/"):
		return false
	}
	switch s := c.Subject; s.Kind {
	case SubjectEveryone, SubjectFirewall:
		return true
	default:
		for _, h := range s.holders {
			if !q.held[h] {
				return false
			}
		}
		return len(s.Ranges) == 0 || slices.ContainsFunc(s.Ranges, func(p netip.Prefix) bool { return p.Contains(q.Client.Unmap()) })
	}
}

// TestP1CoversEveryDifference: for random pairs of tables and random callers,
// where the tables decide differently some change says so, and where no change
// does they decide the same. The tables' decisions about generated hosts are
// held against the naive evaluator.
func TestP1CoversEveryDifference(t *testing.T) {
	worlds := 600
	if os.Getenv("SWAGE_SOAK") != "" {
		worlds = 20000
	}
	const each = 150
	var differ, same, silent int
	for seed := range worlds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 15))
		w := randomWorld(rnd)
		for i := range w.config.Containers {
			at := &w.config.Containers[i]
			at.Name = "p/" + at.Name
			at.Addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			if rnd.IntN(6) == 0 {
				at.Ingress = someRules(rnd)
			}
		}
		w.config.Aliases = someAliases(rnd, &w.config)
		v := w.change(rnd)
		before, now := mustCompile(t, w.config), mustCompile(t, v.config)
		changes := CompareAccess(before, now, noon)
		if len(changes) == 0 {
			silent++
		}
		if again := CompareAccess(before, mustCompile(t, w.config), noon); len(again) > 0 {
			t.Errorf("seed %d: a table and itself: %v", seed, again)
		}
		for range each {
			q := w.ask(rnd, v.config)
			d, e := before.Decide(q.Request), now.Decide(q.Request)
			w.holdsNaive(t, seed, q, d)
			v.holdsNaive(t, seed, q, e)
			a, b := accessOf(d), accessOf(e)
			if a == b {
				same++
				continue
			}
			differ++
			gained, lost := b.in, a.in
			if a.in && b.in && a.level != b.level { // one of the two
				c := a
				c.level = b.level
				gained = c != b || moreLevel(b.level, a.level)
				lost = c != b || moreLevel(a.level, b.level)
				if !gained && !lost {
					gained, lost = true, true
				}
			}
			if gained && !slices.ContainsFunc(changes, func(c AccessChange) bool { return q.covers(c, true, e) }) {
				t.Fatalf("seed %d: %s %s%s of %v gains and no change says so: %+v, %+v\n%s", seed, q.Method, q.Host, q.Path, q.Client, d, e, told(changes))
			}
			if lost && !slices.ContainsFunc(changes, func(c AccessChange) bool { return q.covers(c, false, d) }) {
				t.Fatalf("seed %d: %s %s%s of %v loses and no change says so: %+v, %+v\n%s", seed, q.Method, q.Host, q.Path, q.Client, d, e, told(changes))
			}
		}
	}
	if differ < worlds || same < worlds || silent < worlds/100 {
		t.Errorf("only %d differences, %d alike, %d worlds without a change", differ, same, silent)
	}
}

// moreLevel compares levels of one program in either catalogue.
func moreLevel(a, b string) bool {
	order := []string{"read-only", "view", "read", "write", "query", ""}
	return slices.Index(order, a) > slices.Index(order, b)
}

func told(changes []AccessChange) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintln(&b, c.Gains, c)
	}
	return b.String()
}

// holdsNaive compares a decision about a generated host with the naive
// evaluator, which knows no firewall.
func (w world) holdsNaive(t *testing.T, seed int, q posed, d Decision) {
	t.Helper()
	if q.container == "" || q.program == "f" || d.Verdict == NotFound {
		return
	}
	for _, c := range w.config.Containers {
		if !strings.HasPrefix(q.Host, c.ProjectID+"-"+c.ID+"-") || len(c.Ingress) > 0 {
			continue
		}
		n := naive{w.config, func(g Group) (time.Time, bool) {
			cred := g.credential()
			return time.Time{}, cred != nil && q.held[cred.id]
		}}
		number, _ := strconv.Atoi(q.number)
		status, level, _ := n.outcomeOf(c, q.program, uint16(number), q.Request)
		if d.Status() != status || d.Route.Level != level {
			t.Errorf("seed %d: %s: %d %q, the specification says %d %q", seed, q.Host, d.Status(), d.Route.Level, status, level)
		}
	}
}

// TestP1EveryChangeHasSomebody: of tables that deny by default, each change of
// a document has a caller whom the tables answer differently, in its direction.
func TestP1EveryChangeHasSomebody(t *testing.T) {
	found := 0
	for seed := range 400 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 16))
		w := randomWorld(rnd)
		for i := range w.config.Containers {
			at := &w.config.Containers[i]
			at.Closed, at.Addr = false, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			for at.Permissions == nil {
				at.Permissions = w.document(rnd)
			}
			at.Permissions.Default = Deny
		}
		v := world{config: w.config, kinds: w.kinds}
		v.config.Containers = slices.Clone(w.config.Containers)
		for i := range v.config.Containers {
			p := w.edited(rnd, v.config.Containers[i].Permissions)
			p.Default = Deny
			v.config.Containers[i].Permissions = p
		}
		before, now := mustCompile(t, w.config), mustCompile(t, v.config)
		for _, c := range CompareAccess(before, now, noon) {
			at := w.config.Containers[slices.IndexFunc(w.config.Containers, func(x Container) bool { return x.Name == c.Containers[0] })]
			first := c.Numbers
			if first == "*" {
				first = "1"
				if strings.HasPrefix(c.Program, "http") {
					first = "9999" // which is no program's
				}
			}
			first, _, _ = strings.Cut(first, ",")
			first, _, _ = strings.Cut(first, "-")
			var proofs []Proof
			for _, h := range c.Subject.holders {
				proofs = append(proofs, Proof{h, time.Time{}})
			}
			r := Request{Host: at.ProjectID + "-" + at.ID + "-" + c.Program + "-" + first + "." + zone, Path: "/", Time: noon, Identity: NewIdentity(proofs...)}
			if len(c.Subject.Ranges) > 0 {
				r.Client = c.Subject.Ranges[0].Addr()
			}
			d, e := before.Decide(r), now.Decide(r)
			a, b := accessOf(d), accessOf(e)
			less, more := a, b
			if !c.Gains {
				less, more = b, a
			}
			if !more.in || less.in && !moreLevel(more.level, less.level) {
				t.Fatalf("seed %d: %v %s: nobody: %v (%s) and then %v (%s)", seed, c.Gains, c, a, d.Why, b, e.Why)
			}
			found++
		}
	}
	if found < 400 {
		t.Errorf("only %d changes", found)
	}
}

// TestP1ManyNames: what a change costs does not grow with groups times
// containers, and every container is counted.
func TestP1ManyNames(t *testing.T) {
	const containers, groups = 3000, 90
	table := func(more int) *Table {
		p := &Permissions{Groups: map[string]Group{}, Cells: map[string]map[string]Cell{}}
		for i := range groups {
			name := fmt.Sprintf("g%02d", i)
			p.Groups[name] = ranges(fmt.Sprintf("10.%d.0.0/24", i))
			p.Cells[name] = map[string]Cell{"http": {Ports: []PortRange{{80, uint16(80 + more)}}}}
		}
		c := Config{Zone: zone}
		for i := range containers {
			c.Containers = append(c.Containers, Container{ProjectID: shop, ID: fmt.Sprintf("%024x", i), Name: fmt.Sprintf("shop/c%04d", i), Permissions: p, Catalogue: levelled})
		}
		return mustCompile(t, c)
	}
	changes := CompareAccess(table(0), table(1), noon)
	named, all := 0, 0
	for _, c := range changes {
		if c.Numbers != "81" || !c.Gains || c.Opens {
			t.Fatalf("%+v", c)
		}
		named, all = named+len(c.Containers), all+len(c.Containers)+c.More
	}
	if len(changes) != groups || all != containers*groups || named > mostNames+groups*mostNamed {
		t.Errorf("%d changes of %d containers, %d of them by name", len(changes), all, named)
	}
	if got, want := changes[groups-1].Of(), "shop/c0000, shop/c0001 and 2998 more containers"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
