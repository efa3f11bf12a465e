package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"
)

// TestMain starts itself again with RFC 8441 switched on, as swage does.
func TestMain(m *testing.M) {
	if !strings.Contains(os.Getenv("GODEBUG"), "http2xconnect=1") {
		os.Setenv("GODEBUG", "http2xconnect=1,"+os.Getenv("GODEBUG"))
		panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	net.DefaultResolver = loopback // before anybody may dial
	// A handshake of h2spec that came too late leaves a goroutine that tells
	// nobody of it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/summerwind/h2spec/spec.(*Conn).handshakeAsClient.func1"))
}

// patience bounds every wait of the tests; only failures last this long.
const patience = 10 * time.Second

// backend is an application at an address of its own.
func backend(t testing.TB, addr string, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// at is a Config whose only container, shop/web, has this address.
func at(addr netip.Addr, p *Permissions) Config {
	return Config{Zone: zone, Version: "v1", Containers: []Container{
		{ProjectID: shop, ID: web, Name: "shop/web", Addr: addr, Permissions: p, Catalogue: kit},
	}}
}

// only admits these addresses.
func only(addrs ...string) *Permissions {
	var g Group
	for _, a := range addrs {
		g.Ranges = append(g.Ranges, netip.PrefixFrom(netip.MustParseAddr(a), 32))
	}
	return &Permissions{Groups: map[string]Group{"those": g}, Cells: map[string]map[string]Cell{"those": {"http": {All: true}}}}
}

// origin is the URL of a port of shop/web.
func origin(port uint16) string {
	return fmt.Sprintf("https://%s-%s-http-%d.%s", shop, web, port, zone)
}

// server is a Proxy that answers on loopback.
type server struct {
	*Proxy
	addr string
	log  *lockedBuffer
	stop func() error // ends Serve and returns its error; may be called again
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve has a Proxy answer; change may do something to it before.
func serve(t testing.TB, table *Table, change ...func(*Proxy)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	s := &server{
		Proxy: NewProxy(Options{Logger: slog.New(slog.NewJSONHandler(log, nil))}),
		addr:  l.Addr().String(),
		log:   log,
	}
	s.drain = 100 * time.Millisecond
	for _, f := range change {
		f(s.Proxy)
	}
	if table != nil {
		s.Swap(table)
	}
	port := l.Addr().(*net.TCPAddr).Port
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Serve(ctx, l, config) }()
	go func() { done <- s.ServeQUIC(ctx, udp, config) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-done, <-done)
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := s.live.count(); n > 0 {
			t.Errorf("%d requests outlive Serve", n)
		}
		s.Swap(nil)
	})
	return s
}

// certificate holds for the zone and everything a label below it.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{zone, "*." + zone},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

// count is how many requests are being passed on.
func (l *registry) count() (n int) {
	for i := range l.shards {
		l.shards[i].mu.Lock()
		for range l.shards[i].each {
			n++
		}
		l.shards[i].mu.Unlock()
	}
	return n
}

// client calls the server from an address of loopback, for any host.
func (s *server) client(t testing.TB, from string, version int) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	if version == 3 {
		return &http.Client{Transport: s.quicTransport(t, from, roots), Timeout: patience}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetHTTP2(version == 2)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, s.addr)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		Protocols:           protocols,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 100,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// quicTransport speaks HTTP/3 from an address.
func (s *server) quicTransport(t testing.TB, from string, roots *x509.CertPool) *http3.Transport {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	to, err := net.ResolveUDPAddr("udp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	q := &quic.Transport{Conn: socket}
	transport := &http3.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: roots},
		DisableCompression: true,
		Dial: func(ctx context.Context, _ string, c *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return q.DialEarly(ctx, to, c, qc)
		},
	}
	t.Cleanup(func() { _ = errors.Join(transport.Close(), q.Close(), socket.Close()) })
	return transport
}

// each runs a test over every version of HTTP.
func each(t *testing.T, run func(t *testing.T, version int)) {
	for version := 1; version <= 3; version++ {
		t.Run(fmt.Sprintf("HTTP%d", version), func(t *testing.T) { run(t, version) })
	}
}

func get(t testing.TB, c *http.Client, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := c.Do(r)
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

func TestPassesOn(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Saw", r.Method+" "+r.Host+" "+r.RequestURI+" "+string(body))
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "hello")
			w.Header().Set("X-Sum", "5")
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		c := s.client(t, "127.0.0.2", version)

		url := origin(app.Port())
		res, err := c.Post(url+"/a?b=c", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got, want := res.Header.Get("X-Saw"), "POST "+strings.TrimPrefix(url, "https://")+" /a?b=c body"; got != want {
			t.Errorf("the application saw %q, want %q", got, want)
		}
		if res.StatusCode != http.StatusTeapot || string(body) != "hello" {
			t.Errorf("got %d %q", res.StatusCode, body)
		}
		if res.Trailer.Get("X-Sum") != "5" {
			t.Errorf("trailer %v", res.Trailer)
		}
		if res.ProtoMajor != version {
			t.Errorf("HTTP/%d, want %d", res.ProtoMajor, version)
		}
	})
}

