package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"swage/edge/limit"
)

// flood is what a process that floods an edge is told by its environment.
type flood struct {
	To, From    string
	Connections int
	Certificate []byte // DER
}

const (
	floodEnv = "SWAGE_TEST_FLOOD"
	filesEnv = "SWAGE_TEST_FILES" // descriptors of the edge
)

// holdIdle is that process: it opens connections, some of which shake hands, and
// holds them until its input ends.
func holdIdle(t *testing.T, told string) {
	var f flood
	if err := json.Unmarshal([]byte(told), &f); err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(f.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(f.From)}, Timeout: 2 * time.Second}
	var shaken atomic.Int64
	var all sync.WaitGroup
	var mu sync.Mutex
	var held []net.Conn // not to be collected
	next := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range next {
				c, err := dialer.Dial("tcp", f.To)
				if err != nil {
					continue // an edge that takes nobody any more
				}
				if i%4 > 0 {
					over := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "x." + zone, NextProtos: []string{[]string{"h2", "http/1.1"}[i%2]}})
					_ = c.SetDeadline(time.Now().Add(5 * time.Second))
					if over.Handshake() == nil {
						shaken.Add(1)
					}
				}
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
			}
		})
	}
	for i := range f.Connections {
		next <- i
	}
	close(next)
	all.Wait()
	fmt.Println(len(held), shaken.Load())
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, c := range held {
		_ = c.Close()
	}
}

// again runs this test in a process of its own, and returns its first line.
func again(t *testing.T, env ...string) (pid int, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		cancel()
	})
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("it says %q, %v", line, err)
	}
	return cmd.Process.Pid, strings.TrimSpace(line)
}

