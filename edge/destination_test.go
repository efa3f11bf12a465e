package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// davs is the Config that testdata/destination.txt describes, and its hosts.
func davs(app netip.AddrPort) (Config, map[string]string) {
	c := at(app.Addr(), nil)
	c.Containers = append(c.Containers, Container{ProjectID: shop, ID: strings.Repeat("9", 24), Name: "shop/other", Addr: app.Addr(), Catalogue: kit})
	to := Target{Container: "shop/web", Program: "http", Port: app.Port()}
	other, port := to, to
	other.Container, port.Port = "shop/other", app.Port()-1
	c.Aliases = []Alias{
		{Name: "dav", Domains: []string{"dav.example"}, Target: to, TargetPath: "/dav", AllowPathOverride: true},
		{Name: "exact", Target: to, TargetPath: "/dav/one"},
		{Name: "root", Target: to},
		{Name: "plain", Target: to, AllowPathOverride: true},
		{Name: "parts", Target: to, TargetPath: "/home", AllowPathOverride: true, Paths: []AliasPath{{"/same", to}, {"/same/too", to}, {"/port", port}, {"/other", other}}},
	}
	hosts := map[string]string{"web": strings.TrimPrefix(origin(app.Port()), "https://")}
	for _, a := range c.Aliases {
		hosts[a.Name] = a.Name + "." + zone
	}
	return c, hosts
}

// TestS6SecondTargets: every line of testdata/destination.txt, over every
// version.
func TestS6SecondTargets(t *testing.T) {
	rows := rowsOf(t, "destination.txt")
	app := backend(t, "127.0.1.1", mirror)
	c, hosts := davs(app)
	s := serve(t, mustCompile(t, c))
	var expand []string
	for name, host := range hosts {
		expand = append(expand, "{"+name+"}", host, "{"+strings.ToUpper(name)+"}", strings.ToUpper(host))
	}
	keys := strings.NewReplacer(append(expand, "{zone}", zone)...)
	each(t, func(t *testing.T, version int) {
		c := s.client(t, "127.0.0.2", version)
		for _, row := range rows {
			if len(row) < 5 || len(row) > 6 {
				t.Fatalf("%q has %d columns", row, len(row))
			}
			r := &http.Request{Method: row[1], URL: &url.URL{Scheme: "https", Host: hosts[row[0]], Opaque: row[2]}, Header: http.Header{}}
			for field := range strings.SplitSeq(keys.Replace(row[3]), " | ") {
				name, value, _ := strings.Cut(field, ":")
				r.Header.Add(name, strings.TrimSpace(value))
			}
			res, err := c.Do(r.WithContext(t.Context()))
			if err != nil {
				t.Fatalf("%q: %v", row, err)
			}
			var got struct {
				URI    string
				Header http.Header
			}
			err = json.NewDecoder(res.Body).Decode(&got)
			res.Body.Close()
			if len(row) == 5 {
				if fmt.Sprint(res.StatusCode) != row[4] || err == nil {
					t.Errorf("%q: %s, %s %q arrives", row, res.Status, got.URI, got.Header)
				}
				continue
			}
			if err != nil || res.StatusCode != http.StatusOK || got.URI != row[4] {
				t.Errorf("%q: %s, %q arrives (%v)", row, res.Status, got.URI, err)
				continue
			}
			sent, _, _ := strings.Cut(row[3], ":")
			name, want, _ := strings.Cut(keys.Replace(row[5]), ": ")
			if name == "-" {
				name = sent
			}
			if have := strings.Join(got.Header[name], " | "); have != want {
				t.Errorf("%q: %q arrives", row, have)
			}
		}
	})
}

// TestS6Live: a table under which the second target is not served any more cuts
// what is live.
func TestS6Live(t *testing.T) {
	c, _ := davs(netip.MustParseAddrPort("127.0.1.1:80"))
	r := Request{Host: "dav." + zone, Method: "MOVE", Path: "/dav", Targets: []string{"/b"}, Time: noon}
	if d := mustCompile(t, c).Decide(r); d.Verdict != Allow {
		t.Fatalf("%+v", d)
	}
	c.Aliases[0].AllowPathOverride = false
	if d := mustCompile(t, c).Decide(r); d.Verdict != NotFound || d.Route != (Route{}) {
		t.Errorf("%+v", d)
	}
	c.Aliases[0].ExpiresAt = noon.Add(-time.Hour)
	if d := mustCompile(t, c).Decide(r); d.Verdict != NotFound {
		t.Errorf("%+v", d)
	}
}

