package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wireApp is an application of which each connection is handled below HTTP.
func wireApp(t testing.TB, handle func(net.Conn, *bufio.Reader)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn, bufio.NewReader(conn))
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// inMemory is a Proxy before one application, asked without a network.
func inMemory(t testing.TB, app netip.AddrPort) *Proxy {
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
	p.Swap(mustCompile(t, at(app.Addr(), nil)))
	t.Cleanup(func() { p.Swap(nil) })
	return p
}

// TestAnswers: what an application says is passed on, refused as broken, or cut
// off; and after what was not whole the connection is not used again.
func TestAnswers(t *testing.T) {
	const sound = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	for _, row := range []struct {
		what, answer string
		want         string // status and body; empty: broken off
		again        bool   // the connection is used for the next request
	}{
		{"of known length", sound, "200 hello", true},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "200 hello", true},
		{"without a body", "HTTP/1.1 204 No Content\r\n\r\n", "204 ", true},
		{"not modified, with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 ", true},
		{"after a hint", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sound, "200 hello", true},
		{"until it closes", "HTTP/1.1 200 OK\r\n\r\nhello", "200 hello", false},
		{"and closes", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "200 hello", false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 hello", false},
		{"of both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200 hello", true},
		{"and more that nobody asked for", sound + sound, "200 hello", false},
		{"more than it announced", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "200 he", false},
		{"less than it announced", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "", false},
		{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello", "", false},
		{"no chunks at all", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello", "", false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "502", false},
		{"a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", "502", false},
		{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "502", false},
		{"no HTTP", "hello\r\n\r\n", "502", false},
		{"nothing", "", "502", false},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-", "502", false},
		{"a status below all", "HTTP/1.1 099 No\r\n\r\n", "502", false},
		{"a status above all", "HTTP/1.1 1000 No\r\n\r\n", "502", false},
		{"a header without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxAnswerHeader), "502", false},
		{"hints without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), "502", false},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "502", false},
	} {
		t.Run(row.what, func(t *testing.T) {
			var opened atomic.Int64
			app := wireApp(t, func(conn net.Conn, in *bufio.Reader) {
				answer := sound // all but the first time
				if opened.Add(1) == 1 {
					answer = row.answer
				}
				for {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					_, _ = io.WriteString(conn, answer)
					if !row.again && answer == row.answer {
						return
					}
					answer = sound
				}
			})
			p := inMemory(t, app)
			got := func() string {
				s := httptest.NewServer(p) // which shows what is broken off
				defer s.Close()
				r, err := http.NewRequest(http.MethodGet, s.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = strings.TrimPrefix(origin(app.Port()), "https://")
				res, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					return ""
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				switch {
				case err != nil:
					return ""
				case res.StatusCode == http.StatusBadGateway:
					return "502"
				}
				return fmt.Sprintf("%d %s", res.StatusCode, body)
			}
			if first := got(); first != row.want {
				t.Errorf("passed on as %q, want %q", first, row.want)
			}
			if next := got(); next != "200 hello" {
				t.Errorf("the next answer is %q", next)
			}
			if again := opened.Load() == 1; again != row.again {
				t.Errorf("the connection is used again: %v, want %v", again, row.again)
			}
		})
	}
}

// TestNoTunnel: an answer that opens no tunnel is not passed on, nor is anything of
// it.
func TestNoTunnel(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Inside: 1\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Inside: 1\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Inside: 1\r\n\r\n",
	} {
		app := wireApp(t, func(conn net.Conn, in *bufio.Reader) {
			if _, err := http.ReadRequest(in); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
		})
		r := httptest.NewRequest(http.MethodGet, origin(app.Port()), nil)
		r.Method, r.ProtoMajor, r.ProtoMinor = http.MethodConnect, 2, 0
		r.Header[":protocol"] = []string{"websocket"}
		w := httptest.NewRecorder()
		inMemory(t, app).ServeHTTP(w, r)
		if w.Code != http.StatusBadGateway || w.Header().Get("X-Inside") != "" {
			t.Errorf("%q: status %d, header %v", answer, w.Code, w.Header())
		}
	}
}

// TestClosedWhileResting: a connection that the application has closed, or over
// which it has said what nobody asked for, is not used, so that even a request
// that must not be sent twice is answered.
func TestClosedWhileResting(t *testing.T) {
	for _, unasked := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"} {
		served, rests := make(chan struct{}), make(chan struct{})
		app := wireApp(t, func(conn net.Conn, in *bufio.Reader) {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
			select {
			case <-served:
			default:
				<-rests
				_, _ = io.WriteString(conn, unasked)
				close(served)
				if unasked != "" {
					_, _ = in.ReadByte()
				}
			}
		})
		p := inMemory(t, app)
		if w := ask(p, "192.0.2.5:9", http.MethodGet, origin(app.Port()), ""); w.Code != http.StatusOK {
			t.Fatalf("the first request: %d", w.Code)
		}
		close(rests)
		<-served
		until(t, "the connection seems sound", func() bool {
			sound := false
			for i := range p.upstreams.parts {
				for _, pool := range p.upstreams.parts[i].pools {
					for _, c := range pool.idle {
						sound = sound || c.sound()
					}
				}
			}
			return !sound
		})
		if w := ask(p, "192.0.2.5:9", http.MethodPost, origin(app.Port()), "pay 5 €"); w.Code != http.StatusOK || w.Body.String() != "true" {
			t.Errorf("unasked %q: %d %s", unasked, w.Code, w.Body)
		}
	}
}

// TestAnsweredEarly: an answer that comes before all of the body was sent
// reaches the client, over every version.
func TestAnsweredEarly(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		app := wireApp(t, func(conn net.Conn, in *bufio.Reader) {
			if _, err := http.ReadRequest(in); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
			}
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		body, more := io.Pipe()
		done := make(chan struct{})
		go func() { // until nobody takes it
			defer close(done)
			for piece := make([]byte, 8<<10); ; {
				if _, err := more.Write(piece); err != nil {
					return
				}
			}
		}()
		res, err := s.client(t, "127.0.0.2", version).Post(origin(app.Port()), "", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge || string(got) != "no!" || err != nil {
			t.Errorf("%d %q, %v", res.StatusCode, got, err)
		}
		body.Close()
		<-done
	})
}

// TestFraming: the body that arrives has the length that the client announced,
// or none; a request without a body has no sign of one.
func TestFraming(t *testing.T) {
	type seen struct {
		length   int64
		encoding []string
		body     string
	}
	arrived := make(chan seen, 1)
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- seen{r.ContentLength, r.TransferEncoding, string(body)}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		c := s.client(t, "127.0.0.2", version)
		for _, row := range []struct {
			method string
			body   io.Reader
			want   seen
		}{
			{"GET", nil, seen{}},
			{"HEAD", nil, seen{}},
			{"DELETE", nil, seen{}},
			{"DELETE", strings.NewReader("all"), seen{3, nil, "all"}},
			{"DELETE", struct{ io.Reader }{strings.NewReader("all")}, seen{-1, []string{"chunked"}, "all"}},
			{"POST", strings.NewReader("body"), seen{4, nil, "body"}},
			{"POST", struct{ io.Reader }{strings.NewReader("body")}, seen{-1, []string{"chunked"}, "body"}},
		} {
			r, err := http.NewRequest(row.method, origin(app.Port()), row.body)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := <-arrived; fmt.Sprint(got) != fmt.Sprint(row.want) {
				t.Errorf("%s: %+v arrives, want %+v", row.method, got, row.want)
			}
		}
	})
}

// TestBrokenUpload: what a client breaks off does not pass for the whole.
func TestBrokenUpload(t *testing.T) {
	for _, framing := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		ended := make(chan error, 1)
		app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		c := s.dialTLS(t, "127.0.0.2")
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n5\r\nhello\r\n", strings.TrimPrefix(origin(app.Port()), "https://"), framing)
		_ = c.(*tls.Conn).CloseWrite()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: it passes for the whole", framing)
			}
		case <-time.After(patience):
			t.Error("the application still reads")
		}
		c.Close()
	}
}

