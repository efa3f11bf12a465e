package edge

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/sys/unix"
)

// decided collects what the access log says: the requests that were allowed, by
// method, and how many of them the application must have had.
type decided struct {
	slog.Handler
	mu      sync.Mutex
	allowed map[string]int
	served  int
}

// HandleLine implements LineHandler.
func (d *decided) HandleLine(_ time.Time, _ string, attrs []slog.Attr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	said := map[string]string{}
	for _, a := range attrs {
		said[a.Key] = a.Value.String()
	}
	if said["decision"] != "allow" {
		return true
	}
	method := said["method"]
	if method == http.MethodConnect {
		method = http.MethodGet // as the application gets it
	}
	d.allowed[method+" "+said["path"]]++
	if said["status"] == "200" || said["status"] == "101" { // no answer of the edge
		d.served++
	}
	return true
}

// FuzzFraming sends bytes over HTTP/1.1, or what the servers of HTTP/2 and HTTP/3
// make of fields, content and trailers. Whatever they are, the recorder gets the
// requests that were decided, and no byte more.
func FuzzFraming(f *testing.F) {
	const host = "app." + zone
	text, err := os.ReadFile("testdata/framing.txt")
	if err != nil {
		f.Fatal(err)
	}
	fill := strings.NewReplacer("{host}", host, "{row}", "x", "{wait}", "", "{cut}", "", "{handshake}", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"{get}", framedHead("GET", host, "x"), "{post}", framedHead("POST", host, "x"), "{connect}", ":method: CONNECT | :protocol: websocket | :scheme: https | :authority: "+host)
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "" || line[0] == '#' || strings.Contains(line, "{70000}") || strings.Contains(line, "{300}") {
			continue
		}
		columns, err := splitQuoted(line)
		if err != nil {
			f.Fatal(err)
		}
		columns = append(columns, "", "")
		f.Add(columns[1][0]-'0', fill.Replace(columns[4]), fill.Replace(columns[5]), fill.Replace(columns[6]))
	}
	f.Add(byte(2), framedHead("GET", host, "x")+" | a:   with blanks before | trailer: x y", "hello", "x-sum: 1")
	rec := record(f)
	c := at(rec.addr.Addr(), nil)
	c.Aliases = []Alias{{Name: "app", Target: to("shop/web", "http", rec.addr.Port()), AllowPathOverride: true}}
	table := mustCompile(f, c)
	log := &decided{Handler: slog.DiscardHandler}
	p := NewProxy(Options{Logger: slog.New(alwaysOn{log})})
	clients := newSockets(f)
	srv := &http.Server{Handler: p, MaxHeaderBytes: serverHeaderBytes, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = srv.Serve(clients) }()
	f.Cleanup(func() { srv.Close() })

	f.Fuzz(func(t *testing.T, version byte, sent, body, trailers string) {
		log.mu.Lock()
		log.allowed, log.served = map[string]int{}, 0
		log.mu.Unlock()
		p.Swap(table)
		if version == 2 || version == 3 {
			if r := asServed(int(version), sent, body, trailers); r != nil {
				func() {
					defer func() {
						if v := recover(); v != nil && v != http.ErrAbortHandler {
							t.Fatal(v)
						}
					}()
					p.ServeHTTP(httptest.NewRecorder(), r)
				}()
			}
		} else {
			conn := clients.dial(t)
			_ = conn.SetDeadline(time.Now().Add(patience))
			go func() {
				_, _ = io.WriteString(conn, sent)
				_ = conn.(*net.UnixConn).CloseWrite()
			}()
			if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
				t.Error("the edge neither answers nor closes")
			}
			conn.Close()
		}
		until(t, "a request goes on", func() bool { return p.live.count() == 0 && p.load.counters() == 0 })
		p.Swap(nil) // closes what rests
		all, broken := rec.take(t)
		for _, b := range broken {
			t.Errorf("no request: %s", b)
		}
		// A tunnel over HTTP/1.1 writes its line after its client's end.
		matches := func() bool {
			log.mu.Lock()
			defer log.mu.Unlock()
			left := maps.Clone(log.allowed)
			for _, r := range all {
				method, path, _ := strings.Cut(r.line, " ")
				path, _, _ = strings.Cut(strings.TrimSuffix(path, " HTTP/1.1"), "?")
				left[method+" "+path]--
				if left[method+" "+path] < 0 {
					return false
				}
			}
			return len(all) >= log.served
		}
		for begun := time.Now(); !matches(); time.Sleep(time.Millisecond) {
			if time.Since(begun) > patience {
				t.Fatalf("decided %v, of which the application answered %d, and it got %+v", log.allowed, log.served, all)
			}
		}
		for _, r := range all {
			if r.field("Host") != host && !strings.EqualFold(strings.TrimSuffix(r.field("Host"), "."), host) && !strings.HasPrefix(strings.ToLower(r.field("Host")), host) ||
				r.count("X-Forwarded-For") != 1 || r.count("Forwarded") != 1 || r.count("X-Request-Id") != 1 || r.count("Swage-Level") != 0 {
				t.Errorf("%+v is not as the edge writes it", r)
			}
			for _, trailer := range r.trailers {
				name, _, _ := strings.Cut(trailer, ": ")
				if isForged(name) || !strings.Contains(strings.ToLower(strings.Join(r.fields, "\n")), "trailer: "+strings.ToLower(name)) {
					t.Errorf("the trailer %s in %+v", trailer, r)
				}
			}
		}
	})
}