// TestS6Levels: what MOVE, COPY and their like need of files.
func TestS6Levels(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	p := house()
	for name, level := range map[string]string{"ann": "read", "header": "write", "param": "delete"} {
		p.Cells[name] = map[string]Cell{"files": {All: true, Level: level}}
	}
	s := serveHouse(t, app, p)
	levels := []string{"read", "write", "delete"}
	bring := map[string][]string{"read": {"Authorization", basic("ann", "horse")}, "write": {"X-Key", "header-key"}, "delete": nil}
	c := s.client(t, "127.0.0.2", 1)
	for _, row := range []struct {
		method, overwrite string // of the header; "-": none
		least             string
		arrives           [3]string // Overwrite, by level
	}{
		{"MOVE", "-", "delete", [3]string{}},
		{"MOVE", "F", "delete", [3]string{2: "F"}},
		{"MOVE", "T", "delete", [3]string{2: "T"}},
		{"COPY", "-", "write", [3]string{1: "F"}},
		{"COPY", "F", "write", [3]string{1: "F", 2: "F"}},
		{"COPY", "T", "delete", [3]string{2: "T"}},
		{"COPY", "f", "delete", [3]string{2: "f"}},
		{"COPY", "", "delete", [3]string{}},
		{"COPY", "F, T", "delete", [3]string{2: "F, T"}},
		{"LOCK", "-", "write", [3]string{}},
		{"UNLOCK", "-", "write", [3]string{}},
		{"PROPPATCH", "-", "write", [3]string{}},
		{"PUT", "-", "write", [3]string{}},
		{"PUT", "T", "write", [3]string{1: "T", 2: "T"}},
		{"PROPFIND", "-", "read", [3]string{}},
		{"DELETE", "-", "delete", [3]string{}},
		{"REPORT", "-", "delete", [3]string{}},
		{"BIND", "-", "delete", [3]string{}},
	} {
		granted := false
		for i, level := range levels {
			granted = granted || level == row.least
			address := "https://files." + zone + "/a"
			if level == "delete" {
				address += "?key=param-key"
			}
			r, err := http.NewRequest(row.method, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k := 0; k < len(bring[level]); k += 2 {
				r.Header.Set(bring[level][k], bring[level][k+1])
			}
			r.Header.Set("Destination", "/b")
			if row.overwrite != "-" {
				r.Header["Overwrite"] = []string{row.overwrite}
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Header http.Header }
			_ = json.NewDecoder(res.Body).Decode(&got)
			res.Body.Close()
			if passed := res.StatusCode == http.StatusOK; passed != granted {
				t.Errorf("%s, Overwrite %q, at level %s: %s", row.method, row.overwrite, level, res.Status)
			} else if passed && got.Header.Get("Overwrite") != row.arrives[i] {
				t.Errorf("%s, Overwrite %q, at level %s: %q arrives", row.method, row.overwrite, level, got.Header["Overwrite"])
			}
		}
	}
}

// TestA2KeptDestination: whoever may write and not delete cannot have a COPY
// arrive without "Overwrite: F", by naming it in Connection.
func TestA2KeptDestination(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	p := house()
	p.Cells["header"] = map[string]Cell{"files": {All: true, Level: "write"}}
	s := serveHouse(t, app, p)
	for _, fields := range []string{"Overwrite: F", "Overwrite: F\r\nConnection: overwrite", "Connection: keep-alive, Overwrite", "Overwrite: F\r\nOVERWRITE: F\r\nConnection: close, Overwrite"} {
		conn := s.dialTLS(t, "127.0.0.2")
		fmt.Fprintf(conn, "COPY /a HTTP/1.1\r\nHost: files.%s\r\nX-Key: header-key\r\nDestination: /b\r\n%s\r\n\r\n", zone, fields)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Header http.Header }
		err = json.NewDecoder(res.Body).Decode(&got)
		if have := got.Header["Overwrite"]; err != nil || !slices.Equal(have, []string{"F"}) {
			t.Errorf("%q: %s, %q arrives (%v)", fields, res.Status, have, err)
		}
	}
}

