package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestTrailers: those of the request arrive with the forged ones gone, and those
// of the answer that it announced.
func TestTrailers(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Announced")
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %q", body, r.Trailer.Get("X-Sum"), r.Trailer["X-Forwarded-For"])
			w.Header().Set("X-Announced", "a")
			w.Header().Set(http.TrailerPrefix+"X-Late", "b")
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		r, err := http.NewRequest(http.MethodPost, origin(app.Port()), struct{ io.Reader }{strings.NewReader("body")})
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Sum": {"12"}, "X-Forwarded-For": {"forged"}}
		res, err := s.client(t, "127.0.0.2", version).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if string(body) != "body 12 []" {
			t.Errorf("the application saw %q", body)
		}
		if len(res.Trailer) != 1 || res.Trailer.Get("X-Announced") != "a" {
			t.Errorf("trailers %v", res.Trailer)
		}
	})
}

// TestInformational: 103 arrives before the answer, and 100 exactly once when
// the application wants the body, never when it does not.
func TestInformational(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/refuse" {
				w.WriteHeader(http.StatusExpectationFailed)
				return
			}
			hint := func() {
				w.Header().Set("Link", "</a.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
			}
			if r.URL.Path == "/take" {
				hint()
			}
			n, _ := io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/late" {
				hint()
			}
			fmt.Fprint(w, n)
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		c := s.client(t, "127.0.0.2", version)
		if transport, ok := c.Transport.(*http.Transport); ok {
			transport.ExpectContinueTimeout = patience
		}
		// net/http hides the expectation of HTTP/2 and answers it when the body
		// is read, which is at once; after another informational answer it
		// answers none, and the client goes on by itself.
		first := "/take"
		if version == 2 {
			first = "/late"
		}
		for _, row := range []struct {
			path   string
			status int
			want   map[int]string
		}{
			{first, 200, map[int]string{1: "[103 100]", 2: "[100 103]", 3: "[103 100]"}},
			{"/refuse", 417, map[int]string{1: "[]", 2: "[100]", 3: "[]"}},
		} {
			var saw []int
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
					saw = append(saw, code)
					return nil
				},
			})
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, origin(app.Port())+row.path, bytes.NewReader(make([]byte, 100)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Expect", "100-continue")
			res, err := c.Do(r)
			if err != nil {
				t.Fatalf("%v, after %v", err, saw)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != row.status || row.status == 200 && string(body) != "100" {
				t.Errorf("%s: status %d, body %q", row.path, res.StatusCode, body)
			}
			if got := fmt.Sprint(saw); got != row.want[version] {
				t.Errorf("%s: informational answers %v, want %s", row.path, got, row.want[version])
			}
		}
	})
}

// TestFullDuplex: request and answer flow at the same time, piece by piece,
// and a side that does not read holds up the other.
func TestFullDuplex(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		var taken atomic.Int64
		release := make(chan struct{})
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			_ = rc.EnableFullDuplex()
			_ = rc.Flush()
			if r.URL.Path == "/stuck" {
				buf := make([]byte, 1<<10)
				n, _ := r.Body.Read(buf)
				taken.Add(int64(n))
				<-release
				return
			}
			lines := bufio.NewReader(r.Body)
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(w, "echo "+line)
				_ = rc.Flush()
			}
		})
		t.Cleanup(func() { close(release) })
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		c := s.client(t, "127.0.0.2", version)

		in, out := io.Pipe()
		r, err := http.NewRequest(http.MethodPost, origin(app.Port())+"/talk", in)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(res.Body)
		for i := range 3 {
			fmt.Fprintf(out, "%d\n", i)
			if line, err := lines.ReadString('\n'); line != fmt.Sprintf("echo %d\n", i) {
				t.Fatalf("got %q, %v", line, err)
			}
		}
		out.Close()
		if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
			t.Errorf("the end: %q, %v", rest, err)
		}
		res.Body.Close()

		// What the application does not take must not pile up in between.
		var sent atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		r, err = http.NewRequestWithContext(ctx, http.MethodPost, origin(app.Port())+"/stuck", &counted{n: &sent})
		if err != nil {
			t.Fatal(err)
		}
		res, err = c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		for before := int64(-1); before != sent.Load(); time.Sleep(300 * time.Millisecond) {
			before = sent.Load()
		}
		if n := sent.Load(); n > 64<<20 {
			t.Errorf("%d MiB were taken from the client for an application that reads nothing", n>>20)
		}
		cancel()
		res.Body.Close()
	})
}