// TestEncodingKept: what the application reads as its request target is, byte
// for byte, what the client sent.
func TestEncodingKept(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })
	c := at(app.Addr(), nil)
	c.Aliases = []Alias{{Name: "app", Target: to("shop/web", "http", app.Port()), TargetPath: "/a%20b", AllowPathOverride: true}}
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
	p.Swap(mustCompile(t, c))
	defer p.Swap(nil)
	host := strings.TrimPrefix(origin(app.Port()), "https://")

	ask := func(host, target string) *httptest.ResponseRecorder {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL, r.RequestURI, r.Host = u, target, host
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}
	for _, row := range []struct{ target, alias string }{ // alias: what arrives through it
		{"/", "/a%20b"},
		{"/?", "/a%20b?"},
		{"/?a", "/a%20b?a"},
		{"/a%20b", "/a%20b"},
		{"/a%20b/c?d", "/a%20b/c?d"},
		{"/a%2Fb", "/a%20b/a%2Fb"},
		{"/a%2fb", "/a%20b/a%2fb"},
		{"/%61", "/a%20b/%61"},
		{"/a%252Fb", "/a%20b/a%252Fb"},
		{"/a//b", "/a%20b/a//b"},
		{"//a/b", "/a%20b//a/b"},
		{"/a/./b", "/a%20b/a/./b"},
		{"/a/../b", ""},
		{"/%2e%2e/", ""},
		{"/a|b", "/a%20b/a|b"},
		{"/a^b", "/a%20b/a^b"},
		{"/a\"b", "/a%20b/a\"b"},
		{"/a{b}", "/a%20b/a{b}"},
		{"/a<b>", "/a%20b/a<b>"},
		{"/a`b", "/a%20b/a`b"},
		{"/a'b", "/a%20b/a'b"},
		{"/a(b)!*", "/a%20b/a(b)!*"},
		{"/a;b=1", "/a%20b/a;b=1"},
		{"/a:b@c", "/a%20b/a:b@c"},
		{"/a+b", "/a%20b/a+b"},
		{"/é", "/a%20b/é"},
		{"/%E9", "/a%20b/%E9"},
		{"/a#b", "/a%20b/a#b"},
		{"/a?b=c&d=%2F", "/a%20b/a?b=c&d=%2F"},
		{"/a?b;c", "/a%20b/a?b;c"},
		{"/a?%", "/a%20b/a?%"},
		{"/a?b=%zz", "/a%20b/a?b=%zz"},
		{"/a?b?c", "/a%20b/a?b?c"},
		{"/a?b=c|d", "/a%20b/a?b=c|d"},
	} {
		if got := ask(host, row.target).Body.String(); got != row.target {
			t.Errorf("%s arrives as %s", row.target, got)
		}
		switch w := ask("app."+zone, row.target); {
		case row.alias == "" && w.Code != http.StatusNotFound:
			t.Errorf("%s through the alias: status %d", row.target, w.Code)
		case row.alias != "" && w.Body.String() != row.alias:
			t.Errorf("%s arrives through the alias as %s, want %s", row.target, w.Body, row.alias)
		}
	}
}

// TestSpaceRefused: over HTTP/2 a path may hold a space, which would end the
// target in HTTP/1.1.
func TestSpaceRefused(t *testing.T) {
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
	p.Swap(mustCompile(t, fixture()))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL, r.RequestURI, r.Host = &url.URL{Path: "/a HTTP/1.0"}, "/a HTTP/1.0", "my-api."+zone
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("status %d, want 400", w.Code)
	}
}

func TestForwardingHeaders(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		arrived := make(chan http.Header, 1)
		app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header })
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))

		var forged []string
		for _, name := range []string{
			"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
			"X-Forwarded-Server", "X-Forwarded-User", "X-Forwarded-Client-Cert", "X-Forwarded-A-Name-That-Has-A-Great-Length",
			"X-Real-IP", "X-Client-IP", "Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP",
			"X-Original-Forwarded-For", "X-Original-URL", "X-Rewrite-URL", "Remote-User", "X-Remote-User", "Swage-Level", "Swage-Instance", "X-Request-ID",
		} {
			for _, spelling := range []string{
				name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"),
				strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.Replace(name, "-", ".", 1),
			} {
				forged = append(forged, spelling, "forged")
			}
		}
		kept := []string{"X-Forward", "x", "Real-Ip", "X-Custom", "kept", "kept"}
		// Naming a header hop-by-hop must not remove the true one.
		hop := []string{"Connection", "X-Forwarded-For, Forwarded, X-Forwarded-Proto"}
		if version > 1 {
			hop = nil // has no Connection header
		}
		url := origin(app.Port())
		host := strings.TrimPrefix(url, "https://")
		want := map[string]string{
			"Forwarded":         `for=127.0.0.2;host="` + host + `";proto=https`,
			"X-Forwarded-For":   "127.0.0.2",
			"X-Forwarded-Host":  host,
			"X-Forwarded-Proto": "https",
			"X-Forward":         "x",
			"Real-Ip":           "X-Custom",
			"Kept":              "kept",
		}
		var saw http.Header
		c := s.client(t, "127.0.0.2", version)
		for part := range slices.Chunk(forged, 100) { // all would be more fields than are taken
			if res, _ := get(t, c, url, slices.Concat(part, kept, hop)...); res.StatusCode != http.StatusOK {
				t.Fatal(res.StatusCode)
			}
			saw = <-arrived
			for name, value := range want {
				if got := saw[name]; len(got) != 1 || got[0] != value {
					t.Errorf("%s: got %q, want %q", name, got, value)
				}
			}
			for name, values := range saw {
				if slices.Contains(values, "forged") {
					t.Errorf("forged %s arrived", name)
				}
			}
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if id := saw.Get("X-Request-Id"); len(id) != 16 || !strings.Contains(s.log.String(), `"request_id":"`+id+`"`) {
			t.Errorf("the container learns the id %q, which is not in the log:\n%s", id, s.log.String())
		}
	})
}

