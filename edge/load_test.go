package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swage/edge/limit"
)

// counters is how many clients and containers are counted.
func (l *load) counters() (n int) {
	for i := range l.clients {
		l.clients[i].mu.Lock()
		l.containers[i].mu.Lock()
		n += len(l.clients[i].n) + len(l.containers[i].n)
		l.containers[i].mu.Unlock()
		l.clients[i].mu.Unlock()
	}
	return n
}

// until waits for a condition.
func until(t testing.TB, otherwise string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 3*patience {
			t.Fatal(otherwise)
		}
	}
}

// TestLimits: what is over a limit is answered at once, and what is not still
// gets in; every way out of a request gives its place back.
func TestLimits(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		hold, release := make(chan struct{}, 100), make(chan struct{})
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/hold":
				hold <- struct{}{}
				<-release
			case "/abort":
				w.Header().Set("Content-Length", "10")
				_, _ = io.WriteString(w, "part")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			case "/echo":
				echo(w, r)
			}
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)), func(p *Proxy) {
			p.load.limits = Limits{ClientRequests: 2, ClientTunnels: 1, ContainerRequests: 3, ContainerTunnels: 1}
		})
		one, other := s.client(t, "127.0.0.2", version), s.client(t, "127.0.0.3", version)
		var held sync.WaitGroup
		for _, c := range []*http.Client{one, one, other} {
			held.Go(func() {
				if res, _ := get(t, c, origin(app.Port())+"/hold"); res.StatusCode != http.StatusOK {
					t.Errorf("within the limits: %d", res.StatusCode)
				}
			})
			<-hold
			if c == other {
				break
			}
		}
		for what, c := range map[string]*http.Client{"the client's": one, "the container's": other} {
			if res, body := get(t, c, origin(app.Port())); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "1" || !strings.Contains(body, "Too much") {
				t.Errorf("over %s limit: %d %q", what, res.StatusCode, body)
			}
		}
		ws := s.dialWebSocket(t, "127.0.0.2", origin(app.Port())+"/echo") // counts apart
		if got, err := say(ws, "hello"); got != "hello" {
			t.Errorf("WebSocket: %q, %v", got, err)
		}
		if res, _ := get(t, s.client(t, "127.0.0.4", 1), origin(app.Port())+"/echo", "Connection", "Upgrade", "Upgrade", "websocket"); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a second WebSocket: %d", res.StatusCode)
		}
		close(release)
		held.Wait()
		_ = ws.CloseNow()

		if res, err := one.Get(origin(app.Port()) + "/abort"); err == nil {
			if _, err = io.ReadAll(res.Body); err == nil {
				t.Error("an answer that was broken off looks whole")
			}
			res.Body.Close()
		}
		until(t, "counters are left", func() bool { return s.load.counters() == 0 })
		if res, _ := get(t, one, origin(app.Port())); res.StatusCode != http.StatusOK {
			t.Errorf("after the load: %d", res.StatusCode)
		}
	})
}

func TestSubscriber(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2:ffff::": "2001:db8:1:2::", "2001:db8:1:3::1": "2001:db8:1:3::",
	} {
		if got := subscriber(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s counts as %v, want %s", addr, got, want)
		}
	}
	_ = subscriber(netip.Addr{})
}

// TestAttacks: clients that never end their header, dribble their body or do
// not read their answer take nothing from others, and are cut.
func TestAttacks(t *testing.T) {
	connections, requests := 200, 100
	if os.Getenv("SWAGE_SOAK") != "" {
		connections, requests = 1000, 5000
	}
	endless := make([]byte, 64<<10)
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/endless" {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		for {
			if _, err := w.Write(endless); err != nil {
				return
			}
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	for _, attack := range []struct{ name, request string }{
		{"header", "GET / HTTP/1.1\r\nHost: " + host + "\r\nX-A: "},
		{"body", "POST / HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 100000\r\n\r\nab"},
		{"read", "GET /endless HTTP/1.1\r\nHost: " + host + "\r\n\r\n"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			var attackers []net.Conn
			for range connections {
				c := s.dialTLS(t, "127.0.0.66")
				defer c.Close()
				if _, err := io.WriteString(c, attack.request); err != nil {
					t.Fatal(err)
				}
				attackers = append(attackers, c)
			}
			if attack.name != "header" {
				until(t, "the attack is not under way", func() bool { return s.live.count() == connections })
			}
			c := s.client(t, "127.0.0.2", 1)
			for range requests {
				if res, _ := get(t, c, origin(app.Port())); res.StatusCode != http.StatusOK {
					t.Fatalf("another client got %d", res.StatusCode)
				}
			}
			if attack.name == "header" {
				return // http.Server's own deadline ends them
			}
			until(t, "the attackers are not cut", func() bool {
				s.live.look(time.Now().Add(limit.Stall + time.Second))
				return s.live.count() == 0
			})
			for _, c := range attackers {
				_ = c.SetDeadline(time.Now().Add(patience))
				r := bufio.NewReader(c)
				if attack.name == "body" {
					if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusRequestTimeout {
						t.Fatalf("the answer is %v, %v", res, err)
					}
				}
				if _, err := io.Copy(io.Discard, r); err != nil && strings.Contains(err.Error(), "i/o timeout") {
					t.Fatal("a connection stays open")
				}
			}
			until(t, "counters are left", func() bool { return s.load.counters() == 0 })
		})
	}
}

