package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// recorder is an application that keeps every byte that it is sent, for each
// connection, and serves whatever it can read as a request in it. Whether it
// heeds Upgrade, Expect or a body depends on the first segment of the path:
//
//	/ok         answers 200 once the request is whole; ignores Upgrade
//	/early      answers 200 at the end of the head
//	/refuse     answers 403 at the end of the head
//	/accept     answers 101 and echoes what comes then, until its end
//	/continue   answers 100 at the end of the head, asked or not, and then 200
//	/reject     answers 417 at the end of the head
//	/close      answers 200 and closes the connection
//	/unasked    answers 101 though nobody asked
type recorder struct {
	addr netip.AddrPort

	mu      sync.Mutex
	streams []*recording
}

// recording is what came over one connection.
type recording struct {
	all    []byte
	tunnel int // where the stream of a tunnel begins; 0: nowhere
	from   string
	ended  bool
}

func record(t testing.TB) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{addr: netip.MustParseAddrPort(l.Addr().String())}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s := &recording{from: conn.RemoteAddr().String()}
			rec.mu.Lock()
			rec.streams = append(rec.streams, s)
			rec.mu.Unlock()
			go func() {
				defer conn.Close()
				rec.serve(conn, s)
				rec.mu.Lock()
				s.ended = true
				rec.mu.Unlock()
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return rec
}