func TestForwarded(t *testing.T) {
	for _, row := range []struct{ client, want string }{
		{"192.0.2.1", `for=192.0.2.1;host="a.b:8443";proto=https`},
		{"2001:db8::1", `for="[2001:db8::1]";host="a.b:8443";proto=https`},
		{"unknown", `for=unknown;host="a.b:8443";proto=https`},
	} {
		if got := forwarded(row.client, "a.b:8443", "https"); got != row.want {
			t.Errorf("got %s, want %s", got, row.want)
		}
	}
}

func TestReferrerPolicy(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if policy := r.URL.Query().Get("policy"); policy != "" {
			w.Header().Set("Referrer-Policy", policy)
		}
	})
	c := at(app.Addr(), nil)
	c.Aliases = []Alias{{Name: "app", Target: to("shop/web", "http", app.Port()), AllowPathOverride: true}}
	s := serve(t, mustCompile(t, c))
	client := s.client(t, "127.0.0.2", 1)
	for _, row := range []struct{ url, want string }{
		{origin(app.Port()), "no-referrer"},
		{origin(app.Port()) + "/?policy=origin", "origin"},
		{"https://app." + zone, ""},
	} {
		res, _ := get(t, client, row.url)
		if got := res.Header.Get("Referrer-Policy"); got != row.want {
			t.Errorf("%s: %q, want %q", row.url, got, row.want)
		}
		for _, name := range []string{"X-Frame-Options", "Content-Security-Policy", "Access-Control-Allow-Origin", "Set-Cookie", "Strict-Transport-Security"} {
			if got := res.Header.Values(name); got != nil {
				t.Errorf("%s: the edge adds %s: %q", row.url, name, got)
			}
		}
	}
}