// counted is a body without end that counts what was read of it.
type counted struct{ n *atomic.Int64 }

func (c *counted) Read(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// secureBackend is an application that speaks TLS, and shows the name that it
// was asked for.
func secureBackend(t *testing.T, addr string, h http.Handler) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// TestReencrypted: https reaches a container over TLS, by the host that was
// asked for; a WebSocket too.
func TestReencrypted(t *testing.T) {
	app := secureBackend(t, "127.0.1.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			echo(w, r)
			return
		}
		fmt.Fprint(w, r.TLS.ServerName, " ", r.Host, " ", r.Proto)
	}))
	c := at(app.Addr(), nil)
	c.Aliases = []Alias{{Name: "safe", Target: to("shop/web", "https", app.Port()), AllowPathOverride: true}}
	s := serve(t, mustCompile(t, c))
	each(t, func(t *testing.T, version int) {
		client := s.client(t, "127.0.0.2", version)
		for _, host := range []string{fmt.Sprintf("%s-%s-https-%d.%s", shop, web, app.Port(), zone), "safe." + zone} {
			if _, body := get(t, client, "https://"+host+"/x"); body != host+" "+host+" HTTP/1.1" {
				t.Errorf("%s: the application saw %q", host, body)
			}
		}
		// A program that does not speak TLS is asked in vain.
		plain := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) { t.Error("it was reached") })
		res, _ := get(t, client, fmt.Sprintf("https://%s-%s-https-%d.%s/", shop, web, plain.Port(), zone))
		if res.StatusCode != http.StatusBadGateway {
			t.Errorf("no TLS there: status %d", res.StatusCode)
		}
	})
	ws := s.dialWebSocket(t, "127.0.0.2", "https://safe."+zone+"/echo")
	if got, err := say(ws, "hello"); got != "hello" {
		t.Errorf("echo %q, %v", got, err)
	}
}

// TestInstanceIsTold: programs whose instances share a port learn which is
// meant, and only from the edge.
func TestInstanceIsTold(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["Swage-Instance"], len(r.Header["Swage_instance"])+len(r.Header["Swage.instance"]))
	})
	c := at(app.Addr(), nil)
	c.Containers[0].Catalogue = &Catalogue{[]Program{{Name: "terminal", Port: app.Port(), Instances: 9}}}
	s := serve(t, mustCompile(t, c))
	each(t, func(t *testing.T, version int) {
		client := s.client(t, "127.0.0.2", version)
		for label, want := range map[string]string{
			"terminal": "[1] 0", "terminal-7": "[7] 0", fmt.Sprintf("http-%d", app.Port()): "[1] 0",
		} {
			_, body := get(t, client, "https://"+shop+"-"+web+"-"+label+"."+zone+"/",
				"Swage-Instance", "8", "swage_instance", "8", "Swage.Instance", "8")
			if body != want {
				t.Errorf("%s: %s, want %s", label, body, want)
			}
		}
	})
}

// TestAltSvc: clients of older versions learn of HTTP/3 at the same port.
func TestAltSvc(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Alt-Svc", `h3=":9"`) })
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	_, port, _ := net.SplitHostPort(s.addr)
	each(t, func(t *testing.T, version int) {
		for _, url := range []string{origin(app.Port()), "https://nothing." + zone} {
			res, _ := get(t, s.client(t, "127.0.0.2", version), url)
			got, want := res.Header.Get("Alt-Svc"), `h3=":`+port+`"; ma=86400`
			if version < 3 && got != want {
				t.Errorf("%s: Alt-Svc %q, want %q", url, got, want)
			}
		}
	})
}