// TestSilentApplication: an application that does not answer is not waited for
// without end; one that is still being sent to is.
func TestSilentApplication(t *testing.T) {
	arrived := make(chan struct{}, 2)
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	c := s.client(t, "127.0.0.2", 1)
	status := make(chan int, 1)
	go func() {
		res, err := c.Get(origin(app.Port()))
		if err != nil {
			status <- 0
			return
		}
		res.Body.Close()
		status <- res.StatusCode
	}()
	<-arrived
	s.live.look(time.Now().Add(answerTimeout - time.Minute))
	select {
	case got := <-status:
		t.Errorf("before its time: %d", got)
	default:
	}
	s.live.look(time.Now().Add(answerTimeout + time.Minute))
	if got := <-status; got != http.StatusGatewayTimeout {
		t.Errorf("status %d, want 504", got)
	}
}

// TestTunnelOutlivesHandler: while a WebSocket is silent the server's part of
// its connection is gone; its end is noticed all the same.
func TestTunnelOutlivesHandler(t *testing.T) {
	app := backend(t, "127.0.1.1", echo)
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	c := s.dialWebSocket(t, "127.0.0.2", origin(app.Port()))
	for _, size := range []int{1, 1 << 10, 1<<10 + 1, 30 << 10} {
		message := strings.Repeat("x", size)
		if got, err := say(c, message); got != message {
			t.Errorf("%d bytes: %d come back, %v", size, len(got), err)
		}
	}
	if s.live.count() != 1 || s.load.counters() == 0 {
		t.Error("it is not counted")
	}
	c.CloseNow()
	until(t, "its end is not noticed", func() bool { return s.live.count() == 0 && s.load.counters() == 0 })
	until(t, "it is not in the log", func() bool { return strings.Contains(s.log.String(), `"status":101`) })
}