// TestStatuses: what the edge itself answers.
func TestStatuses(t *testing.T) {
	var free netip.AddrPort // nothing listens there
	{
		l, err := net.Listen("tcp", "127.0.1.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free = netip.MustParseAddrPort(l.Addr().String())
		l.Close()
	}
	c := fixture()
	c.Containers[0].Addr = free.Addr()
	c.Containers = append(c.Containers, Container{Name: "shop/shut", Catalogue: kit, Closed: true})
	c.Aliases = append(c.Aliases, Alias{Name: "shut", Target: to("shop/shut", "http", 80)})
	s := serve(t, mustCompile(t, c))
	host := func(label string) string { return "https://" + label + "." + zone }
	rows := []struct {
		what, url, host string
		want            int
	}{
		{"nothing-listens", origin(free.Port()), "", http.StatusBadGateway},
		{"closed", host("shut"), "", http.StatusServiceUnavailable},
		{"not-running", host(shop + "-" + asleep + "-http"), "", http.StatusServiceUnavailable},
		{"refused", host(blog + "-" + gated + "-http"), "", http.StatusForbidden},
		{"refused, not running", host(blog + "-" + dark + "-http"), "", http.StatusForbidden},
		{"unknown container", host(shop + "-" + strings.Repeat("9", 24) + "-http"), "", http.StatusNotFound},
		{"unknown alias", host("nothing"), "", http.StatusNotFound},
		{"expired alias", host("sale"), "", http.StatusNotFound},
		{"the zone itself", "https://" + zone, "", http.StatusNotFound},
		{"a host of another zone", host("nothing"), "nothing.example.org", http.StatusMisdirectedRequest},
		{"two labels below the zone", host("nothing"), "a.b." + zone, http.StatusMisdirectedRequest},
		{"another host of the zone", host("nothing"), "sleepy." + zone, http.StatusServiceUnavailable},
	}
	texts := make(map[string]bool)
	each(t, func(t *testing.T, version int) {
		client := s.client(t, "127.0.0.2", version)
		for _, row := range rows {
			r, err := http.NewRequest(http.MethodGet, row.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = row.host
			r.Header.Set("Accept", "application/json, text/plain, */*")
			if row.what == "expired alias" {
				// The fixture's alias expires in 2030.
				expired := c
				expired.Aliases = slices.Clone(c.Aliases)
				for i := range expired.Aliases {
					if expired.Aliases[i].Name == "sale" {
						expired.Aliases[i].ExpiresAt = time.Now().Add(-time.Second)
					}
				}
				s.Swap(mustCompile(t, expired))
			}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			var p problem
			err = json.NewDecoder(res.Body).Decode(&p)
			res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != row.want || p.Status != row.want {
				t.Errorf("%s: status %d, want %d", row.what, res.StatusCode, row.want)
			}
			switch row.what {
			case "nothing-listens", "closed", "not-running", "refused":
				if p.Reason != row.what {
					t.Errorf("%s: the reason is %q", row.what, p.Reason)
				}
			}
			if p.RequestID == "" || p.RequestID != res.Header.Get("X-Request-Id") {
				t.Errorf("%s: request id %q, header %q", row.what, p.RequestID, res.Header.Get("X-Request-Id"))
			}
			if got := res.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s: Cache-Control %q", row.what, got)
			}
			if res.StatusCode == http.StatusForbidden && p.Client != "127.0.0.2" {
				t.Errorf("%s: the visitor is %q", row.what, p.Client)
			}
			if res.StatusCode == http.StatusNotFound {
				texts[p.Title+p.Detail+p.Client] = true
			}
		}
	})
	if len(texts) != 1 {
		t.Errorf("404 has more than one text: %v", texts)
	}
}

func TestPageFormats(t *testing.T) {
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
	p.Swap(mustCompile(t, fixture()))
	for _, row := range []struct{ accept, want, holds string }{
		{"", "text/plain; charset=utf-8", "403 Forbidden: "},
		{"*/*", "text/plain; charset=utf-8", "Your address is 192.0.3.1."},
		{"text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "<code>192.0.3.1</code>"},
		{"Text/HTML;q=0.9", "text/html; charset=utf-8", "<title>403 Forbidden</title>"},
		{"application/json", "application/problem+json", `"client":"192.0.3.1"`},
		{"application/problem+json", "application/problem+json", `"status":403`},
		{"application/json, text/html", "application/problem+json", `"type":"about:blank"`},
		{"image/png", "text/plain; charset=utf-8", "(request "},
		{"text/html;q=0.2, application/json;q=0.9", "application/problem+json", `"reason":"refused"`},
		{"text/html;q=0, */*", "text/plain; charset=utf-8", "403 Forbidden: "},
		{"*/*, application/json;q=0.5", "text/plain; charset=utf-8", "403 Forbidden: "},
		{"text/html;level=1;q=0.7, application/json;q=0.6", "text/html; charset=utf-8", "<h1>"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host, r.RemoteAddr = "secret."+zone, "192.0.3.1:999"
		r.Header.Set("Accept", row.accept)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Type"); got != row.want || !strings.Contains(w.Body.String(), row.holds) {
			t.Errorf("Accept %q: %s\n%s\nwant %s with %q", row.accept, got, w.Body, row.want, row.holds)
		}
	}
}

func TestBeforeAnyTable(t *testing.T) {
	s := serve(t, nil)
	res, _ := get(t, s.client(t, "127.0.0.2", 2), origin(80))
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

// TestUpload: ten mebibytes pass, and what the application answers meanwhile
// arrives meanwhile.
func TestUpload(t *testing.T) {
	const size = 10 << 20
	each(t, func(t *testing.T, version int) {
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			sum := sha256.New()
			n, err := io.Copy(sum, r.Body)
			fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		body := make([]byte, size)
		_, _ = rand.Read(body)
		res, err := s.client(t, "127.0.0.2", version).Post(origin(app.Port()), "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, _ := io.ReadAll(res.Body)
		if want := fmt.Sprintf("%d %x <nil>", size, sha256.Sum256(body)); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestStreams: each piece arrives before the application sends the next.
func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		for _, header := range [][2]string{{"Content-Type", "text/event-stream"}, {"Content-Length", "24"}, {"X-None", "chunked"}} {
			next := make(chan struct{})
			app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(header[0], header[1])
				for i := range 3 {
					fmt.Fprintf(w, "data: %d\n", i)
					_ = http.NewResponseController(w).Flush()
					<-next
				}
			})
			s := serve(t, mustCompile(t, at(app.Addr(), nil)))
			res, err := s.client(t, "127.0.0.2", version).Get(origin(app.Port()))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(res.Body)
			for i := range 3 {
				line, err := lines.ReadString('\n')
				if want := fmt.Sprintf("data: %d\n", i); line != want {
					t.Fatalf("%v: got %q, %v; want %q", header, line, err, want)
				}
				next <- struct{}{}
			}
			res.Body.Close()
		}
	})
}

func TestEarlyHints(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "done")
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		res, body := get(t, s.client(t, "127.0.0.2", version), origin(app.Port()))
		if res.StatusCode != http.StatusOK || body != "done" || res.Header.Get("Link") != "" {
			t.Errorf("got %d %q %v", res.StatusCode, body, res.Header)
		}
	})
}

// echo answers every WebSocket message with itself.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

func (s *server) dialWebSocket(t testing.TB, from, url string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: s.client(t, from, 1).Transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// say sends a message and returns what comes back.
func say(c *websocket.Conn, message string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		return "", err
	}
	_, data, err := c.Read(ctx)
	return string(data), err
}