// TestNoEarlyData: a client that has been here before is not heard before its
// address is proved.
func TestNoEarlyData(t *testing.T) {
	app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) {})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	config := &tls.Config{RootCAs: roots, ServerName: "x." + zone, NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: tls.NewLRUClientSessionCache(9)}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, err := quic.DialAddrEarly(ctx, s.addr, config, &quic.Config{TokenStore: quic.NewLRUTokenStore(1, 1)})
		if err != nil {
			t.Fatal(err)
		}
		<-conn.HandshakeComplete()
		time.Sleep(50 * time.Millisecond) // for the session ticket
		if conn.ConnectionState().Used0RTT {
			t.Error("early data was taken")
		}
		_ = conn.CloseWithError(0, "")
		cancel()
	}
}

// TestCurl: the client that everyone has.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d", r.RequestURI, n)
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	body := t.TempDir() + "/body"
	if err := os.WriteFile(body, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	for flag, want := range map[string]string{"--http1.1": "1.1", "--http2": "2"} {
		out, err := exec.CommandContext(t.Context(), curl, "-sk", flag, "--max-time", "10", "--path-as-is", "--connect-to", "::"+s.addr,
			"-T", body, "-H", "Expect: 100-continue", "-w", " %{http_version}", "https://"+host+"/a/../%2Fb?c").CombinedOutput()
		if want = "/a/../%2Fb?c 3145728 " + want; err != nil || string(out) != want {
			t.Errorf("%s: %q, %v; want %q", flag, out, err, want)
		}
	}
}

// raw passes gRPC messages as they are.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// TestGRPC: a stream in both directions, message by message, with metadata at
// its end and a status that is not OK; over http and over https.
func TestGRPC(t *testing.T) {
	service := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		stream.SetTrailer(metadata.Pairs("x-count", "3"))
		for {
			var message []byte
			if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
				return status.Error(codes.ResourceExhausted, "enough: 100 %")
			} else if err != nil {
				return err
			}
			message = append([]byte("echo "), message...)
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}))
	defer service.Stop()
	l, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = service.Serve(l) }()
	secure := secureBackend(t, "127.0.1.1", service)
	plain := netip.MustParseAddrPort(l.Addr().String())
	s := serve(t, mustCompile(t, at(plain.Addr(), nil)))

	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	for _, label := range []string{fmt.Sprintf("http-%d", plain.Port()), fmt.Sprintf("https-%d", secure.Port())} {
		host := shop + "-" + web + "-" + label + "." + zone
		conn, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", s.addr)
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/echo.Echo/Talk")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			message := fmt.Appendf(nil, "%d", i)
			if err := stream.SendMsg(&message); err != nil {
				t.Fatal(err)
			}
			var got []byte
			if err := stream.RecvMsg(&got); err != nil || string(got) != fmt.Sprintf("echo %d", i) {
				t.Fatalf("%s: got %q, %v", label, got, err)
			}
		}
		_ = stream.CloseSend()
		err = stream.RecvMsg(new([]byte))
		if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "enough: 100 %" {
			t.Errorf("%s: status %v", label, err)
		}
		if got := stream.Trailer().Get("x-count"); len(got) != 1 || got[0] != "3" {
			t.Errorf("%s: trailer %v", label, stream.Trailer())
		}
	}
}

// wire is a WebSocket connection below its frames, over any version of HTTP.
type wire struct {
	io.Reader
	io.Writer
	closeWrite func() error
	closeAll   func()
}

