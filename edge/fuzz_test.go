package edge

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzHost: whatever the host, nothing panics, a second reading changes
// nothing, and only the two known hosts of the stranger's are allowed.
func FuzzHost(f *testing.F) {
	for _, host := range []string{
		"", ":", ".", "my-api." + zone, "MY-API." + zone + ".:443", shop + "-" + web + "-http-3000." + zone,
		shop + "-" + web + "-http." + zone, blog + "-" + gated + "-http." + zone, "[::1]:443", strings.Repeat("a.", 127) + "a",
	} {
		f.Add(host)
	}
	table := mustCompile(f, fixture())
	client := netip.MustParseAddr("198.51.100.7")
	f.Fuzz(func(t *testing.T, host string) {
		var buf, again [maxHost]byte
		if name, ok := normalise(&buf, host); ok {
			if strings.ToLower(string(name)) != string(name) || len(name) == 0 {
				t.Errorf("%q becomes %q", host, name)
			}
			// Only a name that still has a dot behind may change further.
			if same, ok := normalise(&again, string(name)); !strings.HasSuffix(string(name), ".") && (!ok || string(same) != string(name)) {
				t.Errorf("%q becomes %q, then %q", host, name, same)
			}
		}
		d := table.Decide(Request{Host: host, Client: client, Path: "/"})
		if d.Verdict == Allow && d.Container != "shop/web" {
			t.Errorf("%q reaches %+v", host, d)
		}
		if d.Verdict != Allow && d.Route != (Route{}) {
			t.Errorf("%q is refused and has the route %+v", host, d.Route)
		}
		if d.Generated && strings.Contains(strings.ToLower(redact(host)), web) {
			t.Errorf("the log shows %q", redact(host))
		}
	})
}

// FuzzAliasPath: an alias with a target path passes on nothing that leaves it.
func FuzzAliasPath(f *testing.F) {
	for _, path := range []string{"/", "/app", "/app/../x", "/%2e%2e/x", "/a%2f..%2fb", "/..;/x", "//x", "/%"} {
		f.Add(path)
	}
	table := mustCompile(f, fixture())
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		d := table.Decide(Request{Host: "app." + zone, Path: path})
		if d.Verdict != Allow {
			return
		}
		got := d.Route.Path
		if got == "" {
			got = d.Route.Prefix + path
		}
		if got != "/app" && !strings.HasPrefix(got, "/app/") || strings.Contains(got, "/../") || strings.HasSuffix(got, "/..") {
			t.Errorf("%q becomes %q", path, got)
		}
	})
}

// FuzzPaths: no spelling of a path leads a stranger to a container that is not
// open to everyone, and what a part of an alias serves stays below that part.
func FuzzPaths(f *testing.F) {
	for _, path := range []string{"/", "/api", "/api/x", "/api/admin", "/api/../x", "/api/%2e%2e/x", "/%61pi", "/api//admin", "/away", "/term/..", "/tls/."} {
		f.Add(path)
	}
	c, _ := town()
	table := mustCompile(f, c)
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		d := table.Decide(Request{Host: "shop." + zone, Path: path, Client: callers["stranger"], Time: noon})
		if d.Verdict != Allow {
			if d.Route != (Route{}) {
				t.Errorf("%q is refused and has the route %+v", path, d.Route)
			}
			return
		}
		if d.Container != "open" {
			t.Errorf("%q reaches %s", path, d.Container)
		}
		if d.Route.Addr.Port() != 80 && (strings.Contains(path, "/../") || strings.HasSuffix(path, "/..")) {
			t.Errorf("%q leaves its part of the alias", path)
		}
	})
}