// TestSwapCuts: a live WebSocket and a download of a client who is no longer
// allowed end at once; those of another go on.
func TestSwapCuts(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		more := make(chan struct{})
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/echo":
				echo(w, r)
			case "/flood": // more than any buffer between holds
				for r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			case "/stream":
				for {
					_, _ = io.WriteString(w, "x")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-more:
					case <-r.Context().Done():
						return
					}
				}
			}
		})
		const stays, goes = "127.0.0.2", "127.0.0.3"
		s := serve(t, mustCompile(t, at(app.Addr(), only(stays, goes))))
		url := origin(app.Port())

		type caller struct {
			ws            *websocket.Conn
			stream, flood *http.Response
		}
		call := func(from string) caller {
			c := s.client(t, from, version)
			open := func(path string) *http.Response {
				res, err := c.Get(url + path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { res.Body.Close() })
				if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				return res
			}
			r := caller{ws: s.dialWebSocket(t, from, url+"/echo"), stream: open("/stream"), flood: open("/flood")}
			if got, err := say(r.ws, "hello"); got != "hello" {
				t.Fatalf("echo: %q, %v", got, err)
			}
			return r
		}
		one, other := call(stays), call(goes)

		s.Swap(mustCompile(t, at(app.Addr(), only(stays))))

		if got, err := say(other.ws, "still there?"); err == nil {
			t.Errorf("the revoked WebSocket answers %q", got)
		}
		if _, err := io.Copy(io.Discard, other.stream.Body); err == nil {
			t.Error("the revoked stream ends as if it were whole")
		}
		if _, err := io.Copy(io.Discard, other.flood.Body); err == nil {
			t.Error("the revoked download ends as if it were whole")
		}
		if got, err := say(one.ws, "still there?"); got != "still there?" {
			t.Errorf("the other WebSocket: %q, %v", got, err)
		}
		more <- struct{}{}
		if _, err := io.ReadFull(one.stream.Body, make([]byte, 1)); err != nil {
			t.Errorf("the other stream: %v", err)
		}
		rest := 32 << 20 // more than was on its way
		if version == 3 {
			rest = 8 << 20 // of which less is, and which costs more
		}
		if _, err := io.ReadFull(one.flood.Body, make([]byte, rest)); err != nil {
			t.Errorf("the other download: %v", err)
		}
		if res, _ := get(t, s.client(t, goes, version), url); res.StatusCode != http.StatusForbidden {
			t.Errorf("a new request of the revoked client: %d", res.StatusCode)
		}
	})
}

// TestSwapAnswersWaiting: who waits for the first byte is told why there will
// be none.
func TestSwapAnswersWaiting(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		arrived := make(chan struct{})
		app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
		})
		s := serve(t, mustCompile(t, at(app.Addr(), only("127.0.0.2"))))
		go func() {
			<-arrived
			s.Swap(mustCompile(t, at(app.Addr(), only("127.0.0.9"))))
		}()
		res, _ := get(t, s.client(t, "127.0.0.2", version), origin(app.Port()))
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("status %d, want 403", res.StatusCode)
		}
	})
}

// TestSwapCutsUpload: a client who is no longer allowed and sends nothing holds
// nothing.
func TestSwapCutsUpload(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		arrived, gone := make(chan struct{}), make(chan struct{})
		app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			_, _ = io.Copy(io.Discard, r.Body)
			close(gone)
		})
		s := serve(t, mustCompile(t, at(app.Addr(), only("127.0.0.2"))))
		body, writer := io.Pipe()
		defer writer.Close()
		go func() { _, _ = writer.Write(make([]byte, 1<<10)) }()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			res, err := s.client(t, "127.0.0.2", version).Post(origin(app.Port()), "", body)
			if err == nil {
				res.Body.Close()
			}
		}()
		<-arrived
		s.Swap(mustCompile(t, at(app.Addr(), only("127.0.0.9"))))
		wait(t, gone, "the application still reads")
		wait(t, ended, "the client still writes")
	})
}

func wait(t testing.TB, done <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal(otherwise)
	}
}

// TestSwapMoves: what is live never ends up with, or stays at, a container
// that the host no longer leads to.
func TestSwapMoves(t *testing.T) {
	first := backend(t, "127.0.1.1", echo)
	s := serve(t, mustCompile(t, at(first.Addr(), nil)))
	begin := at(first.Addr(), nil)
	begin.Aliases = []Alias{{Name: "app", Target: to("shop/web", "http", first.Port()), AllowPathOverride: true}}
	change := func(edit func(*Config)) *Table {
		c := begin
		c.Containers, c.Aliases = slices.Clone(c.Containers), slices.Clone(c.Aliases)
		edit(&c)
		return mustCompile(t, c)
	}
	for _, row := range []struct {
		what  string
		table *Table
		stays bool
	}{
		{"nothing changed", mustCompile(t, begin), true},
		{"renamed", change(func(c *Config) { c.Containers[0].Name, c.Aliases[0].Container = "shop/renamed", "shop/renamed" }), true},
		{"another target path", change(func(c *Config) { c.Aliases[0].TargetPath = "/x" }), true},
		{"another port", change(func(c *Config) { c.Aliases[0].Port++ }), false},
		{"another address", change(func(c *Config) { c.Containers[0].Addr = netip.MustParseAddr("127.0.1.2") }), false},
		{"another container has the address", change(func(c *Config) {
			c.Containers[0].ID = asleep
		}), false},
		{"stopped", change(func(c *Config) { c.Containers[0].Addr = netip.Addr{} }), false},
		{"the alias is gone", change(func(c *Config) { c.Aliases = nil }), false},
		{"all is gone", mustCompile(t, Config{Zone: zone}), false},
		{"no table", nil, false},
	} {
		s.Swap(mustCompile(t, begin))
		c := s.dialWebSocket(t, "127.0.0.2", "https://app."+zone)
		s.Swap(row.table)
		if _, err := say(c, "hello"); (err == nil) != row.stays {
			t.Errorf("%s: %v", row.what, err)
		}
	}
}