// dialWire opens a WebSocket by the handshake of the version.
func (s *server) dialWire(t *testing.T, version int, url string) *wire {
	t.Helper()
	if version == 1 {
		roots := x509.NewCertPool()
		roots.AddCert(certificate().Leaf)
		host, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
		conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: roots, ServerName: host})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, host)
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Fatalf("handshake: %v, %v", res, err)
		}
		return &wire{r, conn, conn.CloseWrite, func() { conn.Close() }}
	}
	in, out := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodConnect, url, in)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-WebSocket-Version", "13")
	if version == 2 {
		r.Header.Set(":protocol", "websocket")
	} else {
		r.Proto = "websocket"
	}
	res, err := s.connector(t, "127.0.0.2", version).RoundTrip(r)
	if err != nil {
		t.Fatal(err, s.log)
	}
	if res.StatusCode != http.StatusOK || len(res.Header["Sec-Websocket-Accept"])+len(res.Header["Upgrade"])+len(res.Header["Connection"]) > 0 {
		t.Fatalf("handshake: %d %v", res.StatusCode, res.Header)
	}
	return &wire{res.Body, out, out.Close, func() { out.Close(); cancel(); res.Body.Close() }}
}

// connector can send an extended CONNECT, which net/http's own client cannot.
func (s *server) connector(t *testing.T, from string, version int) http.RoundTripper {
	t.Helper()
	if version == 3 {
		return s.client(t, from, 3).Transport
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}},
		Config:    &tls.Config{RootCAs: roots, ServerName: "x." + zone, NextProtos: []string{"h2"}},
	}
	//lint:ignore SA1019 what is to take its place cannot
	transport := &http2.Transport{DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", s.addr)
	}}
	//lint:ignore SA1019 as above
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// frame is a masked frame of a client (RFC 6455, section 5.2).
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	return append(b, payload...)
}

// readFrame reads one of a server.
func readFrame(r io.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if more := map[int]int{126: 2, 127: 8}[n]; more > 0 {
		var length [8]byte
		if _, err = io.ReadFull(r, length[8-more:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint64(length[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0], payload, err
}

// TestWebSocket over every version: messages in fragments with a ping between
// them, close codes, ten mebibytes, and an end of one direction alone.
func TestWebSocket(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/frames": // the frames themselves come back
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.SetReadLimit(-1)
			for {
				kind, data, err := c.Read(r.Context())
				if code := websocket.CloseStatus(err); code == 4001 {
					return // its answer is sent already
				}
				if err != nil || c.Write(r.Context(), kind, data) != nil {
					return
				}
			}
		case "/half": // answers when the other side has ended
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + acceptOf(r) + "\r\n\r\n")
			_ = rw.Flush()
			all, _ := io.ReadAll(rw)
			_, _ = conn.Write(append([]byte("after the end: "), all...))
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		c := s.dialWire(t, version, origin(app.Port())+"/frames")
		defer c.closeAll()
		_, _ = c.Write(frame(0x01, []byte("hel"))) // not the last
		_, _ = c.Write(frame(0x89, []byte("ping")))
		_, _ = c.Write(frame(0x80, []byte("lo")))
		if first, data, err := readFrame(c); first != 0x8a || string(data) != "ping" {
			t.Errorf("pong: %x %q %v", first, data, err)
		}
		if first, data, err := readFrame(c); first != 0x81 || string(data) != "hello" {
			t.Errorf("message: %x %q %v", first, data, err)
		}
		big := make([]byte, 10<<20)
		_, _ = rand.Read(big)
		go func() { _, _ = c.Write(frame(0x82, big)) }()
		if _, data, err := readFrame(c); !bytes.Equal(data, big) {
			t.Errorf("ten mebibytes: %d bytes, %v", len(data), err)
		}
		_, _ = c.Write(frame(0x88, append([]byte{4001 >> 8, 4001 & 0xff}, "bye"...)))
		if first, data, err := readFrame(c); first != 0x88 || len(data) < 2 || int(data[0])<<8|int(data[1]) != 4001 {
			t.Errorf("close: %x %q %v", first, data, err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the end: %v", err)
		}

		half := s.dialWire(t, version, origin(app.Port())+"/half")
		defer half.closeAll()
		_, _ = half.Write([]byte("some"))
		_ = half.closeWrite()
		if all, err := io.ReadAll(half); string(all) != "after the end: some" || err != nil {
			t.Errorf("half closed: %q, %v", all, err)
		}
	})
}

// TestWebSocketBytes: what passes is not looked at, so it comes back as it was
// sent, whatever it is: a message in fragments with control frames between
// them, extensions' bits, every kind of close, ten mebibytes in many frames.
func TestWebSocketBytes(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + acceptOf(r) + "\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	})
	var sent []byte
	big := make([]byte, 10<<20)
	_, _ = rand.Read(big)
	for chunk := range slices.Chunk(big, 100_000) {
		sent = append(sent, frame(0x02, chunk)...) // none is the last
		sent = append(sent, frame(0x89, chunk[:125])...)
		sent = append(sent, frame(0x8a, nil)...)
	}
	sent = append(sent, frame(0x80, nil)...)
	sent = append(sent, frame(0xc1, []byte("compressed"))...) // RSV1 (RFC 7692)
	sent = append(sent, frame(0xbf, []byte("an unknown kind"))...)
	for _, code := range []uint16{0, 1000, 1001, 1005, 1015, 3000, 4999, 65535} {
		sent = append(sent, frame(0x88, append(binary.BigEndian.AppendUint16(nil, code), "why"...))...)
	}
	sent = append(sent, frame(0x88, nil)...)
	sent = append(sent, frame(0x88, []byte{3})...) // half a code

	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		c := s.dialWire(t, version, origin(app.Port())+"/")
		defer c.closeAll()
		go func() {
			_, _ = c.Write(sent)
			_ = c.closeWrite()
		}()
		if got, err := io.ReadAll(c); !bytes.Equal(got, sent) || err != nil {
			t.Errorf("%d bytes come back of %d, %v", len(got), len(sent), err)
		}
	})
}

