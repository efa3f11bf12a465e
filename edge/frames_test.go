package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// field is one of a request, as it is sent.
type field struct{ name, value string }

// parseFields reads "name: value | name: value". A name may begin with a colon,
// and hold others.
func parseFields(s string) (fields []field) {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, " | ") {
		i := strings.Index(part, ": ")
		fields = append(fields, field{part[:i], part[i+2:]})
	}
	return fields
}

// message is a request in frames: fields, body and trailers, of which the last
// two may be missing.
type message struct {
	fields   []field
	body     string
	trailers []field
}

// framed sends messages over one connection, and tells for each the status or
// the error of its stream.
type framed interface {
	exchange(message) (string, error)
}

// framedH2 writes frames that no client would.
type framedH2 struct {
	conn   *tls.Conn
	framer *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	last   uint32
}

func (s *server) dialH2(t *testing.T, host string) *framedH2 {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, http2.ClientPreface)
	f := &framedH2{conn: conn, framer: http2.NewFramer(conn, conn), last: 1}
	f.framer.AllowIllegalWrites = true
	f.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.block)
	if err := errors.Join(f.framer.WriteSettings(), f.framer.WriteSettingsAck()); err != nil {
		t.Fatal(err)
	}
	return f
}

// headers writes a block, in as many frames as it takes.
func (f *framedH2) headers(fields []field, end bool) error {
	f.block.Reset()
	for _, h := range fields {
		_ = f.enc.WriteField(hpack.HeaderField{Name: h.name, Value: h.value})
	}
	const most = 16 << 10
	first := f.block.Next(most)
	err := f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.last, BlockFragment: first, EndStream: end, EndHeaders: f.block.Len() == 0})
	for f.block.Len() > 0 && err == nil {
		next := f.block.Next(most)
		err = f.framer.WriteContinuation(f.last, f.block.Len() == 0, next)
	}
	return err
}

func (f *framedH2) exchange(m message) (string, error) {
	f.last += 2
	err := f.headers(m.fields, m.body == "" && m.trailers == nil)
	if err == nil && m.body != "" {
		err = f.framer.WriteData(f.last, m.trailers == nil, []byte(m.body))
	}
	if err == nil && m.trailers != nil {
		err = f.headers(m.trailers, true)
	}
	if err != nil {
		return "", err
	}
	_ = f.conn.SetReadDeadline(time.Now().Add(patience))
	status := ""
	for {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			return status, err
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			_, err := io.Copy(io.Discard, f.conn) // to its end
			return "!" + frame.ErrCode.String(), err
		case *http2.RSTStreamFrame:
			// After a whole answer this says only that the rest of the
			// request is not wanted.
			if frame.StreamID == f.last && (status == "" || frame.ErrCode != http2.ErrCodeNo) {
				return frame.ErrCode.String(), nil
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID != f.last {
				continue
			}
			if s := frame.PseudoValue("status"); s != "" && s[0] != '1' {
				status = s
			}
			if frame.StreamEnded() {
				return status, nil
			}
		case *http2.DataFrame:
			if frame.StreamID == f.last && frame.StreamEnded() {
				return status, nil
			}
		}
	}
}

// framedH3 does the same over QUIC.
type framedH3 struct{ conn *quic.Conn }

func (s *server) dialH3(t *testing.T, host string) *framedH3 {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, s.addr, &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{http3.NextProtoH3}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	control, err := conn.OpenUniStream()
	if err == nil {
		_, err = control.Write([]byte{0, 4, 0}) // a control stream with empty settings
	}
	if err != nil {
		t.Fatal(err)
	}
	return &framedH3{conn}
}

// Frames of HTTP/3 (RFC 9114, section 7.2).
const (
	h3Data    = 0
	h3Headers = 1
)

func appendH3(b []byte, kind uint64, payload []byte) []byte {
	b = quicvarint.Append(b, kind)
	b = quicvarint.Append(b, uint64(len(payload)))
	return append(b, payload...)
}

func packed(fields []field) []byte {
	var block bytes.Buffer
	enc := qpack.NewEncoder(&block)
	for _, h := range fields {
		_ = enc.WriteField(qpack.HeaderField{Name: h.name, Value: h.value})
	}
	return block.Bytes()
}

func (f *framedH3) exchange(m message) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := f.conn.OpenStreamSync(ctx)
	if err != nil {
		return "", err
	}
	_ = stream.SetDeadline(time.Now().Add(patience))
	out := appendH3(nil, h3Headers, packed(m.fields))
	if m.body != "" {
		out = appendH3(out, h3Data, []byte(m.body))
	}
	if m.trailers != nil {
		out = appendH3(out, h3Headers, packed(m.trailers))
	}
	_, _ = stream.Write(out) // what is refused early is seen when reading
	_ = stream.Close()
	status := ""
	for r := quicvarint.NewReader(stream); ; {
		var kind, n uint64
		if kind, err = quicvarint.Read(r); err == nil {
			n, err = quicvarint.Read(r)
		}
		payload := make([]byte, min(n, 1<<20))
		if err == nil {
			_, err = io.ReadFull(stream, payload)
		}
		var reset *quic.StreamError
		var closed *quic.ApplicationError
		switch {
		case errors.As(err, &reset):
			return http3.ErrCode(reset.ErrorCode).String(), nil
		case errors.As(err, &closed):
			return "!" + http3.ErrCode(closed.ErrorCode).String(), nil
		case errors.Is(err, io.EOF) && status != "":
			return status, nil
		case err != nil:
			return status, err
		case kind == h3Headers:
			for next := qpack.NewDecoder().Decode(payload); ; {
				h, err := next()
				if err != nil {
					break
				}
				if h.Name == ":status" && h.Value[0] != '1' {
					status = h.Value
				}
			}
		}
	}
}