// TestAliasExpiryCuts: what came through an alias ends with it, with no swap.
func TestAliasExpiryCuts(t *testing.T) {
	app := backend(t, "127.0.1.1", echo)
	c := at(app.Addr(), nil)
	c.Aliases = []Alias{{Name: "sale", Target: to("shop/web", "http", app.Port()), AllowPathOverride: true, ExpiresAt: time.Now().Add(patience)}}
	s := serve(t, mustCompile(t, c))
	ws := s.dialWebSocket(t, "127.0.0.2", "https://sale."+zone)
	direct := s.dialWebSocket(t, "127.0.0.2", origin(app.Port()))
	c.Aliases[0].ExpiresAt = time.Now().Add(50 * time.Millisecond)
	s.Swap(mustCompile(t, c))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the alias has expired, and its WebSocket: %v", err)
	}
	if got, err := say(direct, "hello"); got != "hello" {
		t.Errorf("the container's own host: %q, %v", got, err)
	}
}

// TestAddressReused: a connection that was opened to one container is not used
// for another with its address.
func TestAddressReused(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	c := s.client(t, "127.0.0.2", 1)
	_, first := get(t, c, origin(app.Port()))
	_, again := get(t, c, origin(app.Port()))
	if first != again {
		t.Errorf("an idle connection is not used again: %s, then %s", first, again)
	}
	heir := at(app.Addr(), nil)
	heir.Containers[0].ID = asleep
	s.Swap(mustCompile(t, heir))
	if _, next := get(t, c, strings.Replace(origin(app.Port()), web, asleep, 1)); next == first {
		t.Errorf("the other container got the connection %s", next)
	}
	s.Swap(mustCompile(t, at(app.Addr(), nil)))
	if _, next := get(t, c, origin(app.Port())); next == first {
		t.Errorf("the connection %s outlived its withdrawal", next)
	}
}

// TestIdleClosed: a swap closes the idle connections to what it withdraws.
func TestIdleClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		requests := bufio.NewReader(conn)
		for {
			if _, err := http.ReadRequest(requests); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}()
	app := netip.MustParseAddrPort(l.Addr().String())
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	get(t, s.client(t, "127.0.0.2", 1), origin(app.Port()))
	begun := time.Now()
	s.Swap(mustCompile(t, at(netip.Addr{}, nil)))
	wait(t, closed, "the connection stays")
	if late := time.Since(begun); late > idleUpstream/2 {
		t.Errorf("closed after %v", late)
	}
	if n := s.upstreams.count.Load() + s.upstreams.resting.Load(); n != 0 {
		t.Errorf("%d pools and connections are left", n)
	}
}

// TestBlockedClients: a client that reads nothing does not outlive its
// permission, nor the server.
func TestBlockedClients(t *testing.T) {
	for _, row := range []struct {
		what                string
		tunnel, http2, swap bool
	}{
		{"tunnel cut by a swap", true, false, true},
		{"tunnel cut by the end", true, false, false},
		{"HTTP1 download cut by a swap", false, false, true},
		{"HTTP1 download cut by the end", false, false, false},
		{"HTTP2 download cut by a swap", false, true, true},
		{"HTTP2 download cut by the end", false, true, false},
	} {
		t.Run(row.what, func(t *testing.T) {
			t.Parallel()
			full := make(chan struct{}) // closed once no more goes into any buffer
			app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
				c := http.NewResponseController(w)
				if !row.tunnel {
					_ = c.Flush() // the header, with chunks to come
				}
				conn, rw, err := c.Hijack()
				if err != nil {
					return
				}
				defer conn.Close()
				if row.tunnel {
					_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				}
				_ = rw.Flush()
				piece := append([]byte("100000\r\n"), make([]byte, 1<<20+2)...) // a chunk
				copy(piece[len(piece)-2:], "\r\n")
				for err == nil {
					_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
					_, err = conn.Write(piece)
				}
				close(full)
				_, _ = conn.Read(make([]byte, 1)) // until the edge closes
			})
			s := serve(t, mustCompile(t, at(app.Addr(), nil)))
			r, err := http.NewRequest(http.MethodGet, origin(app.Port()), nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.tunnel {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "websocket")
			}
			res, err := s.client(t, "127.0.0.2", map[bool]int{false: 1, true: 2}[row.http2]).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			wait(t, full, "the buffers never fill")
			s.drain = 50 * time.Millisecond
			if row.swap {
				s.Swap(nil)
				for deadline := time.Now().Add(patience); s.live.count() > 0; runtime.Gosched() {
					if time.Now().After(deadline) {
						t.Fatal("still there")
					}
				}
				return
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = s.stop()
			}()
			wait(t, ended, "still there")
		})
	}
}

