package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const domain = "shop.example.org"

// withDomains has an alias at two custom domains, and one that has expired.
func withDomains(addr netip.AddrPort) Config {
	c := at(addr.Addr(), nil)
	c.Aliases = []Alias{
		{Name: "my-api", Target: to("shop/web", "http", addr.Port()), AllowPathOverride: true, Domains: []string{domain, "blog.example.org"}},
		{Name: "old", Target: to("shop/web", "http", addr.Port()), AllowPathOverride: true, Domains: []string{"old.example.org"}, ExpiresAt: noon.AddDate(-20, 0, 0)},
	}
	return c
}

// plain serves a Proxy without TLS.
func plain(t *testing.T, p *Proxy, port int) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.ServePlain(ctx, l, func() int { return port }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServePlain: %v", err)
		}
	})
	return l.Addr().String()
}

// rawRequest sends a request as it stands and reads the answer.
func rawRequest(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestRedirect: what is asked for without TLS, and where it is sent.
func TestRedirect(t *testing.T) {
	p := NewProxy(Options{
		Logger: slog.New(slog.DiscardHandler),
		Strict: func() bool { return true },
		Challenge: func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/known") {
				return false
			}
			_, err := io.WriteString(w, "key of "+r.Host)
			return err == nil
		},
		Pending: func(name string) bool { return name == "blog.example.org" },
	})
	addr443, addr8443 := plain(t, p, 443), plain(t, p, 8443)
	if res, _ := rawRequest(t, addr443, "GET / HTTP/1.1\r\nHost: my-api."+zone+"\r\n\r\n"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("before any table: %d %v", res.StatusCode, res.Header)
	}
	p.Swap(mustCompile(t, withDomains(netip.MustParseAddrPort("10.0.0.1:80"))))

	for _, row := range []struct{ what, line, host, want string }{
		{"an alias", "GET /a/b?c=d", "my-api." + zone, "https://my-api." + zone + "/a/b?c=d"},
		{"a host of the zone that nobody has", "GET /", "nothing." + zone, "https://nothing." + zone + "/"},
		{"the zone itself", "GET /", zone, "https://" + zone + "/"},
		{"a domain", "GET /", domain, "https://" + domain + "/"},
		{"letter case, dot and port", "GET /", "Shop.Example.ORG.:80", "https://" + domain + "/"},
		{"another method", "POST /form", domain, "https://" + domain + "/form"},
		{"a path byte for byte", "GET //x/../%2F%zz|;a", domain, "400"},
		{"a path with two slashes", "GET //evil.org/..", domain, "https://" + domain + "//evil.org/.."},
		{"what a URI may not hold", `GET /"<>\^|`, domain, "https://" + domain + "/%22%3C%3E%5C%5E%7C"},
		{"an escaped line end", "GET /%0d%0aSet-Cookie:x", domain, "https://" + domain + "/%0d%0aSet-Cookie:x"},
		{"an empty query", "GET /?", domain, "https://" + domain + "/?"},
		{"an absolute target", "GET http://" + domain + "/x", "evil.org", "https://" + domain + "/x"},
		{"an absolute target elsewhere", "GET http://evil.org/x", domain, "404"},
		{"a stranger's host", "GET /", "evil.org", "404"},
		{"two labels below the zone", "GET /", "a.b." + zone, "404"},
		{"an address", "GET /", "127.0.0.1", "404"},
		{"an IPv6 address with a port", "GET /", "[::1]:80", "404"},
		{"a host with an at sign", "GET /", "my-api." + zone + "@evil.org", "400"},
		{"no host", "GET /", "", "404"},
		{"a challenge", "GET /.well-known/acme-challenge/known", domain, "200 key of " + domain},
		{"a challenge for a name that is not served", "GET /.well-known/acme-challenge/known", "evil.org", "200 key of evil.org"},
		{"a challenge that nobody knows", "GET /.well-known/acme-challenge/x", domain, "404"},
		{"a domain without a certificate yet", "GET /", "blog.example.org", "503"},
	} {
		for _, port := range []string{"443", "8443"} {
			addr, want := addr443, row.want
			if port == "8443" {
				addr = addr8443
				want = strings.Replace(want, "example.org/", "example.org:8443/", 1)
				want = strings.Replace(want, zone+"/", zone+":8443/", 1)
			}
			res, body := rawRequest(t, addr, row.line+" HTTP/1.1\r\nHost: "+row.host+"\r\n\r\n")
			got := res.Header.Get("Location")
			if status := res.Status[:3]; status == "200" {
				got = status + " " + body
			} else if status != "308" || got == "" {
				if got != "" {
					t.Errorf("%s: %s with Location %s", row.what, status, got)
				}
				got = status
			}
			if got != want {
				t.Errorf("%s, port %s: %s, want %s", row.what, port, got, want)
			}
			if res.StatusCode == 503 && res.Header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", row.what)
			}
			if res.Header.Get("Strict-Transport-Security") != "" {
				t.Errorf("%s: HSTS without TLS counts for nothing (RFC 6797, section 7.2)", row.what)
			}
		}
	}
}

