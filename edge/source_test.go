package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// ownDialer dials from the client's address: any of loopback may be had without
// more ado.
type ownDialer struct {
	obstacle func(client, target netip.Addr) string // nil: none
	dial     func(client netip.Addr, target netip.AddrPort) error
	dials    atomic.Int64
}

func (d *ownDialer) Obstacle(client, target netip.Addr) string {
	if d.obstacle == nil {
		return ""
	}
	return d.obstacle(client, target)
}

func (d *ownDialer) Dial(ctx context.Context, client netip.Addr, target netip.AddrPort) (net.Conn, error) {
	d.dials.Add(1)
	if d.dial != nil {
		if err := d.dial(client, target); err != nil {
			return nil, err
		}
	}
	local := &net.TCPAddr{}
	if client.IsLoopback() {
		local.IP = client.AsSlice()
	}
	return (&net.Dialer{LocalAddr: local}).DialContext(ctx, "tcp", target.String())
}

// remote answers with the address that the request's connection comes from.
func remote(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	_, _ = io.WriteString(w, host)
}

// TestOwnAddress: while many clients call one port at once, over every version
// of HTTP, each is seen as itself.
func TestOwnAddress(t *testing.T) {
	app := backend(t, "127.0.1.1", remote)
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	s.upstreams.sources.dialer = &ownDialer{}
	requests := 50
	if os.Getenv("SWAGE_SOAK") != "" {
		requests = 2000
	}
	var all sync.WaitGroup
	for i := range 24 {
		client := fmt.Sprintf("127.0.0.%d", 2+i/3)
		c := s.client(t, client, 1+i%3)
		all.Go(func() {
			for range requests {
				if _, got := get(t, c, origin(app.Port())); got != client {
					t.Errorf("seen as %s, want %s", got, client)
					return
				}
			}
		})
	}
	all.Wait()
	if log := s.log.String(); !strings.Contains(log, `"source":"client"`) || strings.Contains(log, `"source":"edge"`) {
		t.Error("the log does not say so")
	}
}

// TestOwnAddressOfTunnels: WebSockets too.
func TestOwnAddressOfTunnels(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_ = c.Write(r.Context(), websocket.MessageText, []byte(host))
		_ = c.Close(websocket.StatusNormalClosure, "")
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	s.upstreams.sources.dialer = &ownDialer{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := s.dialWebSocket(t, "127.0.0.5", origin(app.Port()))
	if _, got, err := c.Read(ctx); string(got) != "127.0.0.5" {
		t.Errorf("seen as %q (%v)", got, err)
	}
	for version := 2; version <= 3; version++ {
		w := s.dialWire(t, version, origin(app.Port()))
		defer w.closeAll()
		if _, got, err := readFrame(w); string(got) != "127.0.0.2" {
			t.Errorf("HTTP/%d: seen as %q (%v)", version, got, err)
		}
	}
}

// ask passes one request through a proxy without a network before it.
func ask(p *Proxy, client, method, url, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.RemoteAddr = client
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// dual is a Config whose container has an address of each family.
func dual(addr, addr6 netip.Addr) Config {
	c := at(addr, nil)
	c.Containers[0].Addr6 = addr6
	return c
}

// TestFallsBack: where the client's address cannot be used the edge's own is,
// and both the application and the log are told.
func TestFallsBack(t *testing.T) {
	var last atomic.Pointer[http.Request]
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		last.Store(r)
		_, _ = io.Copy(w, r.Body)
	})
	nobody := netip.MustParseAddr("::1") // where nothing listens on the port
	for _, row := range []struct {
		name, client string
		dialer       *ownDialer
		why          string
		dials        int64 // in the client's name, by two requests
	}{
		{name: "an obstacle", client: "127.0.0.1:9", why: "the client is on this host", dialer: &ownDialer{
			obstacle: func(client, _ netip.Addr) string { return "the client is on this host" },
		}},
		{name: "nothing listens over IPv6", dialer: &ownDialer{}, client: "[2001:db8::5]:9", why: "nothing listens at the container's IPv6 address", dials: 2},
		{name: "answers do not come back", client: "192.0.2.5:9", why: "the container does not answer its clients", dials: 1, dialer: &ownDialer{
			dial: func(netip.Addr, netip.AddrPort) error { return syscall.ENETDOWN },
		}},
		{name: "no port is left", client: "192.0.2.5:9", why: "the ports of the client's address are used up", dials: 2, dialer: &ownDialer{
			dial: func(netip.Addr, netip.AddrPort) error { return syscall.EADDRNOTAVAIL },
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := &lockedBuffer{}
			p := NewProxy(Options{Logger: slog.New(slog.NewJSONHandler(log, nil)), Transparent: row.dialer})
			p.Swap(mustCompile(t, dual(app.Addr(), nobody)))
			defer p.Swap(nil)
			for range 2 { // of the second the reason may be known
				w := ask(p, row.client, http.MethodPost, origin(app.Port()), "a body")
				if w.Code != http.StatusOK || w.Body.String() != "a body" {
					t.Fatalf("%d %q", w.Code, w.Body)
				}
				r := last.Load()
				if got := r.Header.Values("Forwarded"); len(got) != 1 || !strings.HasSuffix(got[0], ";proto=https;swage-source=edge") {
					t.Errorf("Forwarded: %q", got)
				}
			}
			if got := log.String(); strings.Count(got, `"source":"edge"`) != 2 || !strings.Contains(got, `"source_why":"`+row.why+`"`) {
				t.Error(got)
			}
			if got := row.dialer.dials.Load(); got != row.dials {
				t.Errorf("%d dials in the client's name, want %d", got, row.dials)
			}
		})
	}
}

