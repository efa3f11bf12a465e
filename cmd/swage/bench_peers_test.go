package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A comparison takes as many rounds, in each of which every proxy has its turn,
// so that what else the machine does falls on all alike.
const (
	peerRounds  = 3
	peerSpan    = 2 * time.Second
	peerClients = 64
	peerSockets = 5000
	peerRate    = 1000 // requests per second of the latency's part
)

// figures are what was measured of one proxy, a value for each round.
type figures map[string][]float64

func (f figures) add(name string, v float64) { f[name] = append(f[name], v) }

func (f figures) median(name string) float64 {
	v := slices.Sorted(slices.Values(f[name]))
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

// BenchmarkPeers compares the edge with other proxies: the same application
// behind them, the same certificate, the same namespaces, the same minutes. With
// -update its table goes into docs/performance.md. It is made for -benchtime 1x.
func BenchmarkPeers(b *testing.B) {
	if os.Getenv(benchInside) == "" || os.Getpid() != 1 { // never the machine's own
		inNamespaces(b)
		return
	}
	runtime.GOMAXPROCS(4) // the application's thread shall not hold up clients
	wrk, h2load := installed(b, "wrk"), installed(b, "h2load")
	w := newWorld(b)
	for b.Loop() {
		peers, direct := w.startPeers(), w.serve().addr.String()
		began, measured := time.Now(), map[string]figures{}
		load := loadAverage()
		for _, p := range peers {
			measured[p.name] = figures{}
			p.answers(b)
		}
		for _, p := range peers {
			stage(began, p.name+": idle WebSockets")
			p.sockets(b, measured[p.name])
		}
		for range peerRounds {
			for _, p := range peers {
				f := measured[p.name]
				stage(began, p.name+": load, download, latency")
				if wrk != "" {
					p.burden(b, f, "h1", wrk, "-t2", "-c", strconv.Itoa(peerClients), "-d", peerSpan.String(),
						"-H", "Host: "+benchHost(4711), "https://"+benchZone+p.addr[len(worldHost):]+"/")
				}
				if h2load != "" {
					p.burden(b, f, "h2", h2load, "-t2", "-c", strconv.Itoa(peerClients/4), "-m16", "-D", strconv.Itoa(int(peerSpan.Seconds())),
						"--connect-to="+p.addr, "https://"+benchHost(4711)+"/")
				}
				for range peerRounds {
					p.download(b, f)
				}
				latency(b, f, func() (net.Conn, error) { return p.dialTLS() })
			}
			if measured["direct"] == nil {
				measured["direct"] = figures{}
			}
			latency(b, measured["direct"], func() (net.Conn, error) { return net.Dial("tcp", direct) })
		}
		for _, p := range peers {
			p.sees(b)
		}
		report := w.comparison(peers, measured, load, loadAverage(), time.Since(began))
		b.Log("\n" + report)
		if *update {
			writeComparison(b, report)
		}
	}
}

// stage tells at once what happens: a comparison takes minutes.
func stage(began time.Time, what string) {
	fmt.Fprintf(os.Stderr, "%4.0fs %s\n", time.Since(began).Seconds(), what)
}

// answers makes sure that a proxy passes the right thing on.
func (p *peer) answers(b *testing.B) {
	b.Helper()
	conn, err := p.dialTLS()
	if err != nil {
		b.Fatal(p.name, err)
	}
	defer conn.Close()
	if n, err := ask(conn, bufio.NewReader(conn), "/"); err != nil || n != smallBody {
		b.Fatalf("%s: %d bytes, %v", p.name, n, err)
	}
	p.sees(b)
}

// sees makes sure that all that came through the edge until now came from the
// client's own address. The others' connections are from the host's.
func (p *peer) sees(b *testing.B) {
	b.Helper()
	if p.name == "swage" {
		p.app.seesClient(b)
	}
}

// ask sends a request and reads its answer.
func ask(conn io.Writer, in *bufio.Reader, path string) (int64, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, benchHost(4711)); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %s", res.Status)
	}
	return io.Copy(io.Discard, res.Body)
}