// TestS4IdleFlood: more idle connections of one address than the edge has
// descriptors take nothing from another client. With SWAGE_SOAK they are 20,000,
// and the times count.
func TestS4IdleFlood(t *testing.T) {
	if told := os.Getenv(floodEnv); told != "" {
		holdIdle(t, told)
		return
	}
	if told := os.Getenv(aloneEnv); told != "" {
		files, err := strconv.ParseUint(os.Getenv(filesEnv), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files}); err != nil {
			t.Fatal(err)
		}
		serveAlone(t, told)
		return
	}
	files, connections, within := 1024, 1600, patience
	strict := os.Getenv("SWAGE_SOAK") != ""
	if strict {
		files, connections, within = 20000, 20000, 100*time.Millisecond
	}
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	key, err := x509.MarshalPKCS8PrivateKey(certificate().PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	told := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	pid, addr := again(t, aloneEnv+"="+told(alone{app, certificate().Certificate[0], key}), fmt.Sprint(filesEnv, "=", files))
	s := &server{addr: addr}
	open := func() int {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before, memory := open(), resident(t, pid, true)
	const parts = 2 // each process has its own descriptors
	for range parts {
		_, line := again(t, floodEnv+"="+told(flood{addr, "127.0.66.1", connections / parts, certificate().Certificate[0]}))
		t.Logf("connections opened and shaken hands on: %s", line)
	}
	for version := 1; version <= 3; version++ {
		c := s.client(t, "127.0.67.1", version)
		begun := time.Now()
		res, body := get(t, c, origin(app.Port()))
		took := time.Since(begun)
		if res.StatusCode != http.StatusOK || body != "here" || took > within {
			t.Errorf("HTTP/%d: %d %q after %v", version, res.StatusCode, body, took)
		}
		t.Logf("a new client over HTTP/%d is served after %v", version, took)
	}
	after, grown := open(), resident(t, pid, false)-memory
	t.Logf("the edge has %d descriptors, %d before, of %d, and %d MiB more than before", after, before, files, grown>>20)
	if after-before > files/4 {
		t.Errorf("%d descriptors are taken", after-before)
	}
	if grown > 256<<20 {
		t.Errorf("it has grown by %d MiB", grown>>20)
	}
}

// TestS4LiveIsNotCut: at the cap of a client its idle connections go, the oldest
// first, whatever they speak; what carries a request or a WebSocket stays, and a
// new connection is refused when all do.
func TestS4LiveIsNotCut(t *testing.T) {
	const most = 12
	done := make(chan struct{})
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			<-done
			_, _ = io.WriteString(w, "b")
		case "/ws":
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			for {
				kind, b, err := c.Read(r.Context())
				if err != nil || c.Write(r.Context(), kind, b) != nil {
					return
				}
			}
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)), func(p *Proxy) {
		p.conns = limit.NewConns(limit.Caps{All: 100, Network: 100, Client: most, Few: 100}, p.log)
	})
	const from = "127.0.66.1"
	host := strings.TrimPrefix(origin(app.Port()), "https://")

	var long []*http.Response
	for version := 1; version <= 3; version++ {
		res, err := s.client(t, from, version).Get(origin(app.Port()) + "/long")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		long = append(long, res)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, strings.Replace(origin(app.Port()), "https", "wss", 1)+"/ws", &websocket.DialOptions{HTTPClient: s.client(t, from, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()

	idle := func(i int) net.Conn {
		var c net.Conn
		switch i % 4 {
		case 0: // nothing at all
			c, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
		case 1: // TLS
			c = s.dialTLS(t, from)
		case 2: // a request that does not end its header
			c = s.dialTLS(t, from)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nX-A: ")
		case 3: // a request before
			c = s.dialTLS(t, from)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
			if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", res, err)
			}
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var all []net.Conn
	for i := range 10 * most {
		all = append(all, idle(i))
	}
	if open := s.conns.Counts().Open; open > most {
		t.Errorf("%d are open", open)
	}
	for _, c := range all[:8*most] {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Fatal("an old idle connection stays open")
		}
	}
	if res, _ := get(t, s.client(t, "127.0.67.1", 1), origin(app.Port())); res.StatusCode != http.StatusOK {
		t.Errorf("another client got %d", res.StatusCode)
	}
	if err := ws.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := ws.Read(ctx); err != nil || string(b) != "hello" {
		t.Errorf("the WebSocket says %q, %v", b, err)
	}
	// Now all are busy. HTTP/1.1 only, so that each takes a connection.
	busy := s.client(t, from, 1)
	for s.conns.Counts().Refused == 0 {
		res, err := busy.Get(origin(app.Port()) + "/long")
		if err != nil {
			break
		}
		defer res.Body.Close()
		if long = append(long, res); len(long) > most {
			t.Fatalf("%d requests on %d connections", len(long), most)
		}
	}
	if n := s.conns.Counts(); n.Refused == 0 || len(long) != most-1 { // and the WebSocket
		t.Errorf("%+v, %d long requests", n, len(long))
	}
	if res, _ := get(t, s.client(t, "127.0.67.1", 2), origin(app.Port())); res.StatusCode != http.StatusOK {
		t.Errorf("another client got %d", res.StatusCode)
	}
	close(done)
	for i, res := range long {
		if b, err := io.ReadAll(res.Body); err != nil || !strings.HasSuffix(string(b), "b") {
			t.Errorf("long request %d ends with %q, %v", i, b, err)
		}
	}
	until(t, "a client that was at its cap is not served again", func() bool {
		res, err := s.client(t, from, 1).Get(origin(app.Port()))
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// TestS4IdleStreams: connections of HTTP/2 and HTTP/3 that carry no stream go like
// others; one that carries a stream beside idle time stays.
func TestS4IdleStreams(t *testing.T) {
	for version := 2; version <= 3; version++ {
		t.Run(fmt.Sprint("HTTP", version), func(t *testing.T) {
			app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) {})
			s := serve(t, mustCompile(t, at(app.Addr(), nil)), func(p *Proxy) {
				p.conns = limit.NewConns(limit.Caps{All: 100, Network: 100, Client: 3, Few: 100}, p.log)
			})
			first := s.client(t, "127.0.66.1", version)
			get(t, first, origin(app.Port()))
			served := func(c *http.Client) func() bool {
				return func() bool { // over HTTP/3 no connection goes while an answer may be on its way
					res, err := c.Get(origin(app.Port()))
					if err == nil {
						res.Body.Close()
					}
					return err == nil
				}
			}
			for range 5 {
				until(t, "a new connection is not let in", served(s.client(t, "127.0.66.1", version)))
			}
			if n := s.conns.Counts(); n.Open > 3 || n.Closed < 3 {
				t.Errorf("%+v", n)
			}
			until(t, "the first client is not served again", served(first))
		})
	}
}

// TestS4Plain: the listener without TLS counts as well.
func TestS4Plain(t *testing.T) {
	s := serve(t, mustCompile(t, at(netip.Addr{}, nil)), func(p *Proxy) {
		p.conns = limit.NewConns(limit.Caps{All: 100, Network: 100, Client: 3, Few: 100}, p.log)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.ServePlain(ctx, l, func() int { return 443 }) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for range 30 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	until(t, "they are not counted", func() bool { n := s.conns.Counts(); return n.Open == 3 && n.Closed == 27 })
	res, err := http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", res.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
}