func acceptOf(r *http.Request) string { return acceptKey(r.Header.Get("Sec-WebSocket-Key")) }

// TestWebSocketRefused: an application that opens no tunnel is heard, and what
// would open one by mistake is not.
func TestWebSocketRefused(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			fmt.Fprint(w, "a page")
		case "/accept":
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Sec-WebSocket-Accept", "d3Jvbmc=")
			w.WriteHeader(http.StatusSwitchingProtocols)
		default:
			http.Error(w, "not here", http.StatusTeapot)
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), only("127.0.0.2"))))
	for version := 2; version <= 3; version++ {
		for _, row := range []struct {
			from, path, protocol string
			want                 int
		}{
			{"127.0.0.2", "/no", "websocket", http.StatusTeapot},
			{"127.0.0.2", "/ok", "websocket", http.StatusBadGateway},
			{"127.0.0.2", "/accept", "websocket", http.StatusBadGateway},
			{"127.0.0.2", "/ok", "connect-udp", http.StatusNotImplemented},
			{"127.0.0.3", "/ok", "websocket", http.StatusForbidden},
		} {
			r, err := http.NewRequest(http.MethodConnect, origin(app.Port())+row.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Proto = row.protocol; version == 2 {
				r.Header.Set(":protocol", row.protocol)
			}
			res, err := s.connector(t, row.from, version).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != row.want {
				t.Errorf("HTTP/%d, %s %s: %d, want %d", version, row.protocol, row.path, res.StatusCode, row.want)
			}
		}
	}
}

// TestSwapCutsTunnels: who is no longer allowed loses a WebSocket at once.
func TestSwapCutsTunnels(t *testing.T) {
	app := backend(t, "127.0.1.1", echo)
	each(t, func(t *testing.T, version int) {
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		c := s.dialWire(t, version, origin(app.Port())+"/echo")
		defer c.closeAll()
		_, _ = c.Write(frame(0x81, []byte("hello")))
		if _, data, err := readFrame(c); string(data) != "hello" {
			t.Fatalf("echo: %q, %v", data, err)
		}
		s.Swap(mustCompile(t, at(app.Addr(), &Permissions{})))
		ended := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(c)
			ended <- err
		}()
		select {
		case err := <-ended:
			if version > 1 && err == nil {
				t.Error("it ends as if the application had ended it")
			}
		case <-time.After(patience):
			t.Error("it goes on")
		}
	})
}
