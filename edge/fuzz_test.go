package edge

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// FuzzHost: whatever the host, nothing panics, a second reading changes
// nothing, and only the two known hosts of the stranger's are allowed.
func FuzzHost(f *testing.F) {
	for _, host := range []string{
		"", ":", ".", "my-api." + zone, "MY-API." + zone + ".:443", shop + "-" + web + "-http-3000." + zone,
		shop + "-" + web + "-http." + zone, shop + "-" + web + "-HTTP-3000." + zone, blog + "-" + gated + "-http." + zone, "[::1]:443", strings.Repeat("a.", 127) + "a",
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
		upper := []byte(host)
		for i, c := range upper {
			if 'a' <= c && c <= 'z' {
				upper[i] = c - 'a' + 'A'
			}
		}
		if other := table.Decide(Request{Host: string(upper), Client: client, Path: "/"}); other != d {
			t.Errorf("%q is decided %+v, and in capitals %+v", host, d, other)
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

// FuzzCredentials: however a request spells what it brings along, nothing
// panics, what proves something is stripped, and the rest stays as it was.
func FuzzCredentials(f *testing.F) {
	f.Add("Bearer k", "key=k; a=b", "key=k&a=b", "X-Method", "k")
	f.Add("Basic YTpi", "a; ;key=\"k\"", "&&%6bey=k&_method=x", "X_Http_Method", "")
	f.Add("bearer  k ", "key", "key", "X.Http.Method.Override", "k")
	sources := []Source{authorization, {Cookie: "key"}, {Param: "key"}, {Header: "X-Key"}}
	var groups []credential
	for _, s := range sources {
		g := Group{Token: &Token{s, sum("k")}}
		groups = append(groups, *g.credential())
	}
	password := Group{Password: &Password{"a", "b"}}
	d := &document{}
	for i := range groups {
		d.credentials = append(d.credentials, &groups[i])
	}
	d.credentials = append(d.credentials, password.credential())
	f.Fuzz(func(t *testing.T, authorized, cookie, query, name, value string) {
		r, err := http.NewRequest("GET", "https://example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		r.Header = http.Header{"Authorization": {authorized}, "Cookie": {cookie}, "X-Key": {value}, name: {value}}
		_ = NewRequest(r, noon)
		e := verify(t.Context(), openVerifier{}, d.claims(nil, r))
		if len(e.identity.proofs) > len(e.spent) {
			t.Errorf("%d proofs from %d places", len(e.identity.proofs), len(e.spent))
		}
		out := r.Clone(t.Context())
		leave(e.spent, out)
		for _, s := range e.spent {
			if s.read(out).n != 0 {
				t.Errorf("%+v is still there: %q %q", s, out.Header, out.URL.RawQuery)
			}
		}
		if !slices.Contains(e.spent, Source{Cookie: "key"}) && out.Header.Get("Cookie") != cookie {
			t.Errorf("the cookie %q becomes %q", cookie, out.Header.Get("Cookie"))
		}
		if !slices.Contains(e.spent, Source{Param: "key"}) && out.URL.RawQuery != query {
			t.Errorf("the query %q becomes %q", query, out.URL.RawQuery)
		}
		if again := verify(t.Context(), openVerifier{}, d.claims(nil, out)); len(again.spent) > 0 {
			t.Errorf("%v is found a second time", again.spent)
		}
	})
}

// leave leaves of a request what is passed on.
func leave(s spent, r *http.Request) {
	for name, values := range r.Header {
		if r.Header[name] = s.field(name, values); len(r.Header[name]) == 0 {
			delete(r.Header, name)
		}
	}
	r.URL.RawQuery = s.query(r.URL.RawQuery)
}
