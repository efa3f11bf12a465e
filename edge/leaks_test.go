package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"swage/edge/credentials"
)

// leaky is the Config that testdata/leaks.txt describes.
func leaky(app netip.AddrPort) Config {
	token := func(s Source, value string) Group { return Group{Token: &Token{s, sum(value)}} }
	p := &Permissions{Default: Allow, Groups: map[string]Group{
		"ann":    {Password: &Password{"ann", hashed("horse")}},
		"bearer": token(authorization, "bearer-key"), "header": token(Source{Header: "X-Key"}, "header-key"),
		"cookie": token(Source{Cookie: "key"}, "cookie-key"), "param": token(Source{Param: "key"}, "param-key"),
		"jwt":  {JWT: &JWT{Sources: []Source{authorization, {Cookie: "jwt"}, {Param: "jwt"}}, Rules: JWTRules{Algorithm: "HS256", Secret: []byte(hsSecret)}}},
		"jwt2": {JWT: &JWT{Sources: []Source{{Cookie: "jwt2"}, {Header: "X-Jwt2"}}, Rules: JWTRules{Algorithm: "HS256", Secret: []byte("another" + hsSecret)}}},
		"two":  {All: []Group{token(Source{Header: "X-All"}, "all-key"), token(Source{Cookie: "all"}, "all-key")}},
	}, Cells: map[string]map[string]Cell{"ann": {"http": {All: true}}}}
	c := at(app.Addr(), p)
	c.Containers = append(c.Containers, Container{
		ProjectID: shop, ID: strings.Repeat("9", 24), Name: "shop/other", Addr: app.Addr(), Catalogue: kit,
		Permissions: &Permissions{Groups: map[string]Group{"pass": token(Source{Param: "pass"}, "other-key")}},
	})
	c.Aliases = []Alias{
		{Name: "mine", Domains: []string{"www.mine.example"}, Target: Target{Container: "shop/web", Program: "http", Port: app.Port()}, AllowPathOverride: true},
		{Name: "theirs", Target: Target{Container: "shop/other", Program: "http", Port: app.Port()}, AllowPathOverride: true},
	}
	return c
}

// TestS16Leaks: every line of testdata/leaks.txt, over every version.
func TestS16Leaks(t *testing.T) {
	rows := rowsOf(t, "leaks.txt")
	app := backend(t, "127.0.1.1", mirror)
	s := serve(t, nil)
	s.verifier = real{credentials.New(credentials.Options{})}
	s.Swap(mustCompile(t, leaky(app)))
	token := endsIn(time.Hour)
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	expand := strings.NewReplacer("{basic}", basic("ann", "horse"), "{jwt}", token, "{host}", host,
		"{alias}", "mine."+zone, "{ALIAS}", strings.ToUpper("mine."+zone), "{domain}", "www.mine.example", "{other}", "theirs."+zone)
	secrets := []string{token, "-key", strings.TrimPrefix(basic("ann", "horse"), "Basic "), "horse"}
	each(t, func(t *testing.T, version int) {
		for i, row := range rows {
			if len(row) != 4 {
				t.Fatalf("%q has %d columns", row, len(row))
			}
			for k := range row {
				row[k] = expand.Replace(row[k])
			}
			// An address of its own for each: wrong ones are counted.
			c := s.client(t, fmt.Sprintf("127.0.%d.%d", 10+version, i+1), version)
			var header []string
			if row[1] != "-" {
				for field := range strings.SplitSeq(row[1], " | ") {
					name, value, _ := strings.Cut(field, ": ")
					header = append(header, name, value)
				}
			}
			res, body := get(t, c, "https://"+host+row[0], header...)
			var got struct {
				URI    string
				Header http.Header
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%q: %d %s", row, res.StatusCode, body)
				continue
			}
			if got.URI != row[2] {
				t.Errorf("%q: %s arrives", row, got.URI)
			}
			text := fmt.Sprint(got.URI, got.Header)
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%q: %s arrives in %s", row, secret, text)
				}
			}
			if row[3] == "-" {
				continue
			}
			for field := range strings.SplitSeq(row[3], " | ") {
				name, want, _ := strings.Cut(field, ": ")
				if have := strings.Join(got.Header[name], ", "); have != want {
					t.Errorf("%q: %s is %q, want %q", row, name, have, want)
				}
			}
		}
	})
}