// TestA3Star: a star is no path below that of an alias, and none of GET.
func TestA3Star(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	c, hosts := davs(app)
	s := serve(t, mustCompile(t, c))
	for _, row := range []struct {
		host, method string
		want         int
	}{{"dav", "OPTIONS", 404}, {"exact", "OPTIONS", 404}, {"root", "OPTIONS", 404}, {"plain", "GET", 400}, {"dav", "GET", 400}, {"web", "GET", 400}, {"web", "OPTIONS", 200}} {
		if got := s.send(t, hosts[row.host], row.method+" * HTTP/1.1\r\nHost: "+hosts[row.host]+"\r\nConnection: close\r\n\r\n"); !slices.Equal(got, []int{row.want}) {
			t.Errorf("%s *, %s: %v, want %d", row.method, row.host, got, row.want)
		}
	}
}

// TestS20Methods: parameters and headers that name a method, at level read.
func TestS20Methods(t *testing.T) {
	for query, want := range map[string]bool{
		"_method=DELETE": true, "a=1&_method=DELETE": true, "a=1;_method=DELETE": true, ";_method=DELETE": true, "a=1&amp;_method=DELETE": true,
		"%5fmethod=DELETE": true, "%5Fm%65thod": true, "_METHOD=DELETE": true, "_Method=x": true, ".method=DELETE": true, "%2emethod=x": true,
		"+_method=DELETE": true, "%20_method=DELETE": true, "_method[]=DELETE": true, "_method%5b%5d=DELETE": true, "_method%00=DELETE": true,
		"X-HTTP-Method-Override=DELETE": true, "x_http_method=DELETE": true, "a&x.method.override=DELETE": true,
		"": false, "a=_method=DELETE": false, "a=1&b=_method": false, "method=DELETE": false, "a_method=DELETE": false, "_methods=x": false,
		"_method-x=1": false, "%255fmethod=DELETE": false, "a%26_method=DELETE": false, "%zz&_metho": false, "x-http=1": false,
	} {
		r := &http.Request{Method: "GET", URL: &url.URL{RawQuery: query}}
		if got := NewRequest(r, noon).Override; got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
	for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		for _, spelling := range spellings(name) {
			r := &http.Request{Method: "GET", URL: &url.URL{}, Header: http.Header{http.CanonicalHeaderKey(spelling): {"DELETE"}}}
			if !NewRequest(r, noon).Override {
				t.Errorf("%s passes", spelling)
			}
		}
	}
}

// TestS20MethodsAtTheEdge: they are refused below the full level, and do not
// arrive.
func TestS20MethodsAtTheEdge(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	s := serveHouse(t, app, house())
	each(t, func(t *testing.T, version int) {
		c := s.client(t, "127.0.0.2", version)
		for _, query := range []string{"a=1;_method=DELETE", "a=1&.method=DELETE", "_METHOD=DELETE", "a=1;x_http_method_override=DELETE"} {
			r := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: "files." + zone, Path: "/x", RawQuery: query}, Header: http.Header{"X-Key": {"header-key"}}}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s", query, res.Status)
			}
		}
	})
}