// alwaysOn lets the lines of requests through to a handler that discards the
// rest.
type alwaysOn struct{ *decided }

func (alwaysOn) Enabled(context.Context, slog.Level) bool { return true }

// asServed is a request as the servers of HTTP/2 and HTTP/3 hand it over, nil if
// they would not. Trailers are told as the library does that tells most: all.
func asServed(version int, fields, body, trailers string) *http.Request {
	r := &http.Request{
		ProtoMajor: version, Proto: "HTTP/" + strconv.Itoa(version) + ".0", Header: http.Header{}, ContentLength: -1,
		RemoteAddr: "127.0.0.1:9", Body: http.NoBody,
	}
	protocol := ""
	for f := range strings.SplitSeq(fields, " | ") {
		at := strings.LastIndex(f, ": ")
		if strings.Contains(f, ": ") {
			at = strings.Index(f[1:], ": ") + 1
		}
		if at < 1 || !httpguts.ValidHeaderFieldValue(f[at+2:]) {
			return nil
		}
		switch name, value := f[:at], f[at+2:]; name {
		case ":method":
			r.Method = value
		case ":authority":
			r.Host = value
		case ":path":
			r.RequestURI = value
		case ":protocol":
			protocol = value
		case ":scheme":
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return nil
		case "trailer":
			for one := range strings.SplitSeq(value, ",") {
				if r.Trailer == nil {
					r.Trailer = http.Header{}
				}
				r.Trailer[http.CanonicalHeaderKey(strings.TrimSpace(one))] = nil
			}
		default:
			if !httpguts.ValidHeaderFieldName(name) || strings.ToLower(name) != name {
				return nil
			}
			r.Header.Add(name, value)
		}
	}
	if r.Header.Get("Content-Length") != "" {
		n, err := strconv.ParseUint(r.Header.Get("Content-Length"), 10, 62)
		if err != nil || len(r.Header["Content-Length"]) > 1 {
			return nil
		}
		r.ContentLength = int64(n)
	}
	if protocol != "" {
		if r.Proto = protocol; version == 2 {
			r.Proto = "HTTP/2.0"
			r.Header[":protocol"] = []string{protocol}
		}
	}
	u, err := http.NewRequest(http.MethodGet, "https://x"+r.RequestURI, nil)
	if err != nil || !strings.HasPrefix(r.RequestURI, "/") || r.Method == "" || !httpguts.ValidHeaderFieldName(r.Method) {
		return nil
	}
	r.URL = u.URL
	if body == "" && trailers == "" && version == 2 {
		if r.ContentLength < 0 {
			r.ContentLength = 0
		}
		return r
	}
	r.Body = io.NopCloser(&trailing{bytes.NewReader([]byte(body)), r, trailers})
	return r
}

// trailing is content that tells of every trailer at its end.
type trailing struct {
	io.Reader
	r        *http.Request
	trailers string
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.trailers != "" {
		for f := range strings.SplitSeq(b.trailers, " | ") {
			name, value, _ := strings.Cut(f, ": ")
			if b.r.Trailer == nil {
				b.r.Trailer = http.Header{}
			}
			name = http.CanonicalHeaderKey(name)
			b.r.Trailer[name] = append(slices.Clone(b.r.Trailer[name]), value)
		}
	}
	return n, err
}

// take returns what came over connections that have ended, which all must, and
// forgets it.
func (rec *recorder) take(t testing.TB) ([]said, []string) {
	t.Helper()
	rec.settle(t)
	all, broken := rec.requests()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.streams = nil
	return all, broken
}

// sockets is a listener without a network.
type sockets struct {
	come chan net.Conn
	end  chan struct{}
	once sync.Once
}

func newSockets(t testing.TB) *sockets {
	s := &sockets{come: make(chan net.Conn), end: make(chan struct{})}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *sockets) dial(t testing.TB) net.Conn {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	s.come <- ends[1]
	return ends[0]
}

func (s *sockets) Accept() (net.Conn, error) {
	select {
	case c := <-s.come:
		return c, nil
	case <-s.end:
		return nil, net.ErrClosed
	}
}

func (s *sockets) Close() error {
	s.once.Do(func() { close(s.end) })
	return nil
}

func (s *sockets) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
