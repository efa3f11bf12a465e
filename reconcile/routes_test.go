package reconcile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

// routes are those of server lab, where every container with an id runs.
func routes(t *testing.T, v reconcile.View, files map[string]string) edge.Config {
	t.Helper()
	tree := fstest.MapFS{"servers/lab.cue": &fstest.MapFile{}, "swage.cue": &fstest.MapFile{Data: []byte(`
		id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com"
	`)}}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	f, err := schema.Load(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	if v.Addr == nil {
		v.Addr = map[runtime.ID]netip.Addr{}
	}
	for _, p := range f.Projects {
		for i, c := range p.Containers {
			if c.ID != "" {
				v.Addr[runtime.ID(c.ID)] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			}
		}
	}
	return reconcile.Routes(f, "lab", v)
}

func id(n int) string { return fmt.Sprintf("%024x", n) }

// ask is what a stranger gets of a host below the zone.
func ask(t *testing.T, c edge.Config, host, path string) edge.Decision {
	t.Helper()
	table, err := edge.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return table.Decide(edge.Request{Host: host, Path: path, Client: netip.MustParseAddr("198.51.100.7"), Time: time.Now()})
}

// TestCataloguesAreShared: what containers have in common is there once, or
// 10,000 containers would cost 10,000 catalogues.
func TestCataloguesAreShared(t *testing.T) {
	text := fmt.Sprintf("project: id: %q\n", id(1))
	for i := range 50 {
		text += fmt.Sprintf("containers: \"c%02d-x\": id: %q\n", i, id(100+i))
	}
	text += fmt.Sprintf("containers: silent: {id: %q, ai: false}\n", id(2))
	text += fmt.Sprintf("containers: more: {id: %q, programs: terminal: port: 7600}\n", id(3))
	text += fmt.Sprintf("containers: bare: {id: %q, kit: false}\n", id(4))
	c := routes(t, reconcile.View{}, map[string]string{"projects/shop/all.cue": text})

	distinct := map[*edge.Catalogue]int{}
	for _, in := range c.Containers {
		distinct[in.Catalogue]++
	}
	if len(distinct) != 4 || distinct[nil] != 1 {
		t.Errorf("%d catalogues for 50 equal containers and three others: %v", len(distinct), distinct)
	}
	for host, want := range map[string]edge.Verdict{
		id(1) + "-" + id(100) + "-agent":    edge.Allow,
		id(1) + "-" + id(100) + "-notify-2": edge.Allow,
		id(1) + "-" + id(100) + "-http":     edge.Allow,
		id(1) + "-" + id(2) + "-agent":      edge.NotFound,
		id(1) + "-" + id(2) + "-n":          edge.Allow,
		id(1) + "-" + id(4) + "-http":       edge.NotFound,
	} {
		if d := ask(t, c, host+".lab.example.com", "/"); d.Verdict != want {
			t.Errorf("%s: %v (%s), want %v", host, d.Verdict, d.Why, want)
		}
	}
	if d := ask(t, c, id(1)+"-"+id(3)+"-terminal.lab.example.com", "/"); d.Route.Addr.Port() != 7600 {
		t.Errorf("a changed port: %+v", d)
	}
}

// TestLevelsReachTheEdge: who is granted less than all of a program gets that,
// and programs that do not keep to it carry no upgrade.
func TestLevelsReachTheEdge(t *testing.T) {
	c := routes(t, reconcile.View{}, map[string]string{"projects/shop/all.cue": fmt.Sprintf(`
		project: id: %q
		containers: web: {id: %q, permissions: {
			groups: everyone: {type: "ip", range: "0.0.0.0/0"}
			permissions: everyone: {
				terminal: {instances: "*", level: "read-only"}
				display: {instances: "*", level: "control"}
				files: {instances: 1, level: "write"}
			}
		}}`, id(1), id(2))})
	table, err := edge.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		program, method string
		upgrade         bool
		want            edge.Verdict
		level           string
	}{
		{"terminal", "GET", false, edge.Allow, "read-only"},
		{"terminal", "GET", true, edge.Allow, "read-only"},
		{"terminal", "POST", false, edge.Deny, ""},
		{"display", "POST", true, edge.Allow, "control"},
		{"files", "PUT", false, edge.Allow, "write"},
		{"files", "DELETE", false, edge.Deny, ""},
		{"files", "GET", true, edge.Deny, ""},
	} {
		d := table.Decide(edge.Request{
			Host: id(1) + "-" + id(2) + "-" + row.program + ".lab.example.com", Path: "/", Method: row.method, Upgrade: row.upgrade,
			Client: netip.MustParseAddr("198.51.100.7"), Time: time.Now(),
		})
		if d.Verdict != row.want || d.Route.Level != row.level {
			t.Errorf("%+v: %v at level %q (%s)", row, d.Verdict, d.Route.Level, d.Why)
		}
	}
}