// TestFallsBackWhenSilent: a container whose way to others leads elsewhere is
// found out once.
func TestFallsBackWhenSilent(t *testing.T) {
	app := backend(t, "127.0.1.1", remote)
	d := &ownDialer{dial: func(netip.Addr, netip.AddrPort) error { return os.ErrDeadlineExceeded }}
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler), Transparent: d})
	p.Swap(mustCompile(t, at(app.Addr(), nil)))
	defer p.Swap(nil)
	if w := ask(p, "192.0.2.5:9", http.MethodGet, origin(app.Port()), ""); w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	tried := d.dials.Load()
	if w := ask(p, "192.0.2.6:9", http.MethodGet, origin(app.Port()), ""); w.Code != http.StatusOK || d.dials.Load() != tried {
		t.Errorf("status %d, %d dials after %d", w.Code, d.dials.Load(), tried)
	}
}

// TestToEachItsFamily: a caller of IPv6 is led to the container's IPv6 address.
func TestToEachItsFamily(t *testing.T) {
	app := backend(t, "127.0.1.1", remote)
	l, err := net.Listen("tcp", net.JoinHostPort("::1", fmt.Sprint(app.Port())))
	if err != nil {
		t.Skip("needs IPv6 on loopback:", err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "IPv6") })}
	go s.Serve(l)
	defer s.Close()
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler), Transparent: &ownDialer{}})
	p.Swap(mustCompile(t, dual(app.Addr(), netip.IPv6Loopback())))
	defer p.Swap(nil)
	if got := ask(p, "[2001:db8::5]:9", http.MethodGet, origin(app.Port()), "").Body.String(); got != "IPv6" {
		t.Errorf("a caller of IPv6 got %q", got)
	}
	if got := ask(p, "127.0.0.7:9", http.MethodGet, origin(app.Port()), "").Body.String(); got != "127.0.0.7" {
		t.Errorf("a caller of IPv4 got %q", got)
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	s := sources{dialer: &ownDialer{}}
	route := Route{ContainerID: web, Addr: netip.MustParseAddrPort("198.18.0.5:80"), Addr6: netip.MustParseAddr("fd00::5")}
	client, now := netip.MustParseAddr("2001:db8::5"), time.Now()
	if n := testing.AllocsPerRun(100, func() { s.choose(&route, client, now) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPoolsAreBounded: those that were not used for longest go.
func TestPoolsAreBounded(t *testing.T) {
	var u upstreams
	u.init(nil)
	key := func(i int) *place {
		return &place{containerID: web, target: netip.MustParseAddrPort("198.18.0.5:80"), client: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}
	}
	at := func(i int) time.Time { return noon.Add(time.Duration(i)) }
	_, busy := u.take(key(0), noon, false, nil)
	for i := range 3 * maxPools {
		u.take(key(i), at(i), false, nil)
		u.take(key(0), at(i), false, nil)
		if n := u.count.Load(); n > maxPools {
			t.Fatalf("%d pools after %d clients", n, i+1)
		}
	}
	if _, p := u.take(key(0), at(0), false, nil); p != busy {
		t.Error("the pool that is used all the time was dropped")
	}
	u.keep(nil)
	if n := u.count.Load(); n != 0 {
		t.Errorf("%d pools are left without a table", n)
	}
}

// TestRestingIsBounded: of all connections that rest only so many stay, and none
// for long.
func TestRestingIsBounded(t *testing.T) {
	var u upstreams
	u.init(nil)
	places := make([]place, 64)
	closed := 0
	for i := range 2 * maxIdle {
		to := &places[i%len(places)]
		*to = place{containerID: web, target: netip.MustParseAddrPort("198.18.0.5:80"), client: netip.AddrFrom4([4]byte{198, 18, 0, byte(i % len(places))})}
		_, p := u.take(to, time.Now(), true, nil)
		u.give(newConn(closing{&closed}, closing{&closed}, *to, p))
		if n := u.resting.Load(); n > maxIdle {
			t.Fatalf("%d rest", n)
		}
	}
	if n := u.resting.Load(); n < maxIdle/2 || closed != 2*maxIdle-int(n) {
		t.Errorf("%d rest, %d are closed", n, closed)
	}
	u.sweep(time.Now())
	if n := u.resting.Load(); n < maxIdle/2 {
		t.Errorf("%d are left before their time", n)
	}
	u.sweep(time.Now().Add(idleUpstream))
	if n := u.resting.Load(); n != 0 || closed != 2*maxIdle {
		t.Errorf("%d rest, %d are closed in the end", n, closed)
	}
}

// TestGivenTooLate: what was lent from a pool that is dropped meanwhile ends when it
// is given back, also where there is another pool by then.
func TestGivenTooLate(t *testing.T) {
	for _, again := range []bool{false, true} {
		var u upstreams
		u.init(nil)
		to := &place{containerID: web, target: netip.MustParseAddrPort("198.18.0.5:80")}
		_, p := u.take(to, time.Now(), false, nil)
		closed := 0
		lent := newConn(closing{&closed}, closing{&closed}, *to, p)
		u.keep(nil)
		if again {
			u.take(to, time.Now(), false, nil)
		}
		u.give(lent)
		if n := u.resting.Load(); n != 0 || closed != 1 {
			t.Errorf("another pool: %v; %d rest, %d are closed", again, n, closed)
		}
	}
}

// closing counts how often it is closed.
type closing struct{ n *int }

func (c closing) Close() error { *c.n++; return nil }

func (closing) Read([]byte) (int, error)         { return 0, io.EOF }
func (closing) Write([]byte) (int, error)        { return 0, io.EOF }
func (closing) LocalAddr() net.Addr              { return nil }
func (closing) RemoteAddr() net.Addr             { return nil }
func (closing) SetDeadline(time.Time) error      { return nil }
func (closing) SetReadDeadline(time.Time) error  { return nil }
func (closing) SetWriteDeadline(time.Time) error { return nil }

// TestGivenWhileOpening: a request for which a connection is being opened takes
// one that is given back before; the new one rests, wherever the request went.
func TestGivenWhileOpening(t *testing.T) {
	d := &heldDialer{release: make(chan struct{})}
	var u upstreams
	u.init(d)
	to := &place{containerID: web, target: netip.MustParseAddrPort("198.18.0.5:80"), client: netip.MustParseAddr("198.18.0.9")}
	_, p := u.take(to, time.Now(), true, nil)
	closed := 0
	other := newConn(closing{&closed}, closing{&closed}, *to, p)
	got := make(chan *conn)
	connect := func(ctx context.Context) {
		c, _ := u.connect(ctx, to, time.Now(), false)
		got <- c
	}
	waiting := func() int {
		s := u.part(to)
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(p.wait)
	}
	go connect(t.Context())
	until(t, "nobody waits", func() bool { return waiting() == 1 })
	u.give(other)
	if c := <-got; c != other {
		t.Errorf("it got %v", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go connect(ctx)
	until(t, "nobody waits", func() bool { return waiting() == 1 })
	cancel()
	if c := <-got; c != nil || waiting() != 0 {
		t.Errorf("%v, and %d wait", c, waiting())
	}
	close(d.release)
	until(t, "what was opened in vain does not rest", func() bool { return u.resting.Load() == 2 })
	u.keep(nil)
}

// heldDialer connects once it is released.
type heldDialer struct{ release chan struct{} }

func (*heldDialer) Obstacle(_, _ netip.Addr) string { return "" }

func (d *heldDialer) Dial(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
	<-d.release
	return closing{new(int)}, nil
}
