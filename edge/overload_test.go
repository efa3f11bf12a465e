package edge

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestOverload: ten times as many as may ask at once, of an application that
// takes 50 ms. No more get through than may, so they find no queue; the rest are
// told 503 at once, and cost nothing that stays; then all is as before within
// five seconds. With SWAGE_SOAK times are held to as well.
func TestOverload(t *testing.T) {
	const limit = 20
	rounds, strict := 5, false
	if os.Getenv("SWAGE_SOAK") != "" {
		rounds, strict = 100, true
	}
	var most, now atomic.Int64
	app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		time.Sleep(50 * time.Millisecond)
		now.Add(-1)
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)), func(p *Proxy) { p.load.limits.ContainerRequests = limit })
	var clients []*http.Client
	for i := range 10 * limit {
		clients = append(clients, s.client(t, fmt.Sprintf("127.0.%d.%d", 2+i/200, 1+i%200), 1+i%2))
	}
	// ask has clients ask at once, so often.
	ask := func(clients []*http.Client, rounds int) (took map[int][]time.Duration) {
		took = map[int][]time.Duration{}
		var mu sync.Mutex
		for range rounds {
			var all sync.WaitGroup
			for _, c := range clients {
				all.Go(func() {
					sent := time.Now()
					res, _ := get(t, c, origin(app.Port()))
					mu.Lock()
					defer mu.Unlock()
					took[res.StatusCode] = append(took[res.StatusCode], time.Since(sent))
				})
			}
			all.Wait()
		}
		return took
	}
	heap := func() uint64 {
		s.log.forget()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ask(clients, 1) // opens the connections
	before := heap()
	took := ask(clients, rounds)
	ended := time.Now()
	for len(ask(clients[:limit], 1)[http.StatusOK]) < limit {
		if time.Since(ended) > 5*time.Second {
			t.Fatal("what may be asked at once is not answered within 5 s of the load")
		}
	}
	recovered := time.Since(ended)
	accepted, refused := took[http.StatusOK], took[http.StatusServiceUnavailable]
	if len(accepted) == 0 || len(refused) == 0 || len(accepted)+len(refused) != rounds*len(clients) || most.Load() > int64(limit) {
		t.Errorf("%d accepted, %d refused, %d at once", len(accepted), len(refused), most.Load())
	}
	until(t, "counters are left", func() bool { return s.load.counters() == 0 })
	after := heap()
	if after > before*3/2+16<<20 {
		t.Errorf("%d MiB before, %d MiB after", before>>20, after>>20)
	}
	quantile := func(of []time.Duration, part int) time.Duration {
		slices.Sort(of)
		return of[len(of)*part/100]
	}
	t.Logf("%d accepted within %v (99 %%: %v), %d refused within %v (99 %%: %v), recovered after %v, %d MiB before, %d MiB after",
		len(accepted), quantile(accepted, 50), quantile(accepted, 99), len(refused), quantile(refused, 50), quantile(refused, 99), recovered, before>>20, after>>20)
	if strict && (max(quantile(accepted, 50), quantile(refused, 50)) > 250*time.Millisecond) {
		t.Error("what is accepted or refused is not answered fast")
	}
}

// forget leaves what was logged to the collector of garbage.
func (l *lockedBuffer) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = bytes.Buffer{}
}
