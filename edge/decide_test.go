package edge

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	zone   = "node.example.com"
	shop   = "aaaaaaaaaaaaaaaaaaaaaaaa" // a project
	blog   = "bbbbbbbbbbbbbbbbbbbbbbbb" // another
	web    = "111111111111111111111111" // shop/web: no document, runs at 10.0.0.1
	asleep = "222222222222222222222222" // shop/asleep: no document, does not run
	gated  = "333333333333333333333333" // blog/gated: 192.0.2.0/24 only, runs at 10.0.0.3
	dark   = "444444444444444444444444" // blog/dark: as gated, does not run
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// fixture is the Config that the tables below speak of.
func fixture() Config {
	office := &Permissions{
		Default: Deny,
		Groups:  map[string]Group{"office": {Ranges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Cells:   map[string]map[string]Cell{"office": {"http": {All: true}}},
	}
	return Config{
		Zone:    zone,
		Version: "c0ffee",
		Containers: []Container{
			{ProjectID: shop, ID: web, Name: "shop/web", Catalogue: kit, Addr: netip.MustParseAddr("10.0.0.1")},
			{ProjectID: shop, ID: asleep, Name: "shop/asleep", Catalogue: kit},
			{ProjectID: blog, ID: gated, Name: "blog/gated", Catalogue: kit, Addr: netip.MustParseAddr("10.0.0.3"), Permissions: office},
			{ProjectID: blog, ID: dark, Name: "blog/dark", Catalogue: kit, Permissions: office},
		},
		Aliases: []Alias{
			{Name: "my-api", Target: to("shop/web", "http", 3000), AllowPathOverride: true},
			{Name: "app", Target: to("shop/web", "http", 80), TargetPath: "/app", AllowPathOverride: true},
			{Name: "folder", Target: to("shop/web", "http", 80), TargetPath: "/app/", AllowPathOverride: true},
			{Name: "page", Target: to("shop/web", "http", 80), TargetPath: "/app/page"},
			{Name: "front", Target: to("shop/web", "http", 80)},
			{Name: "sale", Target: to("shop/web", "http", 80), AllowPathOverride: true, ExpiresAt: noon},
			{Name: "secret", Target: to("blog/gated", "http", 80), TargetPath: "/in"},
			{Name: "sleepy", Target: to("shop/asleep", "http", 80), TargetPath: "/in"},
			{Name: "x1", Target: to("shop/web", "http", 65535), AllowPathOverride: true},
		},
	}
}

// to is a target by port.
func to(container, program string, port uint16) Target {
	return Target{Container: container, Program: program, Port: port}
}

// kit is a catalogue with every kind of program: a sole port, instances that
// share one, and instances with ports of their own.
var kit = &Catalogue{Programs: []Program{
	{Name: "terminal", Port: 76, Instances: 99},
	{Name: "files", Port: 70, Instances: 1},
	{Name: "notifications", Names: []string{"n", "notify"}, Port: 3999, Instances: 9},
	{Name: "display", Port: 3998, Instances: 3, InstanceBase: 4000},
	{Name: "code", Port: 3971, Instances: 5536, InstanceBase: 60000},
	{Name: "agent", Port: 3972, Instances: 99},
}}

func mustCompile(t testing.TB, c Config) *Table {
	t.Helper()
	table, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestHosts: which host reaches what. The caller is a stranger, 198.51.100.7,
// and the path "/".
func TestHosts(t *testing.T) {
	table := mustCompile(t, fixture())
	const webHost = shop + "-" + web
	rows := []struct{ host, want string }{
		// A container's own hosts.
		{webHost + "-http." + zone, "10.0.0.1:80"},
		{webHost + "-http-80." + zone, "10.0.0.1:80"},
		{webHost + "-http-1." + zone, "10.0.0.1:1"},
		{webHost + "-http-443." + zone, "10.0.0.1:443"},
		{webHost + "-http-3000." + zone, "10.0.0.1:3000"},
		{webHost + "-http-59999." + zone, "10.0.0.1:59999"},
		{shop + "-" + asleep + "-http." + zone, "unavailable"},
		{shop + "-" + asleep + "-http-3000." + zone, "unavailable"},
		{blog + "-" + gated + "-http." + zone, "deny"},
		{blog + "-" + dark + "-http." + zone, "deny"},

		// Every spelling of a host is one host.
		{strings.ToUpper(webHost + "-http-3000." + zone), "10.0.0.1:3000"},
		{webHost + "-HTTP-3000." + zone, "10.0.0.1:3000"},
		{webHost + "-http-3000.Node.Example.COM", "10.0.0.1:3000"},
		{webHost + "-http-3000." + zone + ".", "10.0.0.1:3000"},
		{webHost + "-http-3000." + zone + ":443", "10.0.0.1:3000"},
		{webHost + "-http-3000." + zone + ".:443", "10.0.0.1:3000"},
		{webHost + "-http-3000." + zone + ":8443", "10.0.0.1:3000"},
		{webHost + "-http-3000." + zone + ":", "10.0.0.1:3000"},
		{"MY-API." + zone, "10.0.0.1:3000"},
		{"my-api." + zone + ".:443", "10.0.0.1:3000"},

		// What only resembles one.
		{webHost + "-http-3000." + zone + "..", "not found"},
		{webHost + "-http-3000." + zone + ":https", "not found"},
		{webHost + "-http-3000." + zone + ":443:443", "not found"},
		{webHost + "-http-3000." + zone + ":999999", "not found"},
		{webHost + "-http-0." + zone, "not found"},
		{webHost + "-http-00080." + zone, "not found"},
		{webHost + "-http-080." + zone, "not found"},
		{webHost + "-http-65536." + zone, "not found"},
		{webHost + "-http-99999." + zone, "not found"},
		{webHost + "-http-100000." + zone, "not found"},
		{webHost + "-http--1." + zone, "not found"},
		{webHost + "-http-." + zone, "not found"},
		{webHost + "-http-80-80." + zone, "not found"},
		{webHost + "-http-8o." + zone, "not found"},
		{webHost + "-http3000." + zone, "not found"},
		{webHost + "-." + zone, "not found"},
		{webHost + "." + zone, "not found"},
		{webHost + "-http-80 ." + zone, "not found"},
		{webHost + "-http_80." + zone, "not found"},

		// Containers that are not there, or not in that project.
		{shop + "-" + gated + "-http." + zone, "not found"},
		{blog + "-" + web + "-http." + zone, "not found"},
		{web + "-" + shop + "-http." + zone, "not found"},
		{shop + "-" + strings.Repeat("9", 24) + "-http." + zone, "not found"},
		{shop + "-" + web[1:] + "-http." + zone, "not found"},
		{shop + "-0" + web + "-http." + zone, "not found"},
		{shop + "_" + web + "-http." + zone, "not found"},
		{shop + "-" + strings.Replace(web, "1", "g", 1) + "-http." + zone, "not found"},
		{shop + "--" + web + "-http." + zone, "not found"},

		// Aliases.
		{"my-api." + zone, "10.0.0.1:3000"},
		{"x1." + zone, "10.0.0.1:65535"},
		{"app." + zone, "10.0.0.1:80"},
		{"sale." + zone, "10.0.0.1:80"},
		{"secret." + zone, "deny"},
		{"sleepy." + zone, "unavailable"},
		{"my_api." + zone, "not found"},
		{"my-api2." + zone, "not found"},
		{"my-ap." + zone, "not found"},
		{"www.my-api." + zone, "not found"},
		{"-my-api." + zone, "not found"},
		{"my-api-http." + zone, "not found"},

		// Outside the zone.
		{zone, "not found"},
		{"." + zone, "not found"},
		{"my-api" + zone, "not found"},
		{"my-api.", "not found"},
		{"my-api", "not found"},
		{"", "not found"},
		{".", "not found"},
		{":443", "not found"},
		{"my-api.example.com", "not found"},
		{"my-api.node.example.com.evil.org", "not found"},
		{"my-api.node.example.org", "not found"},
		{"my-api.xnode.example.com", "not found"},
		{"10.0.0.1", "not found"},
		{"10.0.0.1:3000", "not found"},
		{"[::1]:443", "not found"},
		{"[2001:db8::1]", "not found"},
		{"mÿ-api." + zone, "not found"},
		{"my-api\x00." + zone, "not found"},
		{"my-api/." + zone, "not found"},
		{"my-api@" + zone, "not found"},
		{strings.Repeat("a", 64) + "." + zone, "not found"},
		{strings.Repeat("a.", 200) + zone, "not found"},
	}
	for _, row := range rows {
		d := table.Decide(Request{Host: row.host, Client: netip.MustParseAddr("198.51.100.7"), Path: "/", Time: noon.Add(-1)})
		if got := outcome(d); got != row.want {
			t.Errorf("%q reaches %s (%s), want %s", row.host, got, d.Why, row.want)
		}
	}
}

// outcome is the address that a request goes to, or the verdict.
func outcome(d Decision) string {
	if d.Verdict == Allow {
		return d.Route.Addr.String()
	}
	return d.Verdict.String()
}

// TestAliasPaths: which path an alias passes on, with the whole path that the
// container gets.
func TestAliasPaths(t *testing.T) {
	table := mustCompile(t, fixture())
	rows := []struct{ alias, path, want string }{
		{"my-api", "/", "/"},
		{"my-api", "/a/b", "/a/b"},
		{"my-api", "/a%2Fb", "/a%2Fb"},
		{"my-api", "/../x", "/../x"}, // it has no target path to leave

		{"app", "/", "/app"},
		{"app", "/app", "/app"},
		{"app", "/app/", "/app/"},
		{"app", "/app/x", "/app/x"},
		{"app", "/application", "/app/application"},
		{"app", "/x", "/app/x"},
		{"app", "/x%20y", "/app/x%20y"},
		{"app", "//x", "/app//x"},
		{"app", "/%61pp/x", "/app/%61pp/x"},
		{"app", "/a..b/..c", "/app/a..b/..c"},
		{"app", "/...", "/app/..."},
		{"app", "/./x", "/app/./x"},
		{"app", "/../x", "not found"},
		{"app", "/app/../x", "not found"},
		{"app", "/app/..", "not found"},
		{"app", "/app/%2e%2E/x", "not found"},
		{"app", "/app/.%2e/x", "not found"},
		{"app", "/app%2f..%2fx", "not found"},
		{"app", "/app/..;v=1/x", "not found"},
		{"app", `/app\..\x`, "not found"},

		{"folder", "/", "/app/"},
		{"folder", "/app", "/app"},
		{"folder", "/app/x", "/app/x"},
		{"folder", "/x", "/app/x"},

		{"page", "/", "/app/page"},
		{"page", "/app/page", "/app/page"},
		{"page", "/app/page/", "not found"},
		{"page", "/app/page/x", "not found"},
		{"page", "/app/page%2e", "not found"},
		{"page", "/x", "not found"},

		{"front", "/", "/"},
		{"front", "/x", "not found"},

		{"secret", "/in", "deny"}, // a stranger does not learn which paths there are
		{"secret", "/x", "deny"},
		{"sleepy", "/in", "unavailable"},
		{"sleepy", "/x", "not found"},
	}
	for _, row := range rows {
		d := table.Decide(Request{Host: row.alias + "." + zone, Path: row.path, Time: noon.Add(-1)})
		got := d.Verdict.String()
		if d.Verdict == Allow {
			if got = d.Route.Path; got == "" {
				got = d.Route.Prefix + row.path
			}
		}
		if got != row.want {
			t.Errorf("alias %s, path %s: got %s (%s), want %s", row.alias, row.path, got, d.Why, row.want)
		}
	}
}

func TestAliasExpires(t *testing.T) {
	table := mustCompile(t, fixture())
	for _, row := range []struct {
		at   time.Duration
		want Verdict
	}{{-time.Hour, Allow}, {-time.Nanosecond, Allow}, {0, NotFound}, {time.Hour, NotFound}} {
		d := table.Decide(Request{Host: "sale." + zone, Path: "/", Time: noon.Add(row.at)})
		if d.Verdict != row.want {
			t.Errorf("%v from its expiry: %v, want %v", row.at, d.Verdict, row.want)
		}
		if d.Verdict == Allow && !d.Until.Equal(noon) {
			t.Errorf("allowed until %v, want %v", d.Until, noon)
		}
	}
}

func TestDecision(t *testing.T) {
	table := mustCompile(t, fixture())
	got := table.Decide(Request{Host: blog + "-" + gated + "-http-8080." + zone, Client: netip.MustParseAddr("::ffff:192.0.2.9"), Path: "/"})
	want := Decision{
		Verdict:   Allow,
		Why:       "allowed by group office",
		Route:     Route{ContainerID: gated, Addr: netip.MustParseAddrPort("10.0.0.3:8080")},
		Container: "blog/gated",
		Program:   "http",
		Number:    8080,
		Group:     "office",
		Generated: true,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

// TestZeroRefuses: nothing is allowed by what was never filled in.
func TestZeroRefuses(t *testing.T) {
	anything := Request{Host: "my-api." + zone, Path: "/"}
	if d := (*Table)(nil).Decide(anything); d.Verdict != Deny {
		t.Errorf("nil table: %v", d.Verdict)
	}
	if d := mustCompile(t, Config{Zone: zone}).Decide(anything); d.Verdict != NotFound {
		t.Errorf("empty table: %v", d.Verdict)
	}
	if (Decision{}).Verdict != Deny {
		t.Error("the zero Decision does not deny")
	}
	c := fixture()
	c.Containers[0].Permissions = &Permissions{}
	if d := mustCompile(t, c).Decide(anything); d.Verdict != Deny {
		t.Errorf("empty document: %v", d.Verdict)
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	table := mustCompile(t, fixture())
	office, stranger := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::1")
	ruled := fixture()
	ruled.Containers[0].Ingress = []Rule{
		{Action: Allow, Protocol: "tcp", Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Ports: []PortRange{{3000, 3000}}},
		{Action: Deny, Ports: []PortRange{{81, 82}}},
	}
	for _, table := range []*Table{table, mustCompile(t, ruled)} {
		doesNotAllocate(t, table, office, stranger)
	}
}

func doesNotAllocate(t *testing.T, table *Table, clients ...netip.Addr) {
	t.Helper()
	for _, host := range []string{
		shop + "-" + web + "-HTTP-3000." + zone + ".:443", blog + "-" + gated + "-http." + zone, "app." + zone,
		"secret." + zone, "nothing." + zone, shop + "-" + web + "-notify-9." + zone, "status." + zone, "example.org", "[::1]:443",
	} {
		for _, client := range clients {
			r := Request{Host: host, Client: client, Path: "/x/y", Time: noon}
			if n := testing.AllocsPerRun(100, func() { table.Decide(r) }); n != 0 {
				t.Errorf("%s from %v: %v allocations", host, client, n)
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	c := Config{Zone: zone}
	document := &Permissions{Groups: map[string]Group{}, Cells: map[string]map[string]Cell{}}
	for i := range 20 {
		name := fmt.Sprintf("group-%d", i)
		document.Groups[name] = Group{Ranges: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.0.%d.0/24", i))}}
		document.Cells[name] = map[string]Cell{"http": {Ports: []PortRange{{80, 80}, {3000, 3999}}}}
	}
	const n = 10_000
	requests := make([]Request, n)
	for i := range n {
		id := fmt.Sprintf("%024x", i)
		c.Containers = append(c.Containers, Container{
			ProjectID: shop, ID: id, Name: "shop/" + id, Permissions: document, Catalogue: kit,
			Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}),
		})
		requests[i] = Request{Host: shop + "-" + id + "-http-3000." + zone, Client: netip.MustParseAddr("192.0.7.9"), Path: "/"}
	}
	table := mustCompile(b, c)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if d := table.Decide(requests[i%n]); d.Verdict != Allow {
			b.Fatal(d)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	c := Config{Zone: zone}
	document := fixture().Containers[2].Permissions
	for i := range 10_000 {
		c.Containers = append(c.Containers, Container{ProjectID: shop, ID: fmt.Sprintf("%024x", i), Name: fmt.Sprint(i), Permissions: document, Catalogue: kit})
	}
	for b.Loop() {
		mustCompile(b, c)
	}
}
