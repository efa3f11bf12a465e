package edge

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// callers of testdata/hosts.txt.
var callers = map[string]netip.Addr{
	"office":   netip.MustParseAddr("192.0.2.9"),
	"stranger": netip.MustParseAddr("198.51.100.7"),
	"ops":      netip.MustParseAddr("203.0.113.5"),
}

// town is the Config that testdata/hosts.txt describes.
func town() (Config, map[string]string) {
	all := Cell{All: true}
	groups := map[string]Group{
		"office": ranges("192.0.2.0/24"), "ops": ranges("203.0.113.0/24"), "everyone": ranges("0.0.0.0/0", "::/0"),
	}
	everything := map[string]Cell{"http": all, "https": all, "terminal": all, "display": all, "code": all, "files": all}
	office := &Permissions{Groups: groups, Cells: map[string]map[string]Cell{"office": everything}}
	mixed := &Permissions{Groups: groups, Cells: map[string]map[string]Cell{
		"office":   {"terminal": ports(1, 2), "http": ports(3000, 3999)},
		"ops":      {"display": ports(2, 2), "https": ports(8443, 8443), "http": all},
		"everyone": {"http": ports(80, 80)},
	}}
	barred := &Permissions{Default: Allow, Groups: groups, Cells: map[string]map[string]Cell{"everyone": {"terminal": {}}}}
	noAgent := &Catalogue{slices.DeleteFunc(slices.Clone(kit.Programs), func(p Program) bool { return p.Name == "agent" })}

	c := Config{Zone: zone}
	names := map[string]string{
		"{unknown}":   shop + "-" + strings.Repeat("f", 24),
		"{swapped}":   strings.Repeat("1", 24) + "-" + shop,
		"{elsewhere}": blog + "-" + strings.Repeat("1", 24),
	}
	for i, in := range []Container{
		{Name: "open", Addr: netip.MustParseAddr("10.0.0.1"), Catalogue: kit},
		{Name: "asleep", Catalogue: kit},
		{Name: "office", Addr: netip.MustParseAddr("10.0.0.3"), Catalogue: kit, Permissions: office},
		{Name: "dark", Catalogue: kit, Permissions: office},
		{Name: "mixed", Addr: netip.MustParseAddr("10.0.0.5"), Catalogue: kit, Permissions: mixed},
		{Name: "barred", Addr: netip.MustParseAddr("10.0.0.6"), Catalogue: kit, Permissions: barred},
		{Name: "closed", Addr: netip.MustParseAddr("10.0.0.7"), Catalogue: kit, Permissions: office, Closed: true},
		{Name: "plain", Addr: netip.MustParseAddr("10.0.0.8")},
		{Name: "noagent", Addr: netip.MustParseAddr("10.0.0.9"), Catalogue: noAgent},
	} {
		in.ProjectID, in.ID = shop, strings.Repeat(fmt.Sprint(i+1), 24)
		names["{"+in.Name+"}"] = in.ProjectID + "-" + in.ID
		names["{"+strings.ToUpper(in.Name)+"}"] = strings.ToUpper(in.ProjectID + "-" + in.ID)
		c.Containers = append(c.Containers, in)
	}
	index := func(container, program string, index int) Target {
		return Target{Container: container, Program: program, Index: index}
	}
	alias := func(name string, to Target, domains ...string) Alias {
		return Alias{Name: name, Target: to, Domains: domains, AllowPathOverride: true}
	}
	until := func(a Alias, t time.Time) Alias {
		a.ExpiresAt = t
		return a
	}
	shop := alias("shop", to("open", "http", 80), "www.shop.example", "xn--bcher-kva.example")
	shop.TargetPath = "/home"
	shop.Paths = []AliasPath{
		{"/api", to("open", "http", 3000)},
		{"/api/admin", to("office", "http", 8080)},
		{"/term", index("open", "terminal", 3)},
		{"/tls", to("open", "https", 8443)},
		{"/down", to("asleep", "http", 80)},
		{"/away", Target{}},
	}
	everywhere := alias("all", to("open", "http", 80))
	everywhere.Paths = []AliasPath{{"/", to("open", "http", 81)}, {"/own", to("open", "http", 82)}}
	c.Aliases = []Alias{
		alias("web", to("open", "http", 3000)),
		alias("secure", to("open", "https", 0)),
		alias("shell", index("open", "terminal", 4)),
		alias("bell", index("open", "notify", 2)),
		alias("screen", index("open", "display", 2)),
		alias("editor", index("open", "code", 0)),
		alias("inside", index("office", "terminal", 1), "inside.example"),
		alias("sleeper", to("asleep", "http", 80)),
		alias("shut", to("closed", "http", 80)),
		alias("lost", index("open", "sqlite", 1)),
		alias("past", index("open", "terminal", 100)),
		alias("bare", to("plain", "http", 80)),
		until(alias("sale", to("open", "http", 80)), noon),
		until(alias("ended", to("open", "http", 80), "ended.example"), noon.Add(-time.Hour)),
		{Name: "app", Target: to("open", "http", 80), TargetPath: "/app", AllowPathOverride: true},
		{Name: "page", Target: to("open", "http", 80), TargetPath: "/app/page"},
		shop, everywhere,
	}
	return c, names
}

// TestWhoReachesWhat: every line of testdata/hosts.txt.
func TestWhoReachesWhat(t *testing.T) {
	c, names := town()
	table := mustCompile(t, c)
	var expand []string
	for name, key := range names {
		expand = append(expand, name, key)
	}
	keys := strings.NewReplacer(expand...)
	text, err := os.ReadFile("testdata/hosts.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		rows++
		client, known := callers[f[0]]
		if len(f) < 5 || !known {
			t.Fatalf("line %d: %q", i+1, line)
		}
		host := keys.Replace(f[1])
		if name, _, _ := strings.Cut(host, ":"); !strings.Contains(name, ".") && host[0] != '[' {
			host += "." + zone
		}
		path, _, _ := strings.Cut(f[2], "?")
		r := Request{Host: host, Client: client, Path: path, Time: noon.Add(-1)}
		d := table.Decide(r)
		if got, want := reached(d, path)+" "+d.Why, strings.Join(f[3:], " "); got != want {
			t.Errorf("line %d: %s %s %s\n got %s\nwant %s", i+1, f[0], f[1], f[2], got, want)
		}
		if d.Verdict != Allow && d.Route != (Route{}) {
			t.Errorf("line %d: refused with the route %+v", i+1, d.Route)
		}
		if n := testing.AllocsPerRun(1, func() { table.Decide(r) }); n != 0 {
			t.Errorf("line %d: %v allocations", i+1, n)
		}
	}
	if rows < 150 {
		t.Errorf("only %d rows", rows)
	}
}

// reached is an outcome as testdata/hosts.txt writes it.
func reached(d Decision, path string) string {
	if d.Verdict != Allow {
		return fmt.Sprint(d.refusal().status)
	}
	s := d.Route.Addr.String()
	if d.Route.TLS {
		s += " tls"
	}
	if d.Route.Instance > 0 {
		s += fmt.Sprintf(" #%d", d.Route.Instance)
	}
	if arrives := cmp.Or(d.Route.Path, d.Route.Prefix+path); arrives != path {
		s += " " + arrives
	}
	return s
}