// TestSlowStreams: over HTTP/2 and HTTP/3 only the stream ends.
func TestSlowStreams(t *testing.T) {
	for version := 2; version <= 3; version++ {
		t.Run(fmt.Sprintf("HTTP%d", version), func(t *testing.T) {
			app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/endless" {
					_, _ = io.Copy(io.Discard, r.Body)
					return
				}
				for b := make([]byte, 64<<10); ; {
					if _, err := w.Write(b); err != nil {
						return
					}
				}
			})
			s := serve(t, mustCompile(t, at(app.Addr(), nil)))
			c := s.client(t, "127.0.0.2", version)
			res, err := c.Get(origin(app.Port()) + "/endless") // whose body nobody reads
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			in, out := io.Pipe()
			defer out.Close()
			status := make(chan int, 1)
			go func() {
				res, err := c.Post(origin(app.Port()), "", in)
				if err != nil {
					status <- 0
					return
				}
				res.Body.Close()
				status <- res.StatusCode
			}()
			_, _ = out.Write([]byte("ab"))
			until(t, "the streams do not wait", func() bool { return s.live.count() == 2 })
			until(t, "the streams are not cut", func() bool {
				s.live.look(time.Now().Add(limit.Stall + time.Second))
				return s.live.count() == 0
			})
			if got := <-status; got != http.StatusRequestTimeout && got != 0 {
				t.Errorf("the sender of a slow body got %d", got)
			}
			if res, _ := get(t, c, origin(app.Port())); res.StatusCode != http.StatusOK {
				t.Errorf("the connection's next request: %d", res.StatusCode)
			}
		})
	}
}

// TestConversationsMayPause: what both sides have begun to say has no limit.
func TestConversationsMayPause(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(w, r.Body)
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	in, out := io.Pipe()
	res, err := s.client(t, "127.0.0.2", 2).Post(origin(app.Port()), "", in)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the edge still writes", func() bool { // or waits for the client, an hour later
		writing := 0
		for i := range s.live.shards {
			s.live.shards[i].mu.Lock()
			for x := range s.live.shards[i].each {
				if x.sending.Waits() {
					writing++
				}
			}
			s.live.shards[i].mu.Unlock()
		}
		return writing == 0
	})
	s.live.look(time.Now().Add(time.Hour))
	_, _ = out.Write([]byte("still here"))
	out.Close()
	if got, err := io.ReadAll(res.Body); string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
}

// dialTLS opens a connection of HTTP/1.1 with small buffers.
func (s *server) dialTLS(t *testing.T, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	raw, err := d.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	return tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "a." + zone, NextProtos: []string{"http/1.1"}})
}

// TestOnlyUnsentIsRepeated: a connection that was kept open is closed by the
// application as the next request comes. What may be repeated is; what might
// have been done is not.
func TestOnlyUnsentIsRepeated(t *testing.T) {
	for _, row := range []struct {
		method string
		want   int
		seen   int64 // requests after the first
	}{
		{http.MethodGet, http.StatusNoContent, 2},
		{http.MethodPost, http.StatusBadGateway, 1},
	} {
		t.Run(row.method, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.1.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var seen atomic.Int64
			go func() {
				for n := 0; ; n++ {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					requests := bufio.NewReader(conn)
					for range 2 { // the second on the first connection is read, and not answered
						r, err := http.ReadRequest(requests)
						if err != nil {
							break
						}
						_, _ = io.Copy(io.Discard, r.Body)
						if seen.Add(1) == 2 {
							break
						}
						_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
					}
					conn.Close()
				}
			}()
			p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
			app := netip.MustParseAddrPort(l.Addr().String())
			p.Swap(mustCompile(t, at(app.Addr(), nil)))
			defer p.Swap(nil)
			if w := ask(p, "192.0.2.5:9", http.MethodGet, origin(app.Port()), ""); w.Code != http.StatusNoContent {
				t.Fatalf("the first request: %d", w.Code)
			}
			body := ""
			if row.method == http.MethodPost {
				body = "pay 5 €"
			}
			if w := ask(p, "192.0.2.5:9", row.method, origin(app.Port()), body); w.Code != row.want {
				t.Errorf("status %d, want %d", w.Code, row.want)
			}
			if got := seen.Load() - 1; got != row.seen {
				t.Errorf("the application saw %d requests, want %d", got, row.seen)
			}
		})
	}
}

// TestDrainTellsClients: during the drain clients are told to go elsewhere with
// their next request.
func TestDrainTellsClients(t *testing.T) {
	hold := make(chan struct{})
	arrived := make(chan struct{}, 2)
	app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-hold
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	s.drain = patience
	got := make(chan *http.Response, 1)
	c := s.client(t, "127.0.0.2", 1)
	go func() {
		res, err := c.Get(origin(app.Port()))
		if err != nil {
			t.Error(err)
		}
		got <- res
	}()
	<-arrived
	ended := make(chan error)
	go func() { ended <- s.stop() }()
	until(t, "new connections are still taken", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(hold)
	if res := <-got; res == nil || res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("the answer during the drain: %v", res)
	} else {
		res.Body.Close()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
