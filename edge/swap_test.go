package edge

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// crowd is a Config of n containers; the first two are shop/web, which is open,
// and a second that is where it is said and open to one client only.
func crowd(n int, web netip.Addr, second netip.Addr, to string) Config {
	c := at(web, nil)
	c.Containers = append(c.Containers, Container{ProjectID: shop, ID: asleep, Name: "shop/second", Addr: second, Permissions: only(to), Catalogue: kit})
	for i := 2; i < n; i++ {
		c.Containers = append(c.Containers, Container{
			ProjectID: shop, ID: fmt.Sprintf("%024x", i), Name: fmt.Sprintf("shop/c%d", i),
			Addr: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Catalogue: kit,
		})
	}
	return c
}

// stormTables are two tables of 10,000 routes that lead shop/web alike. The
// second container is at another address in each, and open to another client.
func stormTables(t testing.TB, web netip.Addr) (tables []*Table) {
	t.Helper()
	for _, second := range []struct{ at, to string }{{"127.0.1.2", "127.0.0.2"}, {"127.0.1.3", "127.0.0.3"}} {
		tables = append(tables, mustCompile(t, crowd(10_000, web, netip.MustParseAddr(second.at), second.to)))
	}
	return tables
}

// storm swaps the tables 1,000 times a second, more often for a while when it is
// late, until it did so n times or stop is closed. It returns how often it did.
func (s *server) storm(tables []*Table, n int, stop <-chan struct{}) int {
	for i, begun := 0, time.Now(); i < n; i++ {
		select {
		case <-stop:
			return i
		case <-time.After(time.Until(begun.Add(time.Duration(i) * time.Millisecond))):
			s.Swap(tables[i%2])
		}
	}
	return n
}

// TestSwapStorm: 1,000 times a second one of two tables with 10,000 routes takes
// the place of the other. What both tables lead alike notices nothing, open
// WebSockets neither; and nobody is led by one table and judged by the other.
func TestSwapStorm(t *testing.T) {
	swaps := 1000
	if os.Getenv("SWAGE_SOAK") != "" {
		swaps = 60_000
	}
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(w, r)
			return
		}
		_, _ = io.WriteString(w, "127.0.1.1")
	})
	// Both addresses of the second container answer on the same port.
	twin := map[string]string{"127.0.0.2": "127.0.1.2", "127.0.0.3": "127.0.1.3"}
	for _, addr := range twin {
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, addr) })}
		l := listenAt(t, netip.AddrPortFrom(netip.MustParseAddr(addr), app.Port()))
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	}
	tables := stormTables(t, app.Addr())
	s := serve(t, tables[0])
	var sockets []*websocket.Conn
	for i := range 20 {
		sockets = append(sockets, s.dialWebSocket(t, fmt.Sprintf("127.0.0.%d", 2+i), origin(app.Port())))
	}

	stop := make(chan struct{})
	var all sync.WaitGroup
	again := func(once func() (ok bool)) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !once() {
					return
				}
			}
		})
	}
	for i := range 6 {
		c := s.client(t, fmt.Sprintf("127.0.0.%d", 2+i%3), 1+i%3)
		again(func() bool {
			res, body := get(t, c, origin(app.Port()))
			if res.StatusCode != http.StatusOK || body != "127.0.1.1" {
				t.Errorf("what nobody changed: %d %q", res.StatusCode, body)
				return false
			}
			return true
		})
	}
	again(func() bool {
		if got, err := say(sockets[0], "through all"); got != "through all" {
			t.Errorf("a WebSocket: %q, %v", got, err)
			return false
		}
		return true
	})
	second := "https://" + shop + "-" + asleep + "-http-" + fmt.Sprint(app.Port()) + "." + zone
	for client, mine := range twin {
		c := s.client(t, client, 1)
		again(func() bool {
			res, err := c.Get(second)
			if err != nil {
				return true // cut between header and body
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK && err == nil && string(body) != mine {
				t.Errorf("%s got what is not for it: %q", client, body)
				return false
			}
			return true
		})
	}
	begun := time.Now()
	s.storm(tables, swaps, nil)
	took := time.Since(begun)
	close(stop)
	all.Wait()
	t.Logf("%.0f swaps a second", float64(swaps)/took.Seconds())
	if took > time.Duration(swaps)*20*time.Millisecond {
		t.Errorf("%d swaps took %v", swaps, took)
	}
	for _, ws := range sockets {
		if got, err := say(ws, "still here"); got != "still here" {
			t.Errorf("a WebSocket: %q, %v", got, err)
		}
	}
}