// TestOnlyWebSocketUpgrades: any other protocol is ignored, and the request
// answered as it stands.
func TestOnlyWebSocketUpgrades(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q %q", r.Header.Get("Connection"), r.Header.Get("Upgrade"), r.Header.Get("HTTP2-Settings"))
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	c := s.client(t, "127.0.0.2", 1)
	for _, row := range []struct{ method, upgrade, want string }{
		{"GET", "websocket", `"Upgrade" "websocket" ""`},
		{"GET", "WebSocket", `"Upgrade" "websocket" ""`},
		{"POST", "websocket", `"" "" ""`},
		{"GET", "h2c", `"" "" ""`},
		{"GET", "websocket, h2c", `"" "" ""`},
		{"GET", "TLS/1.3", `"" "" ""`},
		{"GET", "swage", `"" "" ""`},
	} {
		r, err := http.NewRequest(row.method, origin(app.Port()), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", row.upgrade)
		if row.upgrade == "h2c" {
			r.Header.Set("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(body) != row.want {
			t.Errorf("%s, Upgrade: %s: the application sees %s, want %s", row.method, row.upgrade, body, row.want)
		}
	}
}

// TestUnaskedUpgrade: an application cannot make a tunnel that nobody asked
// for.
func TestUnaskedUpgrade(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		_ = rw.Flush()
		_, _ = rw.ReadByte()
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	c := s.client(t, "127.0.0.2", 1)
	for _, header := range [][]string{nil, {"Connection", "Upgrade", "Upgrade", "h2c"}, {"Connection", "Upgrade", "Upgrade", "websocket"}} {
		if res, _ := get(t, c, origin(app.Port()), header...); res.StatusCode != http.StatusBadGateway {
			t.Errorf("%v: status %d, want 502", header, res.StatusCode)
		}
	}
}

// TestDialTriesAgain: an address that swallows the first SYN is reached soon
// after it begins to answer, not when the kernel repeats the SYN.
func TestDialTriesAgain(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 1, 7}}),
		syscall.Listen(fd, 0),
	); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.1.7:%d", name.(*syscall.SockaddrInet4).Port)

	// With its queue full a listening socket drops every SYN.
	var queued []net.Conn
	defer func() {
		for _, c := range queued {
			c.Close()
		}
	}()
	for {
		c, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			break
		}
		if queued = append(queued, c); len(queued) > 10 {
			t.Skip("this kernel does not drop connections")
		}
	}

	answered := make(chan time.Time, 1)
	opens := time.AfterFunc(150*time.Millisecond, func() {
		for range queued {
			if c, _, err := syscall.Accept(fd); err == nil {
				syscall.Close(c)
			}
		}
		answered <- time.Now()
	})
	defer opens.Stop()
	c, err := dial(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if late := time.Since(<-answered); late > 700*time.Millisecond {
		t.Errorf("connected %v after it began to answer", late)
	}
}

func TestDialRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	begun := time.Now()
	_, err = dial(context.Background(), "tcp", l.Addr().String())
	if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begun) > time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

func TestUnanswered(t *testing.T) {
	for _, row := range []struct {
		err  error
		want bool
	}{
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, true},
		{&net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, true},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, false},
		{context.Canceled, false},
		{io.EOF, false},
	} {
		if got := unanswered(row.err); got != row.want {
			t.Errorf("%v: %v, want %v", row.err, got, row.want)
		}
	}
}

// TestDrain: at the end a request that is under way is finished, a tunnel is
// cut, and nothing is left.
func TestDrain(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			echo(w, r)
			return
		}
		close(arrived)
		<-finish
		_, _ = io.WriteString(w, "finished")
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	s.drain = patience
	ws := s.dialWebSocket(t, "127.0.0.2", origin(app.Port())+"/echo")
	c := s.client(t, "127.0.0.2", 1)
	answer := make(chan string, 1)
	go func() {
		res, err := c.Get(origin(app.Port()))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	// Once nobody accepts, the drain has begun.
	for {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		conn.Close()
	}
	close(finish)
	if got := <-answer; got != "finished" {
		t.Errorf("the request under way: %s", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := say(ws, "hello"); err == nil {
		t.Error("the WebSocket goes on")
	}
}

// TestDrainEnds: a stream without end does not hold Serve for ever.
func TestDrainEnds(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		s.drain = 50 * time.Millisecond
		res, err := s.client(t, "127.0.0.2", version).Get(origin(app.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := s.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the stream ends as if it were whole")
		}
	})
}

func TestOldTLSRefused(t *testing.T) {
	s := serve(t, nil)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

// lineTaker is a LineHandler.
type lineTaker struct {
	slog.Handler
	takes bool
	lines []string
}

func (h *lineTaker) HandleLine(at time.Time, message string, attrs []slog.Attr) bool {
	h.lines = append(h.lines, fmt.Sprintln(message, attrs, time.Since(at) < time.Minute))
	return h.takes
}

// TestLineHandler: a request has one line, whoever writes it.
func TestLineHandler(t *testing.T) {
	for _, takes := range []bool{true, false} {
		log := new(lockedBuffer)
		h := &lineTaker{Handler: slog.NewTextHandler(log, nil), takes: takes}
		p := NewProxy(Options{Logger: slog.New(h)})
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, origin(80)+"/path", nil))
		if len(h.lines) != 1 || !strings.Contains(h.lines[0], "request [request_id=") || !strings.Contains(h.lines[0], "path=/path") || !strings.HasSuffix(h.lines[0], "true\n") {
			t.Errorf("lines %q", h.lines)
		}
		if text := log.String(); strings.Contains(text, "path=/path") == takes {
			t.Errorf("it takes lines: %v; the handler has %q", takes, text)
		}
	}
}