// serve answers until the connection ends or its bytes are no request.
func (rec *recorder) serve(conn net.Conn, s *recording) {
	at := 0 // of s.all: where the next request begins
	answered, continued := false, false
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		rec.mu.Lock()
		s.all = append(s.all, buf[:n]...)
		rec.mu.Unlock()
		for s.tunnel == 0 {
			r, size, broken := readNaive(s.all[at:])
			if broken != nil {
				return // and so it is named by requests
			}
			if r.line == "" {
				break
			}
			mode, _, _ := strings.Cut(strings.TrimPrefix(r.target(), "/"), "/")
			whole := size > 0
			ok := "Content-Length: 2\r\n\r\nok"
			if strings.HasPrefix(r.line, "HEAD ") {
				ok = strings.TrimSuffix(ok, "ok")
			}
			say := func(answer string) {
				if !answered {
					_, _ = io.WriteString(conn, answer)
				}
				answered = true
			}
			switch mode {
			case "early":
				say("HTTP/1.1 200 OK\r\n" + ok)
			case "refuse":
				say("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			case "reject":
				say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
			case "unasked":
				say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			default:
				if expects := mode == "continue" || !whole && r.field("Expect") == "100-continue"; expects && !continued {
					_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
					continued = true
				}
			}
			if !whole {
				break
			}
			switch mode {
			case "accept":
				rec.mu.Lock()
				s.tunnel = at + size
				rec.mu.Unlock()
				say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + acceptKey(r.field("Sec-Websocket-Key")) + "\r\n\r\n")
				_, _ = conn.Write(s.all[s.tunnel:])
				n = 0
			case "close":
				say("HTTP/1.1 200 OK\r\nConnection: close\r\n" + ok)
				return
			default:
				say("HTTP/1.1 200 OK\r\n" + ok)
			}
			at, answered, continued = at+size, false, false
			if at == len(s.all) {
				break
			}
		}
		if s.tunnel > 0 {
			_, _ = conn.Write(buf[:n])
			if bytes.HasSuffix(s.all, []byte("bye")) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// end has a server end, and returns when every connection to the recorder has.
func (rec *recorder) end(t testing.TB, s *server) {
	t.Helper()
	_ = s.stop()
	s.Swap(nil)
	rec.settle(t)
}

// settle returns when all connections have ended that were opened before.
func (rec *recorder) settle(t testing.TB) {
	t.Helper()
	last, err := net.Dial("tcp", rec.addr.String()) // is accepted behind the others
	if err != nil {
		t.Fatal(err)
	}
	from := last.LocalAddr().String()
	last.Close()
	until(t, "a connection to the application outlives its requests", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		seen := slices.ContainsFunc(rec.streams, func(s *recording) bool { return s.from == from })
		return seen && !slices.ContainsFunc(rec.streams, func(s *recording) bool { return !s.ended })
	})
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.streams = slices.DeleteFunc(rec.streams, func(s *recording) bool { return s.from == from })
}

// requests are all that came so far, in the order of connections. What follows
// them on a connection and is no whole request is named as broken.
func (rec *recorder) requests() (all []said, broken []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, s := range rec.streams {
		rest := s.all
		if s.tunnel > 0 {
			rest = rest[:s.tunnel]
		}
		for len(rest) > 0 {
			r, n, err := readNaive(rest)
			if err != nil {
				broken = append(broken, fmt.Sprintf("%q: %v", rest, err))
				break
			}
			if n == 0 {
				r.cut = true
				if r.line == "" {
					broken = append(broken, fmt.Sprintf("%q: half a head", rest))
					break
				}
				n = len(rest)
			}
			if rest = rest[n:]; len(rest) == 0 && s.tunnel > 0 {
				r.tunnel, r.upgraded = string(s.all[s.tunnel:]), true
			}
			all = append(all, r)
		}
	}
	return all, broken
}

// said is a request as somebody reads it who knows no more of HTTP/1.1 than the
// grammar of RFC 9112.
type said struct {
	line     string
	fields   []string // "Name: value"
	chunked  bool
	body     string
	trailers []string
	cut      bool // the connection ended within the body

	upgraded bool
	tunnel   string // what followed
}

func (s *said) target() string { return strings.Split(s.line, " ")[1] }

// field is the only value of a field, or empty.
func (s *said) field(name string) (value string) {
	for _, f := range s.fields {
		if n, v, _ := strings.Cut(f, ": "); strings.EqualFold(n, name) {
			value = v
		}
	}
	return value
}

// readNaive reads the request that b begins with, and tells its size; 0 if b
// ends before it, and then no line if not even its head is there. It takes one
// spelling of each thing only, which is the edge's: another one is an error.
func readNaive(b []byte) (r said, size int, err error) {
	text := string(b)
	head, rest, found := strings.Cut(text, "\r\n\r\n")
	if !found {
		return r, 0, nil
	}
	lines := strings.Split(head, "\r\n")
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || !token(parts[0]) || parts[1] == "" || parts[2] != "HTTP/1.1" || strings.ContainsAny(lines[0], "\r\n\t\x00") {
		return r, 0, fmt.Errorf("the request line %q", lines[0])
	}
	r.line = lines[0]
	if r.fields, err = naiveFields(lines[1:]); err != nil {
		return said{}, 0, err
	}
	length, hosts := -1, 0
	for _, f := range r.fields {
		name, value, _ := strings.Cut(f, ": ")
		switch strings.ToLower(name) {
		case "host":
			hosts++
		case "content-length":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || length >= 0 || strconv.FormatUint(n, 10) != value {
				return said{}, 0, fmt.Errorf("the length %q", value)
			}
			length = int(n)
		case "transfer-encoding":
			if value != "chunked" || r.chunked {
				return said{}, 0, fmt.Errorf("the coding %q", value)
			}
			r.chunked = true
		}
	}
	if hosts != 1 || r.chunked && length >= 0 {
		return said{}, 0, errors.New("two hosts, none, or two framings")
	}
	if !r.chunked {
		length = max(length, 0)
		if r.body = rest[:min(length, len(rest))]; len(rest) < length {
			return r, 0, nil
		}
		return r, len(head) + len("\r\n\r\n") + length, nil
	}
	for {
		digits, after, found := strings.Cut(rest, "\r\n")
		if !found {
			return r, 0, nil
		}
		n, err := strconv.ParseUint(digits, 16, 31)
		if err != nil || strings.ContainsAny(digits, "+-_xX") {
			return said{}, 0, fmt.Errorf("the size %q of a chunk", digits)
		}
		if rest = after; n == 0 {
			break
		}
		r.body += rest[:min(int(n), len(rest))]
		if len(rest) < int(n)+len("\r\n") {
			return r, 0, nil
		}
		if rest = rest[n:]; rest[:2] != "\r\n" {
			return said{}, 0, fmt.Errorf("%q behind a chunk", rest[:2])
		}
		rest = rest[2:]
	}
	for {
		line, after, found := strings.Cut(rest, "\r\n")
		if !found {
			return r, 0, nil
		}
		if rest = after; line == "" {
			return r, len(text) - len(rest), nil
		}
		one, err := naiveFields([]string{line})
		if err != nil {
			return said{}, 0, err
		}
		r.trailers = append(r.trailers, one...)
	}
}

func naiveFields(lines []string) ([]string, error) {
	for _, line := range lines {
		name, value, found := strings.Cut(line, ": ")
		if !found || !token(name) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, fmt.Errorf("the field %q", line)
		}
	}
	return lines, nil
}

func token(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(s[i])) {
			return false
		}
	}
	return s != ""
}