// TestClosedContainer: enable_proxy: false is 503 for everyone.
func TestClosedContainer(t *testing.T) {
	c := routes(t, reconcile.View{}, map[string]string{"projects/shop/all.cue": fmt.Sprintf(
		"project: id: %q\ncontainers: web: {id: %q, enable_proxy: false, permissions: default: \"deny\"}", id(1), id(2))})
	if d := ask(t, c, id(1)+"-"+id(2)+"-http.lab.example.com", "/"); d.Verdict != edge.Unavailable || !d.Closed {
		t.Errorf("%v (%s)", d.Verdict, d.Why)
	}
}

// TestAliasesOfEverything: programs, paths and domains; and an alias that
// stays where it was follows in all but its target.
func TestAliasesOfEverything(t *testing.T) {
	files := map[string]string{"projects/shop/all.cue": fmt.Sprintf(`
		project: id: %q
		containers: web: id: %q
		containers: api: id: %q
		aliases: {
			shell: {container: "web", program: "terminal", index: 3}
			store: {
				container: "web", program: "http", port: 3000
				paths: "/api": {container: "api", program: "http", port: 8080}
				domains: ["store.example.org"]
			}
			away: {container: "web", program: "http", enabled: false, domains: ["away.example.org"]}
		}`, id(1), id(2), id(3))}
	c := routes(t, reconcile.View{}, files)
	for _, row := range []struct{ host, path, want string }{
		{"shell.lab.example.com", "/", "10.0.0.2:76"},
		{"store.lab.example.com", "/", "10.0.0.2:3000"},
		{"store.lab.example.com", "/api/x", "10.0.0.1:8080"},
		{"store.example.org", "/api/x", "10.0.0.1:8080"},
		{"away.example.org", "/", "invalid AddrPort"},
		{"away.lab.example.com", "/", "invalid AddrPort"},
	} {
		if d := ask(t, c, row.host, row.path); d.Route.Addr.String() != row.want {
			t.Errorf("%s%s reaches %v (%s), want %s", row.host, row.path, d.Route.Addr, d.Why, row.want)
		}
	}

	// The commit before had store on port 80 of api, without paths; a path
	// of it may name what is gone.
	was := edge.Alias{
		Name: "store", Target: edge.Target{Container: "shop/api", Program: "http", Port: 80}, AllowPathOverride: true,
		Paths: []edge.AliasPath{{Path: "/old", Target: edge.Target{Container: "shop/gone", Program: "http"}}},
	}
	c = routes(t, reconcile.View{Stay: map[string]edge.Alias{"store": was}}, files)
	i := slices.IndexFunc(c.Aliases, func(a edge.Alias) bool { return a.Name == "store" })
	if a := c.Aliases[i]; a.Target != was.Target || len(a.Paths) != 1 || a.Paths[0].Path != "/api" || len(a.Domains) != 1 {
		t.Errorf("an alias that waits: %+v", a)
	}
	if d := ask(t, c, "store.example.org", "/"); d.Route.Addr.String() != "10.0.0.1:80" {
		t.Errorf("while it waits it reaches %v", d.Route.Addr)
	}
}