// tlsServer is a Proxy whose certificate holds for every name that a test asks
// for, since here the rules of the edge are on trial.
func tlsServer(t *testing.T, o Options, c Config) *server {
	t.Helper()
	s := serve(t, mustCompile(t, c))
	s.pending, s.strict = o.Pending, o.Strict
	return s
}

// over asks for a host on a connection that was opened for a server name.
func over(t *testing.T, s *server, version int, serverName, host string) *http.Response {
	t.Helper()
	c := s.client(t, "127.0.0.1", version)
	insecure := &tls.Config{InsecureSkipVerify: true, ServerName: serverName}
	url := "https://" + host + "/"
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	switch tr := c.Transport.(type) {
	case *http.Transport:
		tr.TLSClientConfig = insecure
		if serverName == "" { // the client would name the host
			r.URL.Host, r.Host = "127.0.0.1", host
		}
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

// TestWrongConnection: a connection serves the hosts of its certificate, which
// are those of the zone together, and each custom domain alone.
func TestWrongConnection(t *testing.T) {
	var arrived atomic.Int64
	app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	s := tlsServer(t, Options{}, withDomains(app))
	generated := strings.TrimPrefix(origin(app.Port()), "https://")
	for _, row := range []struct {
		serverName, host string
		want             int
	}{
		{"my-api." + zone, "my-api." + zone, 200},
		{"my-api." + zone, generated, 200},
		{generated, "MY-API." + zone + ".", 200},
		{zone, "my-api." + zone, 200},
		{"my-api." + zone, "nothing." + zone, 404},
		{domain, domain, 200},
		{domain, "SHOP.example.org:443", 200},
		{domain, "blog.example.org", 421}, // the same alias, another certificate
		{domain, "my-api." + zone, 421},
		{domain, generated, 421},
		{"my-api." + zone, domain, 421},
		{"my-api." + zone, "evil.org", 421},
		{"my-api." + zone, "a.b." + zone, 421},
		{"old.example.org", "old.example.org", 404},
		{"gone.example.org", "gone.example.org", 404}, // it was in an earlier table
		{"gone.example.org", domain, 421},
		{"", "my-api." + zone, 200}, // as the zone
		{"", domain, 421},
	} {
		for version := 1; version <= 2; version++ {
			before := arrived.Load()
			res := over(t, s, version, row.serverName, row.host)
			if res.StatusCode != row.want {
				t.Errorf("HTTP/%d: %s over a connection for %q: %d, want %d", version, row.host, row.serverName, res.StatusCode, row.want)
			}
			if passed := arrived.Load() > before; passed != (row.want == 200) {
				t.Errorf("HTTP/%d: %s over a connection for %q reached the container: %v", version, row.host, row.serverName, passed)
			}
		}
	}
}

// TestCertificateOnItsWay: over a stand-in nothing is passed on, and the
// connection does not outlive the answer.
func TestCertificateOnItsWay(t *testing.T) {
	var there, arrived atomic.Bool
	app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) { arrived.Store(true) })
	s := tlsServer(t, Options{Pending: func(name string) bool { return name == domain && !there.Load() }}, withDomains(app))
	for version := 1; version <= 2; version++ {
		res := over(t, s, version, domain, domain)
		if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || arrived.Load() {
			t.Errorf("HTTP/%d: %d %v, arrived: %v", version, res.StatusCode, res.Header, arrived.Load())
		}
		if version == 1 && !res.Close {
			t.Error("the connection goes on")
		}
	}
	if res := over(t, s, 2, "my-api."+zone, "my-api."+zone); res.StatusCode != 200 {
		t.Errorf("another host: %d", res.StatusCode)
	}
	there.Store(true)
	if res := over(t, s, 2, domain, domain); res.StatusCode != 200 {
		t.Errorf("then: %d", res.StatusCode)
	}
}

// TestStrictTransport: where browsers are told to insist on HTTPS.
func TestStrictTransport(t *testing.T) {
	var says atomic.Value
	says.Store("")
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		if v := says.Load().(string); v != "" {
			w.Header().Set("Strict-Transport-Security", v)
		}
	})
	var public atomic.Bool
	s := tlsServer(t, Options{Strict: public.Load}, withDomains(app))
	for _, row := range []struct {
		what, host, own string
		public          bool
		want            string
	}{
		{"a host of the zone", "my-api." + zone, "", true, "max-age=15552000"},
		{"a page of the edge", "nothing." + zone, "", true, "max-age=15552000"},
		{"the application says otherwise", "my-api." + zone, "max-age=0", true, "max-age=0"},
		{"a custom domain", domain, "", true, ""},
		{"a custom domain that says so itself", domain, "max-age=9", true, "max-age=9"},
		{"a certificate of the server's own", "my-api." + zone, "", false, ""},
	} {
		says.Store(row.own)
		public.Store(row.public)
		if got := over(t, s, 2, row.host, row.host).Header.Get("Strict-Transport-Security"); got != row.want {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
}
