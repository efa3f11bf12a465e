package edge

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// send writes bytes as they are, and reads answers until the edge closes or has
// no more to say.
func (s *server) send(t *testing.T, host, request string) (statuses []int) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, request)
	r := bufio.NewReader(conn)
	for wait := time.Second; ; wait = 50 * time.Millisecond {
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

// TestA4HintsOfOldClients: a client of HTTP/1.0 gets no informational answer, which
// it would take for the answer.
func TestA4HintsOfOldClients(t *testing.T) {
	app := wireApp(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	for version, want := range map[string][]int{"1.0": {200}, "1.1": {103, 200}} {
		if got := s.send(t, host, "GET / HTTP/"+version+"\r\nHost: "+host+"\r\nConnection: keep-alive\r\n\r\n"); !slices.Equal(got, want) {
			t.Errorf("HTTP/%s: %v", version, got)
		}
	}
}

// TestMalformed: every line of testdata/malformed.txt. Each is followed by a
// sound request, which must not be answered either: after a request that was
// not understood nobody knows where the next begins.
func TestMalformed(t *testing.T) {
	var reached atomic.Int32
	app := backend(t, "127.0.1.1", func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	fill := strings.NewReplacer("{host}", host, "{70000}", strings.Repeat("x", 70_000))

	text, err := os.ReadFile("testdata/malformed.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		rows++
		var what, request string
		var want int
		if _, err := fmt.Sscanf(line, "%q %d %q", &what, &want, &request); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		request = fill.Replace(request)
		got := s.send(t, host, request)
		if len(got) != 1 || got[0] != want {
			t.Errorf("line %d: %s: %v, want %d", i+1, what, got, want)
		}
		if n := reached.Swap(0); n != 0 {
			t.Errorf("line %d: %s: %d requests reached the container", i+1, what, n)
		}
		if want == http.StatusMisdirectedRequest || want == http.StatusNotImplemented && strings.HasPrefix(request, "CONNECT") {
			continue // understood, and refused: the connection may go on
		}
		got = s.send(t, host, request+"GET /smuggled HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if n := reached.Swap(0); n != 0 || len(got) != 1 {
			t.Errorf("line %d: %s: answers %v, and %d requests reached the container", i+1, what, got, n)
		}
	}
	if rows < 60 {
		t.Errorf("only %d rows", rows)
	}
}

// TestAmbiguous: what is sound, though other servers stumble over it, reaches
// the container in one reading only.
func TestAmbiguous(t *testing.T) {
	type seen struct {
		method, uri, body string
		te                []string
	}
	arrived := make(chan seen, 10)
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			arrived <- seen{r.Method, r.RequestURI, string(body), r.TransferEncoding}
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	for _, row := range []struct{ what, request, want string }{
		{"chunked wins over a length, which is removed", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", `{POST /a hello [chunked]}`},
		{"the same length twice", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", `{POST /a hello []}`},
		{"chunk extensions are dropped", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", `{POST /a hello [chunked]}`},
		{"a chunk too long", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloGET /smuggled HTTP/1.1\r\n\r\n", ""},
		{"a chunk size of 17 digits", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", ""},
		{"a chunk size with a sign", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", ""},
		{"a chunk size with a prefix", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", ""},
		{"a chunk ended by LF", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", ""},
		{"a body that is cut off", "POST /a HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 50\r\n\r\nhello", ""},
		{"version 1.2 is read as 1.1", "GET /a HTTP/1.2\r\nHost: " + host + "\r\n\r\n", `{GET /a  []}`},
		{"a body on GET", "GET /a HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 5\r\n\r\nhello", `{GET /a hello []}`},
	} {
		s.send(t, host, row.request)
		got := ""
		select {
		case r := <-arrived:
			got = fmt.Sprint(r)
		case <-time.After(50 * time.Millisecond):
		}
		if got != row.want {
			t.Errorf("%s: %s arrives, want %s", row.what, got, row.want)
		}
	}
	close(arrived)
	for r := range arrived {
		t.Errorf("%v arrives as well", r)
	}
}