// TestAccessLog: a line tells what happened and not how to do it again.
func TestAccessLog(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	s := serve(t, mustCompile(t, at(app.Addr(), only("127.0.0.2"))))
	get(t, s.client(t, "127.0.0.2", 2), origin(app.Port())+"/path?token=secret")
	get(t, s.client(t, "127.0.0.3", 1), origin(app.Port())+"/")
	get(t, s.client(t, "127.0.0.3", 1), "https://nothing."+zone)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	text := s.log.String()
	for _, secret := range []string{web, shop, "secret"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log:\n%s", secret, text)
		}
	}
	want := []map[string]any{
		{"method": "GET", "host": "redacted." + zone, "container": "shop/web", "port": float64(app.Port()), "path": "/path", "status": 200.0, "bytes": 5.0, "client": "127.0.0.2", "protocol": "HTTP/2.0", "decision": "allow", "why": "allowed by group those", "group": "those", "table": "v1"},
		{"host": "redacted." + zone, "container": "shop/web", "path": "/", "status": 403.0, "client": "127.0.0.3", "protocol": "HTTP/1.1", "decision": "deny", "why": "denied by default"},
		{"host": "nothing." + zone, "container": nil, "status": 404.0, "decision": "not found", "why": "no such alias"},
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if !strings.Contains(lines[0], `"msg":"table","commit":"v1","granted_count":1,"revoked_count":0,"granted":["shop/web: group those (127.0.0.2/32) gains http *"]`) {
		t.Errorf("the table's line: %s", lines[0])
	}
	if lines = lines[1:]; len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), text)
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range want[i] {
			if got[key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, got[key], value)
			}
		}
		if got["request_id"] == nil || got["duration"] == nil {
			t.Errorf("line %d: %s", i, line)
		}
	}
}

func TestRedact(t *testing.T) {
	for _, row := range []struct{ host, want string }{
		{"my-api." + zone + ":443", "my-api." + zone + ":443"},
		{shop + "-" + web + "-http." + zone, "redacted." + zone},
		{strings.ToUpper(shop) + "-" + web + "-HTTP." + zone + ".", "redacted." + zone + "."},
		{shop + "-" + web + "-http", "redacted"},
		{"www." + shop + "-" + web + "-http." + shop + "-" + web + "-http.example.org", "www.redacted.redacted.example.org"},
		{"", ""},
	} {
		if got := redact(row.host); got != row.want {
			t.Errorf("%s becomes %s, want %s", row.host, got, row.want)
		}
	}
}

// TestSwapUnderLoad: while tables change, nobody gets an answer from a
// container that their table did not name, nor one that no table gives.
func TestSwapUnderLoad(t *testing.T) {
	name := func(who string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, who) }
	}
	app := backend(t, "127.0.1.1", name("web"))
	open, shut := mustCompile(t, at(app.Addr(), nil)), mustCompile(t, at(app.Addr(), only("127.0.0.9")))
	s := serve(t, open)

	var stop atomic.Bool
	var swaps, requests sync.WaitGroup
	for range 2 {
		swaps.Go(func() {
			for !stop.Load() {
				s.Swap(shut)
				s.Swap(open)
			}
		})
	}
	for i := range 8 {
		c := s.client(t, fmt.Sprintf("127.0.0.%d", 2+i%4), 1+i%3)
		requests.Go(func() {
			for range 100 {
				res, err := c.Get(origin(app.Port()))
				if err != nil {
					continue // cut between header and body
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				switch {
				case res.StatusCode == http.StatusOK && (err != nil || string(body) == "web"):
				case res.StatusCode == http.StatusForbidden:
				default:
					t.Errorf("got %d %q %v", res.StatusCode, body, err)
				}
			}
		})
	}
	requests.Wait()
	stop.Store(true)
	swaps.Wait()
	s.Swap(shut)
	if res, _ := get(t, s.client(t, "127.0.0.2", 2), origin(app.Port())); res.StatusCode != http.StatusForbidden {
		t.Errorf("after the last swap: %d", res.StatusCode)
	}
}

func BenchmarkProxy(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1<<10)
	app := backend(b, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	for version := 1; version <= 3; version++ {
		b.Run(fmt.Sprintf("HTTP%d", version), func(b *testing.B) {
			s := serve(b, mustCompile(b, at(app.Addr(), nil)))
			c := s.client(b, "127.0.0.2", version)
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					res, err := c.Get(origin(app.Port()))
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		})
	}
}

func TestTheRepositoryHasAHostOfItsOwn(t *testing.T) {
	git := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "git %s", r.URL.Path) })
	for _, c := range []struct {
		name   string
		has    bool
		git    http.Handler
		status int
	}{
		{"a fleet that tokens may push to", true, git, 200},
		{"a fleet without", false, git, 404},
		{"a proxy without", true, nil, 404},
	} {
		p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler), Git: c.git})
		p.Swap(mustCompile(t, Config{Zone: zone, API: true, Git: c.has}))
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/fleet/info/refs", nil)
		r.Host = "git." + zone
		p.ServeHTTP(w, r)
		if w.Code != c.status || (w.Body.String() == "git /fleet/info/refs") != (c.status == 200) {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
}

func TestTheAPIHasAHostOfItsOwn(t *testing.T) {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "api %s", r.URL.Path) })
	for _, c := range []struct {
		name   string
		has    bool
		api    http.Handler
		status int
		body   string
	}{
		{"a fleet with an API", true, api, 200, "api /api/v1/status"},
		{"a fleet without", false, api, 404, ""},
		{"a proxy without", true, nil, 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler), API: c.api})
			p.Swap(mustCompile(t, Config{Zone: zone, API: c.has}))
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/api/v1/status", nil)
			r.Host = "API." + zone + ".:8443"
			p.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	if _, err := Compile(Config{Zone: zone, Containers: []Container{{Name: "shop/web"}}, Aliases: []Alias{{Name: "api", Target: to("shop/web", "http", 80)}}}); err == nil {
		t.Error("an alias took the API's host")
	}
}
