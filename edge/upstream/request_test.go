package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// written is the head of a request and what Send writes behind it.
func written(r *Request, body io.Reader, trailers http.Header) (b []byte, head, read, write error) {
	h := r.Head(nil)
	h.Field("X-A", "b")
	b, head = h.Done()
	var sent bytes.Buffer
	read, write = r.Send(&sent, body, func() http.Header { return trailers }, new(Buffer), func() {})
	return append(b, sent.Bytes()...), head, read, write
}

// TestContent: whatever a body holds, no more is written than its head says, and
// where less is written an error says so.
func TestContent(t *testing.T) {
	const body = "GET /b HTTP/1.1\r\nHost: c\r\n\r\n" // 28 bytes
	for _, row := range []struct {
		what    string
		method  string
		content Content
		want    string // behind the request line, Host and X-A
		err     error
	}{
		{"nothing", "GET", Content{}, "\r\n", nil},
		{"a length of 0", "DELETE", Sized(0), "Content-Length: 0\r\n\r\n", nil},
		{"as long as announced", "POST", Sized(28), "Content-Length: 28\r\n\r\n" + body, nil},
		{"longer than announced", "POST", Sized(27), "Content-Length: 27\r\n\r\n", ErrTooLong},
		{"shorter than announced", "POST", Sized(29), "Content-Length: 29\r\n\r\n" + body, io.ErrUnexpectedEOF},
		{"no length", "POST", Sized(-1), "Transfer-Encoding: chunked\r\n\r\n001c\r\n" + body + "\r\n0\r\n\r\n", nil},
		{"trailers", "POST", Chunked([]string{"X-Sum", "Host", "X Y", "X-Gone"}), "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nTrailer: X-Gone\r\n\r\n001c\r\n" + body + "\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n", nil},
		{"a handshake", "GET", WebSocket(""), "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", nil},
		{"a handshake with a key", "GET", WebSocket("a"), "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Key: a\r\n\r\n", nil},
	} {
		r := New(row.method, "/a", "h", row.content)
		got, head, read, write := written(&r, strings.NewReader(body), http.Header{"X-Sum": {"1", "2", "a\r\nb"}, "X-Other": {"3"}, "Host": {"evil"}})
		want := row.method + " /a HTTP/1.1\r\nHost: h\r\nX-A: b\r\n" + row.want
		if string(got) != want || head != nil || write != nil || !errors.Is(read, row.err) || (read == nil) != (row.err == nil) {
			t.Errorf("%s: %q, %v, %v, %v; want %q, %v", row.what, got, head, read, write, want, row.err)
		}
	}
}

// TestInvalid: what would be read as another request, or framed by anybody else,
// is none.
func TestInvalid(t *testing.T) {
	for _, r := range []Request{
		{},
		New("", "/", "h", Content{}), New("GET ", "/", "h", Content{}), New("GET", "", "h", Content{}), New("GET", "/ a", "h", Content{}),
		New("GET", "/\r\n", "h", Content{}), New("GET", "/", "h\r\nA: b", Content{}), New("GET", "/", "h i", Content{}),
		New("CONNECT", "/", "h", Content{}), New("POST", "/", "h", WebSocket("")), New("GET", "/", "h", WebSocket("a\r\nb")),
	} {
		h := r.Head(nil)
		if _, err := h.Done(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, name := range []string{"Host", "content-length", "Transfer-Encoding", "TRANSFER-ENCODING", "connection", "Upgrade", "trailer", "A b", "", "A:"} {
		r := New("GET", "/", "h", Content{})
		h := r.Head(nil)
		h.Field(name, "5")
		if _, err := h.Done(); !errors.Is(err, ErrInvalid) {
			t.Errorf("the field %q: %v", name, err)
		}
	}
}

// TestBrokenWriter: an error of the writer is told as such, and nothing more is
// read.
func TestBrokenWriter(t *testing.T) {
	broken := errors.New("broken")
	r := New("POST", "/", "h", Sized(-1))
	read, write := r.Send(writer(func([]byte) (int, error) { return 0, broken }), strings.NewReader("a"), func() http.Header { return nil }, new(Buffer), func() {})
	if read != nil || write != broken {
		t.Errorf("%v, %v", read, write)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// TestForbiddenTrailers in many spellings, and those that are not.
func TestForbiddenTrailers(t *testing.T) {
	for _, name := range strings.Fields(`Host host Transfer-Encoding transfer_encoding Content-Length Content.Length Connection Upgrade Trailer TE Authorization
		Proxy-Authorization Cookie Set-Cookie Www-Authenticate X-HTTP-Method-Override X_Http.Method-Override x-method-override Destination If If-Match Range
		Content-Type Content-Encoding Content-Range Expect Location Sec-WebSocket-Key Access-Control-Allow-Origin Strict-Transport-Security Cache-Control`) {
		if !ForbiddenTrailer(name) {
			t.Errorf("%s may follow", name)
		}
	}
	for _, name := range strings.Fields("X-Sum Grpc-Status Grpc-Message Grpc-Status-Details-Bin Etag Digest Repr-Digest Content-Digest Content-Md5 Server-Timing X-Request-Cost") {
		if ForbiddenTrailer(name) {
			t.Errorf("%s may not follow", name)
		}
	}
}

// FuzzRequest: what is written is read as this request and nothing else, or
// there is an error.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a", "h", "X-A", "b", int8(0), int64(0), "", "X-Sum", "1")
	f.Add("POST", "/a b", "h\r\n", "Host", "b", int8(1), int64(5), "hello", "Host", "1")
	f.Add("PUT", "*", "h:1", "x-a", "b\r\n", int8(2), int64(0), "hello", "X-Sum", "a\r\n")
	f.Add("GET", "/", "h", "Upgrade", "h2c", int8(3), int64(0), "hello", "Te", "")
	f.Fuzz(func(t *testing.T, method, target, host, name, value string, kind int8, length int64, body, trailer, sum string) {
		content := Content{}
		switch kind & 3 {
		case 1:
			content = Sized(length)
		case 2:
			content = Chunked([]string{trailer})
		case 3:
			content = WebSocket(value)
		}
		r := New(method, target, host, content)
		h := r.Head(nil)
		h.Field(name, value)
		b, err := h.Done()
		if err != nil {
			return
		}
		var sent bytes.Buffer
		read, _ := r.Send(&sent, strings.NewReader(body), func() http.Header { return http.Header{trailer: {sum}} }, new(Buffer), func() {})
		if content.Empty() && sent.Len() > 0 {
			t.Fatalf("%q follows a head without content", sent.Bytes())
		}
		in := bufio.NewReader(bytes.NewReader(append(b, sent.Bytes()...)))
		got, err := http.ReadRequest(in)
		if err != nil {
			return // of a server that is as strict as Go's
		}
		if got.Method != method || got.RequestURI != target || !slices.Contains(got.Header[http.CanonicalHeaderKey(name)], strings.Trim(value, " \t")) && http.CanonicalHeaderKey(name) != "Pragma" {
			t.Errorf("%q is read as %+v", b, got)
		}
		all, err := io.ReadAll(got.Body)
		if read == nil && (err != nil || !content.Empty() && string(all) != body || content.Empty() && len(all) > 0) {
			t.Errorf("%q: content %q, %v", b, all, err)
		}
		if rest, _ := io.ReadAll(in); read == nil && len(rest) > 0 {
			t.Errorf("%q follows", rest)
		}
	})
}
