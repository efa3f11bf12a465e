package edge

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"swage/edge/limit"
)

// site is the Config that testdata/cookies.txt describes.
func site(app netip.AddrPort) Config {
	c := at(app.Addr(), nil)
	to := Target{Container: "shop/web", Program: "http", Port: app.Port()}
	c.Aliases = []Alias{
		{Name: "app", Target: to, AllowPathOverride: true},
		{Name: "shop", Domains: []string{"shop.example", "www.shop.example"}, Target: to, AllowPathOverride: true},
		{Name: "alone", Domains: []string{"alone.example", "www.other.example"}, Target: to, AllowPathOverride: true},
	}
	return c
}

// TestS13SetCookie: every line of testdata/cookies.txt.
func TestS13SetCookie(t *testing.T) {
	app := netip.MustParseAddrPort("127.0.1.1:80")
	table := mustCompile(t, site(app))
	web := strings.TrimPrefix(origin(app.Port()), "https://")
	expand := strings.NewReplacer("{web}", web, "{app}", "app."+zone, "{APP}", strings.ToUpper("app."+zone), "{zone}", zone, "{ZONE}", strings.ToUpper(zone))
	for _, row := range rowsOf(t, "cookies.txt") {
		if len(row) != 3 {
			t.Fatalf("%q has %d columns", row, len(row))
		}
		host := expand.Replace(row[0])
		said, err := strconv.Unquote(`"` + strings.ReplaceAll(expand.Replace(row[1]), `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%q: %v", row, err)
		}
		want := []string{expand.Replace(row[2])}
		switch row[2] {
		case "-":
			want = nil
		case "same":
			want[0] = said
		}
		for _, host := range []string{host, strings.ToUpper(host), host + ".", host + ":8443"} {
			x := &exchange{table: table, r: &http.Request{Host: host}}
			h := http.Header{"Set-Cookie": {said}, "Set-Cookie2": {said}}
			x.keepToHost(h)
			if !slices.Equal(h["Set-Cookie"], want) || len(h["Set-Cookie2"]) > 0 {
				t.Errorf("%s: %q becomes %q, want %q", host, said, h, want)
			}
		}
	}
}

func TestS13ClearSiteData(t *testing.T) {
	const all = `"cache", "storage", "executionContexts", "clientHints", "prefetchCache", "prerenderCache"`
	for said, want := range map[string]string{
		`"cookies"`:                     "",
		`"*"`:                           all,
		`"cache", "cookies"`:            `"cache"`,
		`"storage","cookies" , "*"`:     `"storage", "cache", "executionContexts", "clientHints", "prefetchCache", "prerenderCache"`,
		` "storage" `:                   `"storage"`,
		`"Cookies"`:                     "",
		`cookies`:                       "",
		`*`:                             "",
		`"cookies`:                      "",
		`"cookies"; x`:                  "",
		`"cache", "cookies:x", "new"`:   `"cache"`,
		`"cache|x", "cache", "cache"`:   `"cache"`,
		"\"cache\"\n\"cookies\"\n\"*\"": all,
	} {
		x := &exchange{table: mustCompile(t, fixture()), r: &http.Request{Host: "app." + zone}}
		h := http.Header{"Clear-Site-Data": strings.Split(said, "\n")}
		x.keepToHost(h)
		if got := strings.Join(h["Clear-Site-Data"], "|"); got != want {
			t.Errorf("%q becomes %q, want %q", said, got, want)
		}
	}
}

// TestS13Answers: over every version, for a generated host and an alias: in 1xx,
// in answers that come in one piece and others, and in trailers.
func TestS13Answers(t *testing.T) {
	const wide, narrow = "a=b; Domain=" + zone + "; Path=/", "a=b; Path=/"
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Set-Cookie", wide)
		h.Add("Set-Cookie", "c=d")
		h.Set("Clear-Site-Data", `"cookies", "cache"`)
		switch r.URL.Path {
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
		case "/trailer":
			h.Set("Trailer", "Set-Cookie, Clear-Site-Data, X-Sum")
			h.Del("Set-Cookie")
			h.Del("Clear-Site-Data")
			_, _ = io.WriteString(w, "hello")
			h.Set("Set-Cookie", wide)
			h.Set("Clear-Site-Data", `"cookies"`)
			h.Set("X-Sum", "5")
			h.Set(http.TrailerPrefix+"Set-Cookie2", wide)
			return
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
			return
		case "/chunked":
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "hello")
	})
	s := serve(t, mustCompile(t, site(app)))
	check := func(t *testing.T, what string, h http.Header) {
		t.Helper()
		if !slices.Equal(h["Set-Cookie"], []string{narrow, "c=d"}) || !slices.Equal(h["Clear-Site-Data"], []string{`"cache"`}) {
			t.Errorf("%s: %q", what, h)
		}
	}
	each(t, func(t *testing.T, version int) {
		c := s.client(t, "127.0.0.2", version)
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, host := range []string{origin(app.Port()), "https://app." + zone} {
			for _, path := range []string{"/", "/early", "/redirect", "/chunked"} {
				hints := 0
				trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
					hints++
					check(t, host+path+", 1xx", http.Header(h))
					return nil
				}}
				r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, host+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := c.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				check(t, host+path, res.Header)
				if path == "/early" && hints == 0 {
					t.Error("no early hints came")
				}
			}
			res, err := c.Get(host + "/trailer")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if got := fmt.Sprint(res.Header, res.Trailer); strings.Contains(got, "Cookie") || strings.Contains(got, "Clear") || res.Trailer.Get("X-Sum") != "5" {
				t.Errorf("%s: %s", host, got)
			}
		}
	})
}

