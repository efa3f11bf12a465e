package edge

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
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
	// The second container is at another address in each table, and open to
	// another client. Both addresses answer on the same port.
	twin := map[string]string{"127.0.0.2": "127.0.1.2", "127.0.0.3": "127.0.1.3"}
	var tables []*Table
	for _, client := range []string{"127.0.0.2", "127.0.0.3"} {
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, twin[client]) })}
		l := listenAt(t, netip.AddrPortFrom(netip.MustParseAddr(twin[client]), app.Port()))
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		tables = append(tables, mustCompile(t, crowd(10_000, app.Addr(), netip.MustParseAddr(twin[client]), client)))
	}
	s := serve(t, tables[0])
	ws := s.dialWebSocket(t, "127.0.0.4", origin(app.Port()))

	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 6 {
		c := s.client(t, fmt.Sprintf("127.0.0.%d", 2+i%3), 1+i%3)
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if res, body := get(t, c, origin(app.Port())); res.StatusCode != http.StatusOK || body != "127.0.1.1" {
					t.Errorf("what nobody changed: %d %q", res.StatusCode, body)
					return
				}
			}
		})
	}
	second := "https://" + shop + "-" + asleep + "-http-" + fmt.Sprint(app.Port()) + "." + zone
	for client, mine := range twin {
		c := s.client(t, client, 1)
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := c.Get(second)
				if err != nil {
					continue // cut between header and body
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode == http.StatusOK && err == nil && string(body) != mine {
					t.Errorf("%s got what is not for it: %q", client, body)
					return
				}
			}
		})
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for i := range swaps {
		<-ticker.C
		s.Swap(tables[i%2])
	}
	close(stop)
	all.Wait()
	if got, err := say(ws, "still here"); got != "still here" {
		t.Errorf("the WebSocket: %q, %v", got, err)
	}
}

// BenchmarkSwapStorm tells the 99th percentile of requests while tables change
// 1,000 times a second, and while they do not.
func BenchmarkSwapStorm(b *testing.B) {
	app := backend(b, "127.0.1.1", func(http.ResponseWriter, *http.Request) {})
	tables := []*Table{
		mustCompile(b, crowd(10_000, app.Addr(), netip.MustParseAddr("127.0.1.2"), "127.0.0.2")),
		mustCompile(b, crowd(10_000, app.Addr(), netip.MustParseAddr("127.0.1.3"), "127.0.0.3")),
	}
	for _, name := range []string{"still", "swapping"} {
		b.Run(name, func(b *testing.B) {
			s := serve(b, tables[0])
			c := s.client(b, "127.0.0.2", 1)
			stop := make(chan struct{})
			var swapping sync.WaitGroup
			if name == "swapping" {
				swapping.Go(func() {
					ticker := time.NewTicker(time.Millisecond)
					defer ticker.Stop()
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						case <-ticker.C:
							s.Swap(tables[i%2])
						}
					}
				})
			}
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				begun := time.Now()
				get(b, c, origin(app.Port()))
				took = append(took, time.Since(begun))
			}
			close(stop)
			swapping.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
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