// TestMalformedFrames: every line of testdata/frames.txt, over both versions. A
// sound request behind it on the same connection is answered.
func TestMalformedFrames(t *testing.T) {
	arrived := make(chan string, 1000)
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && r.URL.Path != "/sound" {
			arrived <- fmt.Sprintf("%s %s %s %q", r.Method, r.Host, r.RequestURI, body)
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	pseudo := func(method, path string) string {
		return ":method: " + method + " | :scheme: https | :authority: " + host + " | :path: " + path
	}
	fill := strings.NewReplacer("{host}", host, "{70000}", strings.Repeat("x", 70_000), "{get}", pseudo("GET", "/{row}"), "{post}", pseudo("POST", "/{row}"))
	follows := message{fields: parseFields(pseudo("GET", "/sound"))}
	dial := []func() framed{2: func() framed { return s.dialH2(t, host) }, 3: func() framed { return s.dialH3(t, host) }}

	text, err := os.ReadFile("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows, allowed := 0, map[string]bool{}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		rows++
		columns, err := splitQuoted(line)
		if err != nil || len(columns) < 4 {
			t.Fatalf("line %d: %d columns, %v", i+1, len(columns), err)
		}
		for version := 2; version <= 3; version++ {
			row := fmt.Sprintf("%d-%d", i+1, version)
			m := message{fields: parseFields(strings.ReplaceAll(fill.Replace(columns[3]), "{row}", row))}
			if len(columns) > 4 {
				m.body = fill.Replace(columns[4])
			}
			if len(columns) > 5 {
				m.trailers = parseFields(columns[5])
			}
			what := fmt.Sprintf("line %d: %s: HTTP/%d", i+1, columns[0], version)
			want, mayArrive := strings.CutPrefix(columns[version-1], "~")
			c := dial[version]()
			got, err := c.exchange(m)
			if err != nil || !slices.Contains(strings.Split(want, "/"), got) {
				t.Errorf("%s: %q, %v, want %q", what, got, err, want)
			}
			if !strings.HasPrefix(got, "!") {
				if got, err := c.exchange(follows); got != "200" || err != nil {
					t.Errorf("%s: the next request: %q, %v", what, got, err)
				}
			}
			if mayArrive {
				allowed[fmt.Sprintf("GET %s /%s %q", host, row, "")] = true
				allowed[fmt.Sprintf("POST %s /%s %q", host, row, "")] = true
				allowed[fmt.Sprintf("POST %s /%s %q", host, row, "hello")] = true
			}
		}
	}
	_ = s.stop()
	for len(arrived) > 0 {
		if r := <-arrived; !allowed[r] {
			t.Errorf("%s reached the container", r)
		} else {
			delete(allowed, r) // once
		}
	}
	if rows < 90 {
		t.Errorf("only %d rows", rows)
	}
}

// splitQuoted splits a line at spaces into words and Go strings.
func splitQuoted(line string) (columns []string, err error) {
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			columns, line = append(columns, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		s, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		columns, line = append(columns, s), line[len(quoted):]
	}
	return columns, nil
}

// TestFloodOfContinuations: fields without an end cost the edge no more than
// those that it would take (CVE-2023-45288).
func TestFloodOfContinuations(t *testing.T) {
	s := serve(t, mustCompile(t, Config{Zone: zone}))
	c := s.dialH2(t, "x."+zone)
	c.last += 2
	_ = c.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 4<<10)})
	part := bytes.Clone(c.block.Bytes())
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.last, BlockFragment: part})
	sent := 0
	for ; err == nil && sent < 64<<20; sent += len(part) {
		err = c.framer.WriteContinuation(c.last, false, part)
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes of fields are taken: %v", sent, err)
	}
}

// TestFloodOfResets: requests that are withdrawn at once do not pile up behind
// the edge (CVE-2023-44487).
func TestFloodOfResets(t *testing.T) {
	var running, most atomic.Int32
	app := backend(t, "127.0.1.1", func(_ http.ResponseWriter, r *http.Request) {
		n := running.Add(1)
		defer running.Add(-1)
		for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
		}
		<-r.Context().Done()
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	c := s.dialH2(t, host)
	go func() { _, _ = io.Copy(io.Discard, c.conn) }()
	request := parseFields(":method: GET | :scheme: https | :authority: " + host + " | :path: /")
	for range 20_000 {
		c.last += 2
		if errors.Join(c.headers(request, true), c.framer.WriteRSTStream(c.last, http2.ErrCodeCancel)) != nil {
			break // the edge has had enough
		}
	}
	if n := most.Load(); n > maxStreams {
		t.Errorf("%d requests of one connection run at the same time", n)
	}
}