// TestS13WebSocket: browsers take cookies of a handshake, too.
func TestS13WebSocket(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b; domain="+zone)
		echo(w, r)
	})
	s := serve(t, mustCompile(t, site(app)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, "https://app."+zone, &websocket.DialOptions{HTTPClient: s.client(t, "127.0.0.2", 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if got := res.Header["Set-Cookie"]; !slices.Equal(got, []string{"a=b"}) {
		t.Errorf("%q", got)
	}
}

// TestS13Planted: cookies that a neighbour planted lock nobody out: the right
// one counts, and the wrong ones beside it are no guesses.
func TestS13Planted(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	s := serveHouse(t, app, house())
	c := s.client(t, "127.0.0.2", 1)
	for i := range 3 * limit.ClientBurst {
		cookie := fmt.Sprintf("key=planted-%d; key=cookie-key; key=", i)
		if i%2 == 1 {
			cookie = fmt.Sprintf("key=cookie-key; key=planted-%d", i)
		}
		if res, body := get(t, c, origin(app.Port()), "Cookie", cookie); res.StatusCode != http.StatusOK || strings.Contains(body, "planted") {
			t.Fatalf("%d: %s %s", i, res.Status, body)
		}
	}
	// Nor are empty ones, and those that cannot be read.
	for i := range 3 * limit.ClientBurst {
		for _, header := range [][]string{
			{"Cookie", "key="},
			{"Cookie", `key=""; jwt=`},
			{"X-Key", ""},
			{"Authorization", "Bearer "},
			{"Authorization", "Basic !"},
			{"Authorization", fmt.Sprint("Digest ", i)},
			{"Authorization", basic("ann", fmt.Sprint(i)), "Authorization", basic("ann", "horse")},
		} {
			if res, _ := get(t, c, origin(app.Port()), header...); res.StatusCode != http.StatusUnauthorized {
				t.Fatalf("%q: %s", header, res.Status)
			}
		}
	}
}

// TestS13Guesses: what is wrong is a guess all the same, however it is wrapped.
func TestS13Guesses(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	p := house()
	p.Groups["second"] = Group{Token: &Token{Source{Header: "X-Key"}, sum("second-key")}}
	s := serveHouse(t, app, p)
	for i, guess := range []func(n int) []string{
		func(n int) []string { return []string{"Cookie", fmt.Sprintf("key=%d", n)} },
		func(n int) []string { return []string{"Cookie", fmt.Sprintf("key=%d; key=%d; key=x", n, -n-1)} },
		func(n int) []string { return []string{"X-Key", fmt.Sprint(n), "X-Key", fmt.Sprint(-n - 1)} },
		// beside one that is right, where another is left to guess
		func(n int) []string { return []string{"X-Key", "header-key", "X-Key", fmt.Sprint(n)} },
		func(n int) []string { return []string{"X-Key", "header-key", "Cookie", fmt.Sprintf("key=%d", n)} },
		func(n int) []string {
			return []string{"Authorization", basic("ann", "horse"), "Cookie", fmt.Sprintf("key=%d", n)}
		},
	} {
		c := s.client(t, fmt.Sprintf("127.0.0.%d", 10+i), 1)
		for n := range limit.ClientBurst {
			get(t, c, origin(app.Port()), guess(n)...)
		}
		if res, _ := get(t, c, origin(app.Port()), "X-Key", "another"); res.StatusCode != http.StatusTooManyRequests {
			t.Errorf("row %d: %s after %d guesses", i, res.Status, limit.ClientBurst)
		}
	}
}

// TestS13Bounded: of many values few are looked at.
func TestS13Bounded(t *testing.T) {
	r := &http.Request{Header: http.Header{"Cookie": {strings.Repeat("key=a; ", 10) + "key=b; key=c; key=d; key=e; key=f"}}}
	if got := (Source{Cookie: "key"}).read(r); got.n != maxValues || !slices.Equal(got.all[:], []string{"a", "b", "c", "d"}) {
		t.Errorf("%+v", got)
	}
	// The length of a cookie's line is linear: a container may say 256 KiB.
	line := "a=b" + strings.Repeat(";a", maxAnswerHeader/2) + "; Domain=" + zone
	table := mustCompile(t, fixture())
	begun := time.Now()
	if got := table.hostCookie("app."+zone, line); len(got) != len(line)-len("; Domain="+zone) {
		t.Errorf("%d bytes of %d", len(got), len(line))
	}
	if d := time.Since(begun); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
}

// FuzzSetCookie: whatever the application says, a browser finds no Domain but
// the host's own, and nothing else changes.
func FuzzSetCookie(f *testing.F) {
	for _, row := range []string{"a=b; Domain=" + zone, "a=b;domain", "a=\"b; Domain=.x\"", ";;=;Domain=;", "a=b;\tdomain = app." + zone + " ;x", "a=b; Domain=[::1]"} {
		f.Add(row)
	}
	table := mustCompile(f, site(netip.MustParseAddrPort("127.0.1.1:80")))
	host := "app." + zone
	f.Fuzz(func(t *testing.T, line string) {
		for _, got := range table.hostCookies(host, []string{line}) {
			if again := table.hostCookie(host, got); again != got {
				t.Errorf("%q becomes %q, then %q", line, got, again)
			}
			for i, attribute := range strings.Split(got, ";") {
				name, value, _ := strings.Cut(attribute, "=")
				if i > 0 && strings.EqualFold(strings.Trim(name, " \t"), "domain") && !strings.EqualFold(strings.TrimPrefix(strings.Trim(value, " \t"), "."), host) {
					t.Errorf("%q becomes %q", line, got)
				}
			}
			// net/http reads as browsers do, and is an opinion of its own.
			if c, err := http.ParseSetCookie(got); err == nil && c.Domain != "" && !strings.EqualFold(strings.TrimSpace(c.Domain), host) && net.ParseIP(c.Domain) == nil {
				t.Errorf("%q becomes %q, whose Domain is %q", line, got, c.Domain)
			}
			if !strings.Contains(strings.ToLower(line), "domain") && got != line {
				t.Errorf("%q becomes %q", line, got)
			}
		}
	})
}

// TestA5AltSvc: nothing that a container says of other ways to its host arrives,
// over any version, before the answer or with it.
func TestA5AltSvc(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Alt-Svc", "clear")
		w.WriteHeader(http.StatusEarlyHints)
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			if said := h["Alt-Svc"]; said != nil {
				t.Errorf("%q arrives early", said)
			}
			return nil
		}}
		r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, origin(app.Port()), nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.client(t, "127.0.0.2", version).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if said := res.Header.Get("Alt-Svc"); said == "clear" || version == 3 && said != "" {
			t.Errorf("%q arrives", said)
		}
	})
}