var (
	wrkDone    = regexp.MustCompile(`(\d+) requests in`)
	h2loadDone = regexp.MustCompile(`(\d+) succeeded, 0 failed, 0 errored`)
	wrkFailed  = regexp.MustCompile(`Non-2xx|Socket errors`)
)

// burden has a load generator ask for a while, and notes how much was answered
// and the CPU time that the proxy took for each request.
func (p *peer) burden(b *testing.B, f figures, name, program string, args ...string) {
	b.Helper()
	cpu, _ := p.usage()
	began := time.Now()
	out, err := exec.Command(program, args...).CombinedOutput()
	took := time.Since(began)
	after, _ := p.usage()
	done := wrkDone.FindSubmatch(out)
	if done == nil {
		done = h2loadDone.FindSubmatch(out)
	}
	if err != nil || done == nil || wrkFailed.Match(out) {
		b.Fatalf("%s: %v %v: %v\n%s", p.name, program, args, err, out)
	}
	n, err := strconv.ParseFloat(string(done[1]), 64)
	if err != nil || n == 0 {
		b.Fatalf("%s: no request was answered: %s", p.name, out)
	}
	f.add(name+" rate", n/took.Seconds())
	f.add(name+" cpu", float64((after-cpu).Microseconds())/n)
}

// download takes 100 MiB over one connection.
func (p *peer) download(b *testing.B, f figures) {
	b.Helper()
	conn, err := p.dialTLS()
	if err != nil {
		b.Fatal(p.name, err)
	}
	defer conn.Close()
	cpu, _ := p.usage()
	began := time.Now()
	if n, err := ask(conn, bufio.NewReaderSize(conn, 64<<10), "/large"); err != nil || n != largeBody {
		b.Fatalf("%s: %d bytes, %v", p.name, n, err)
	}
	took := time.Since(began)
	after, _ := p.usage()
	f.add("download", largeBody/took.Seconds()/1e6)
	f.add("download cpu", float64((after - cpu).Milliseconds()))
}

// latency asks at a fixed rate, over 16 connections in turn. A request counts
// from when it was due: one that must wait for its connection is late too.
func latency(b *testing.B, f figures, dial func() (net.Conn, error)) {
	b.Helper()
	const clients = 16
	var mu sync.Mutex
	var all []float64
	var group sync.WaitGroup
	start := time.Now().Add(200 * time.Millisecond) // after the handshakes
	for c := range clients {
		conn, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		group.Go(func() {
			in := bufio.NewReader(conn)
			var mine []float64
			for i := c; i < int(peerSpan.Seconds()*peerRate); i += clients {
				due := start.Add(time.Duration(i) * time.Second / peerRate)
				time.Sleep(time.Until(due))
				if _, err := ask(conn, in, "/"); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, float64(time.Since(due).Microseconds()))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
	slices.Sort(all)
	f.add("p50", all[len(all)/2])
	f.add("p99", all[len(all)*99/100])
}

// sockets opens WebSockets that then are silent, and notes what memory each
// takes of the proxy. One that does not take as many is not measured.
func (p *peer) sockets(b *testing.B, f figures) {
	b.Helper()
	_, before := p.usage()
	conns := make([]net.Conn, peerSockets)
	next := make(chan int)
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for i := range next {
				conn, err := p.upgrade()
				if err != nil {
					err = fmt.Errorf("WebSocket %d: %w", i, err)
					failed.CompareAndSwap(nil, &err)
					continue
				}
				conns[i] = conn
			}
		})
	}
	for i := range conns {
		if failed.Load() != nil {
			break
		}
		next <- i
	}
	close(next)
	group.Wait()
	_, after := p.usage()
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
	if err := failed.Load(); err != nil {
		b.Logf("%s: %v", p.name, *err)
		return
	}
	f.add("socket", float64(after-before)/1024/peerSockets)
}

func (p *peer) upgrade() (net.Conn, error) {
	conn, err := p.dialTLS()
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", benchHost(4711))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("status %s", res.Status)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// loadAverage is what the machine did in the last minute (proc_loadavg(5)).
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	for i, c := range text {
		if c == ' ' {
			return string(text[:i])
		}
	}
	return "unknown"
}