// TestS20Paths: spellings of a path against levels, which do not look at it,
// and against aliases.
func TestS20Paths(t *testing.T) {
	c, _ := davs(netip.MustParseAddrPort("127.0.1.1:80"))
	davs := mustCompile(t, c)
	levels := mustCompile(t, houseAt(netip.MustParseAddrPort("127.0.1.1:80"), house()))
	proven := Identity{}
	for _, credential := range levels.documentOf(&Request{Host: "files." + zone, Path: "/"}).credentials {
		if credential.token != nil && credential.token.Source.Header == "X-Key" {
			proven = NewIdentity(Proof{Credential: credential.id})
		}
	}
	for _, up := range []string{
		"..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%25252E%25252e", ".%25%32%65", "%c0%ae%c0%ae", "%C0%AE.", "\xc0\xae\xc0\xae",
		"%e0%80%ae%e0%80%ae", "%f0%80%80%ae.", "%25c0%25ae.", "%u002e%u002e", "%ef%bc%8e%ef%bc%8e", "\uff0e\uff0e", "\u2024.", "\u2025", "%e2%80%a5",
		"..;", "..;a=b", "..%3b", "..%253b", "..%00", "..%00x", "x%2f..", "x%5c..", "x%5c..%5c", "x\\..", "x%252f..%252f", "x%c0%af..%c0%afx", "x%ef%bc%8f..",
		"x%e0%80%af..%2f", "x%25c0%25af..", "x%c1%9c..%c1%9cx",
		"..%3f", "..%3fx", "..%23", "..%2523x", "..#", ".%09.", "%0a..", "..%20", "%20..%20", ".%2509.", "..%0d%0a",
	} {
		if !climbs("/" + up) {
			t.Errorf("%q does not climb", up)
		}
		for _, path := range []string{"/" + up, "/" + up + "/x", "/dav/a/" + up + "/" + up + "/x"} {
			if d := davs.Decide(Request{Host: "dav." + zone, Path: path, Time: noon}); d.Verdict != NotFound {
				t.Errorf("%q leaves the target path: %+v", path, d.Route)
			}
		}
		if d := davs.Decide(Request{Host: "parts." + zone, Path: "/same/" + up + "/x", Time: noon}); d.Verdict != NotFound {
			t.Errorf("%q leaves its part of the alias: %+v", up, d.Route)
		}
		// What is read as another path goes to a container that judges it
		// all the same: nothing is allowed that the path decides.
		for _, path := range []string{"/x/" + up + "/other/y", "/" + up + "/other", "/%6fther", "/%256fther", "//other", "/o%74her/x"} {
			if d := davs.Decide(Request{Host: "parts." + zone, Path: path, Time: noon}); d.Verdict == Allow && d.Container != "shop/web" {
				t.Errorf("%q leads to %s", path, d.Container)
			}
		}
		for method, want := range map[string]Verdict{"GET": Allow, "PUT": Deny, "DELETE": Deny} {
			host := shop + "-" + web + "-files." + zone
			if d := levels.Decide(Request{Host: host, Method: method, Path: "/a/" + up + "/b", Time: noon, Identity: proven}); d.Verdict != want || want == Allow && d.Route.Level != "read" {
				t.Errorf("%s %q: %v", method, up, d)
			}
		}
	}
	for _, path := range []string{"/", "/a..b", "/...", "/a/..b/", "/..a", "/%2e", "/%2e%2ex", "/a%252e", "/%c3%a9", "/caf\u00e9/..x", "/%", "/%2", "/%c0", "/%c0%", "/%25", "/%e2%80", "/.%u00", "/\u2025x", "/x;..a", "/a%20b", "/a%20..b", "/...%20", "/x%3f..a", "/x%23..a"} {
		if climbs(path) {
			t.Errorf("%q climbs", path)
		}
	}
}

// FuzzDestination: whatever a request names beside its path, nothing panics, and
// what arrives of it lies within the alias.
func FuzzDestination(f *testing.F) {
	for _, row := range []string{"https://dav." + zone + "/b", "/b", "//x", "https://%64av." + zone + "/../b", "https://dav.example:1?x", "/%252e%252e/", "https://a@dav.example/", "/b#c", "/dav"} {
		f.Add(row, "<"+row+"> (<urn:a> [\"b\"])")
	}
	c, hosts := davs(netip.MustParseAddrPort("127.0.1.1:80"))
	table := mustCompile(f, c)
	inside := func(t *testing.T, from, uri string) {
		u, err := url.Parse(uri)
		if err != nil {
			if _, ok := parseReference(from); ok && !strings.Contains(err.Error(), "invalid URL escape") {
				t.Errorf("%q becomes %q: %v", from, uri, err)
			}
			return
		}
		if u.Host != "" && u.Host != hosts["dav"] || u.User != nil || u.Opaque != "" || u.Fragment != "" {
			t.Errorf("%q becomes %q, of another host", from, uri)
		}
		if p := u.Path; p != "/dav" && !strings.HasPrefix(p, "/dav/") || strings.Contains(p+"/", "/../") {
			t.Errorf("%q becomes %q, outside", from, uri)
		}
	}
	f.Fuzz(func(t *testing.T, destination, conditions string) {
		r := &http.Request{Method: "MOVE", Host: hosts["dav"], URL: &url.URL{Path: "/a"}, RequestURI: "/a", Header: http.Header{"Destination": {destination}, "If": {conditions}}}
		x := &exchange{r: r, table: table, request: NewRequest(r, noon)}
		if d := table.Decide(x.request); d.Verdict != Allow {
			if d.Route != (Route{}) {
				t.Errorf("%q and %q are refused with %+v", destination, conditions, d.Route)
			}
			return
		}
		inside(t, destination, x.urls("Destination", r.Header["Destination"])[0])
		if !eachTag(x.urls("If", r.Header["If"])[0], func(start, end int) {
			inside(t, conditions, x.urls("If", r.Header["If"])[0][start:end])
		}) {
			t.Errorf("%q is passed on", conditions)
		}
	})
}