// BenchmarkSwapStorm compares the 99th percentile of requests under full load
// while tables change 1,000 times a second with that of requests while they do
// not: ten times both in turn, a second each. It tells the medians.
func BenchmarkSwapStorm(b *testing.B) {
	app := backend(b, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(w, r)
		}
	})
	tables := stormTables(b, app.Addr())
	s := serve(b, tables[0])
	ws := s.dialWebSocket(b, "127.0.0.4", origin(app.Port()))
	var clients []*http.Client
	for i := range 16 {
		clients = append(clients, s.client(b, fmt.Sprintf("127.0.0.%d", 2+i), 1+i%2))
	}
	// run loads the edge for a second.
	run := func(stormy bool) (p99, swaps, requests float64) {
		stop, swapped := make(chan struct{}), make(chan int, 1)
		if stormy {
			go func() { swapped <- s.storm(tables, math.MaxInt, stop) }()
		} else {
			swapped <- 0
		}
		var mu sync.Mutex
		var took []time.Duration
		var all sync.WaitGroup
		begun := time.Now()
		for _, c := range clients {
			all.Go(func() {
				var mine []time.Duration
				for time.Since(begun) < time.Second {
					sent := time.Now()
					if res, _ := get(b, c, origin(app.Port())); res.StatusCode != http.StatusOK {
						b.Errorf("status %d", res.StatusCode)
						break
					}
					mine = append(mine, time.Since(sent))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
			})
		}
		all.Wait()
		lasted := time.Since(begun).Seconds()
		close(stop)
		slices.Sort(took)
		return float64(took[len(took)*99/100].Microseconds()), float64(<-swapped) / lasted, float64(len(took)) / lasted
	}
	median := func(of []float64) float64 {
		slices.Sort(of)
		return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
	}
	for b.Loop() {
		run(false) // opens the connections
		var still, stormy, ratios, rates, requests []float64
		for range 10 {
			without, _, _ := run(false)
			with, rate, n := run(true)
			still, stormy = append(still, without), append(stormy, with)
			ratios, rates, requests = append(ratios, with/without), append(rates, rate), append(requests, n)
		}
		b.ReportMetric(median(ratios), "p99-ratio")
		b.ReportMetric(median(still), "p99-still-µs")
		b.ReportMetric(median(stormy), "p99-stormy-µs")
		b.ReportMetric(median(rates), "swaps/s")
		b.ReportMetric(median(requests), "requests/s")
	}
	if got, err := say(ws, "still here"); got != "still here" {
		b.Errorf("the WebSocket: %q, %v", got, err)
	}
}

// BenchmarkSwap is a swap that changes one of 10,000 containers, while a
// thousand requests are live.
func BenchmarkSwap(b *testing.B) {
	web := netip.MustParseAddr("127.0.1.1")
	tables := stormTables(b, web)
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
	p.Swap(tables[0])
	for i := range 1000 {
		r := httptest.NewRequest(http.MethodGet, origin(80), nil)
		r.RemoteAddr = fmt.Sprintf("127.0.0.2:%d", 1024+i)
		x := newExchange(httptest.NewRecorder(), r)
		p.admit(x)
		defer p.live.leave(x)
	}
	for i := 0; b.Loop(); i++ {
		p.Swap(tables[i%2])
	}
	if n := p.live.count(); n != 1000 {
		b.Errorf("%d requests are live", n)
	}
}

func listenAt(t testing.TB, addr netip.AddrPort) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return l
}