// FuzzHead: whatever request the servers let through, what is written for the
// container is one request, with the target, the host and the fields that were
// decided about, or nothing.
func FuzzHead(f *testing.F) {
	f.Add("GET", "/a?b=c", "X-Custom", "value", "close", int64(0))
	f.Add("POST", "//a", "Transfer-Encoding", "chunked", "X-Custom", int64(-1))
	f.Add("PUT", "/a b", "Content-Length", "7", "keep-alive, te", int64(7))
	f.Add("GET /x HTTP/1.1\r\nA: b\r\n\r\n", "/", "X\r\nY", "a\r\nb", "", int64(0))
	f.Add("GET", "/\r\n", "X-Forwarded-For", "127.0.0.1", "x-forwarded-for", int64(0))
	table := mustCompile(f, fixture())
	f.Fuzz(func(t *testing.T, method, target, name, value, connection string, length int64) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		r := &http.Request{
			Method: method, URL: u, RequestURI: target, Host: "my-api." + zone, RemoteAddr: "198.51.100.7:1",
			Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: max(-1, length), Body: http.NoBody,
			Header: http.Header{name: {value}, "Connection": {connection}, "X-Mine": {"1"}},
		}
		if r.ContentLength != 0 {
			r.Body = io.NopCloser(strings.NewReader("body"))
		}
		x := newExchange(httptest.NewRecorder(), r)
		if x.decision = table.Decide(x.request); x.decision.Verdict != Allow {
			return
		}
		x.ctx = newEnding(context.Background())
		x.prepare("")
		head, err := x.appendHead(nil)
		if err != nil {
			if !errors.Is(err, errUnsound) {
				t.Errorf("%v", err)
			}
			return
		}
		if bytes.Count(head, []byte("\r\n\r\n")) != 1 || !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			t.Fatalf("%q is not one head", head)
		}
		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil {
			return // a server that is as strict as Go's refuses it
		}
		if got.Method != method || got.RequestURI != target || got.Host != r.Host {
			t.Errorf("%q arrives as %s %s of %s", head, got.Method, got.RequestURI, got.Host)
		}
		for _, who := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id"} {
			if n := len(got.Header[who]); n != 1 || strings.Contains(got.Header.Get(who), "127.0.0.1") {
				t.Errorf("%d of %s in %q", n, who, head)
			}
		}
		switch chunked := len(got.TransferEncoding) > 0; {
		case chunked && x.out.Content().Length() >= 0, !chunked && x.body != nil && got.ContentLength != x.out.Content().Length():
			t.Errorf("a body of %d is framed as %d, %v", x.out.Content().Length(), got.ContentLength, got.TransferEncoding)
		case x.body == nil && (chunked || got.ContentLength != 0):
			t.Errorf("there is no body, and %q", head)
		}
	})
}

// FuzzAnswer: whatever an application says, the edge stands, the client gets an
// answer or a broken connection, and the next request is answered by the
// application and not by what was left of the answer before.
func FuzzAnswer(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 999 \r\nTrailer: a\r\n\r\n",
	} {
		f.Add([]byte(answer))
	}
	var answer atomic.Pointer[[]byte]
	app := wireApp(f, func(conn net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.URL.Path == "/next" {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
				continue
			}
			_, _ = conn.Write(*answer.Load())
			_ = conn.(*net.TCPConn).CloseWrite()
			return
		}
	})
	p := inMemory(f, app)
	f.Fuzz(func(t *testing.T, b []byte) {
		answer.Store(&b)
		func() {
			defer func() {
				if v := recover(); v != nil && v != http.ErrAbortHandler {
					t.Fatalf("%v", v)
				}
			}()
			ask(p, "192.0.2.5:9", http.MethodGet, origin(app.Port())+"/", "")
		}()
		if w := ask(p, "192.0.2.5:9", http.MethodGet, origin(app.Port())+"/next", ""); w.Code != http.StatusOK || w.Body.String() != "next" {
			t.Errorf("the next answer is %d %q", w.Code, w.Body)
		}
	})
}
