package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestP9AnswersNameTheLengthThatTheApplicationNames, or none, over every version.
func TestP9AnswersNameTheLengthThatTheApplicationNames(t *testing.T) {
	rows := []struct{ what, method, answer, want string }{
		{"HEAD of chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		{"HEAD without a word", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", ""},
		{"HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "7"},
		{"HEAD with a length of 0", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"},
		{"HEAD of 404 in chunks", "HEAD", "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"204 with a length", "DELETE", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ""},
		{"204 with a length for HEAD", "HEAD", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ""},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", ""},
		{"304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ""},
		{"a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "5"},
		{"a length of 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + strings.Repeat("x", 5000) + "\r\n0\r\n\r\n", ""},
	}
	app := wireApp(t, func(conn net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			var i int
			_, _ = fmt.Sscanf(r.URL.Path, "/%d", &i)
			_, _ = io.WriteString(conn, rows[i].answer)
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		c := s.client(t, "127.0.0.2", version)
		for i, row := range rows {
			r, err := http.NewRequest(row.method, fmt.Sprintf("%s/%d", origin(app.Port()), i), nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if got := strings.Join(res.Header["Content-Length"], ","); got != row.want {
				t.Errorf("%s: Content-Length %q, want %q", row.what, got, row.want)
			}
		}
	})
}

// TestP10LengthOfNothing: a client that says that its content has no byte is
// heard, for any method, and one that says nothing is not spoken for.
func TestP10LengthOfNothing(t *testing.T) {
	arrived := make(chan string, 1)
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		arrived <- strings.Join(r.Header["Content-Length"], ",") + " " + strings.Join(r.TransferEncoding, ",")
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	over := []framed{2: s.dialH2(t, host), 3: s.dialH3(t, host)}
	for _, method := range []string{"GET", "HEAD", "DELETE", "MKCOL", "LOCK", "UNLOCK", "PROPFIND", "COPY", "OPTIONS", "POST", "PUT"} {
		s.send(t, host, method+" / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if got := <-arrived; got != "0 " {
			t.Errorf("HTTP/1, %s: %q arrives", method, got)
		}
		for version := 2; version <= 3; version++ {
			for fields, want := range map[string]string{" | content-length: 0": "0 ", "": " "} {
				if fields == "" && expectsBody(method) {
					continue
				}
				if got, err := over[version].exchange(message{fields: parseFields(":method: " + method + " | :scheme: https | :authority: " + host + " | :path: /" + fields)}); got != "200" || err != nil {
					t.Fatalf("HTTP/%d, %s: %q, %v", version, method, got, err)
				}
				if got := <-arrived; got != want {
					t.Errorf("HTTP/%d, %s%s: %q arrives", version, method, fields, got)
				}
			}
		}
	}
}

// TestP8LargeHeaderEndsItsStreamOnly: over HTTP/2 a header past 64 KiB is 431,
// and a request that was under way on the same connection goes on.
func TestP8LargeHeaderEndsItsStreamOnly(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			close(began)
			<-release
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	c := s.client(t, "127.0.0.2", 2)
	long := make(chan error, 1)
	go func() {
		res, err := c.Get(origin(app.Port()) + "/long")
		if err == nil {
			res.Body.Close()
		}
		long <- err
	}()
	<-began
	for _, size := range []int{64 << 10, 70_000, 128 << 10, 200 << 10} {
		r, err := http.NewRequest(http.MethodGet, origin(app.Port()), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			r.Header.Set(fmt.Sprint("X-Part-", i), strings.Repeat("x", size/8))
		}
		res, err := c.Do(r)
		if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d bytes in eight fields: %+v, %v", size, res, err)
			continue
		}
		res.Body.Close()
		f := s.dialH2(t, strings.TrimPrefix(origin(app.Port()), "https://"))
		if got, err := f.exchange(message{fields: parseFields(framedHead("GET", strings.TrimPrefix(origin(app.Port()), "https://"), "x") + " | x: " + strings.Repeat("x", size))}); got != "431" || err != nil {
			t.Errorf("%d bytes in one field: %q, %v", size, got, err)
		}
	}
	close(release)
	if err := <-long; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
}

// TestS15Trailers: of an answer those trailers are passed on that it declared,
// and none that frames, routes, authenticates or sets what a browser keeps;
// gRPC, whose protocol declares them, keeps what it did not announce. Those of
// requests stand in testdata/framing.txt.
func TestS15Trailers(t *testing.T) {
	sent := http.Header{"X-Sum": {"1"}, "X-Late": {"2"}, "Set-Cookie": {"a=b"}, "Location": {"/"}, "Connection": {"close"}, "Content-Length": {"5"}, "Www-Authenticate": {"Basic"}, "Strict-Transport-Security": {"max-age=0"}, "Alt-Svc": {"h3"}}
	app := wireApp(t, func(conn net.Conn, in *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			out := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
			trailers := ""
			for name, values := range sent {
				if name != "X-Late" && name != "Content-Length" { // which Go's reader refuses as a declaration
					out += "Trailer: " + name + "\r\n"
				}
				trailers += name + ": " + values[0] + "\r\n"
			}
			_, _ = io.WriteString(conn, out+"\r\n5\r\nhello\r\n0\r\n"+trailers+"\r\n")
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		res, err := s.client(t, "127.0.0.2", version).Get(origin(app.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if string(body) != "hello" || err != nil || len(res.Trailer) != 1 || res.Trailer.Get("X-Sum") != "1" {
			t.Errorf("%q, %v, trailers %v", body, err, res.Trailer)
		}
	})

	calls := http.NewServeMux()
	calls.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(http.StatusOK)
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status-Details-Bin", "YQ")
		w.Header().Set(http.TrailerPrefix+"X-Count", "3")
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
		w.Header().Set(http.TrailerPrefix+"Location", "/")
	})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{Handler: calls, Protocols: protocols}
	go func() { _ = service.Serve(l) }()
	defer service.Close()
	s.Swap(mustCompile(t, at(app.Addr(), nil)))
	for version := 2; version <= 3; version++ {
		r, err := http.NewRequest(http.MethodPost, origin(uint16(l.Addr().(*net.TCPAddr).Port)), strings.NewReader("\x00\x00\x00\x00\x00"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
		res, err := s.client(t, "127.0.0.2", version).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		var names []string
		for name := range res.Trailer {
			names = append(names, name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "Grpc-Message Grpc-Status Grpc-Status-Details-Bin X-Count" {
			t.Errorf("HTTP/%d: gRPC's trailers are %s", version, got)
		}
	}
}