// TestS16Matrix: every source of a credential beside every other one, where all
// hold what counts and none decides.
func TestS16Matrix(t *testing.T) {
	app := netip.MustParseAddrPort("127.0.1.1:80")
	table := mustCompile(t, leaky(app))
	token := endsIn(time.Hour)
	places := map[string]func(*http.Request){
		"basic":  func(r *http.Request) { r.Header.Add("Authorization", basic("ann", "horse")) },
		"bearer": func(r *http.Request) { r.Header.Add("Authorization", "Bearer bearer-key") },
		"header": func(r *http.Request) { r.Header.Add("X-Key", "header-key") },
		"cookie": func(r *http.Request) { r.Header.Add("Cookie", "key=cookie-key") },
		"param":  func(r *http.Request) { r.URL.RawQuery += "&key=param-key" },
		"jwt":    func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+token) },
		"jwtc":   func(r *http.Request) { r.Header.Add("Cookie", "jwt="+token) },
		"jwtp":   func(r *http.Request) { r.URL.RawQuery += "&jwt=" + token },
		"two":    func(r *http.Request) { r.Header.Add("X-All", "all-key"); r.Header.Add("Cookie", "all=all-key") },
	}
	for one, put := range places {
		for other, putToo := range places {
			r := &http.Request{Method: "GET", Host: "mine." + zone, URL: &url.URL{RawQuery: "a=b"}, Header: http.Header{"Cookie": {"a=b"}}, RemoteAddr: "192.0.2.1:1"}
			put(r)
			if other != one {
				putToo(r)
			}
			document := table.documentOf(&Request{Host: r.Host, Path: "/"})
			e := verify(context.Background(), real{credentials.New(credentials.Options{})}, document.claims(nil, r))
			if e.failed {
				t.Errorf("%s and %s: a failure", one, other)
			}
			leave(e.spent, r)
			if left := fmt.Sprint(r.URL, r.Header); left != "?a=b map[Cookie:[a=b]]" {
				t.Errorf("%s and %s: %s is left", one, other, left)
			}
		}
	}
}

// FuzzReferer: whatever the URL, nothing panics, no parameter that holds a
// credential is left of one of this server, and those of others are not touched.
func FuzzReferer(f *testing.F) {
	for _, s := range []string{"https://mine." + zone + "/?key=a&b", "/?key", "//mine." + zone + "?jwt=b#c", "https:\\\\x@mine." + zone + "\\?key=1", "x:y?key=1", "https://elsewhere.example/?key=1", "?key=1", "https://mine." + zone + "?key=1?key=2", "https:mine." + zone + "?key=1", "https:///mine." + zone + "?key=1"} {
		f.Add(s)
	}
	table := mustCompile(f, leaky(netip.MustParseAddrPort("127.0.1.1:80")))
	f.Fuzz(func(t *testing.T, s string) {
		x := &exchange{table: table, request: Request{Host: "mine." + zone, Path: "/", Time: noon}}
		got := x.withoutParam(s)
		if again := x.withoutParam(got); again != got && !strings.Contains(s, "@") { // an empty host behind a user
			t.Errorf("%q becomes %q, then %q", s, got, again)
		}
		u, err := url.Parse(s)
		if err != nil || u.Opaque != "" || u.Host == "" && strings.Contains(s, "//") || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || strings.Contains(s, "\\") {
			return
		}
		if u.Host != "" && !table.covers(u.Host) && u.User == nil && u.Scheme != "" {
			if got != s {
				t.Errorf("%q of another server becomes %q", s, got)
			}
			return
		}
		after, err := url.Parse(got)
		if err != nil {
			t.Errorf("%q becomes %q: %v", s, got, err)
			return
		}
		if u.Host == "" || table.covers(u.Host) {
			if q := after.Query(); q.Has("key") || q.Has("jwt") {
				t.Errorf("%q becomes %q", s, got)
			}
		}
	})
}
