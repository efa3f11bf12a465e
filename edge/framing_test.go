package edge

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// framingRow is a line of testdata/framing.txt.
type framingRow struct {
	line     int
	what     string
	versions string
	answers  string // what the client gets; "+" where the next request is served
	arrives  string
	sent     string // of HTTP/1.1 bytes, otherwise fields
	body     string
	trailers string
}

func framingRows(t *testing.T) (rows []framingRow) {
	t.Helper()
	text, err := os.ReadFile("testdata/framing.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		columns, err := splitQuoted(line)
		if err != nil || len(columns) < 5 || len(columns) > 7 {
			t.Fatalf("line %d: %d columns, %v", i+1, len(columns), err)
		}
		columns = append(columns, "", "")
		rows = append(rows, framingRow{i + 1, columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], columns[6]})
	}
	return rows
}

// TestFramingTable sends every row of testdata/framing.txt, and then compares
// what the application was sent, over all of its connections and to the last
// byte, with what the rows say may arrive.
func TestFramingTable(t *testing.T) {
	rec := record(t)
	s := serve(t, mustCompile(t, at(rec.addr.Addr(), nil)))
	host := strings.TrimPrefix(origin(rec.addr.Port()), "https://")
	rows := framingRows(t)
	want, next := map[string]framingRow{}, map[string]bool{}
	sent := 0
	over := map[rune]framed{'2': s.dialH2(t, host), '3': s.dialH3(t, host)} // all of a version's
	for _, row := range rows {
		for _, version := range row.versions {
			sent++
			name := fmt.Sprintf("%d-%c", row.line, version)
			want[name] = row
			fill := strings.NewReplacer("{host}", host, "{row}", name, "{70000}", strings.Repeat("x", 70_000), "{300}", strings.Repeat("x-a: b | ", 300), "{33}", strings.Repeat("a,", 33),
				"{handshake}", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
				"{get}", framedHead("GET", host, name), "{post}", framedHead("POST", host, name),
				"{connect}", ":method: CONNECT | :protocol: websocket | :scheme: https | :authority: "+host)
			answers, more := strings.CutSuffix(row.answers, " +")
			next[name] = more
			var got string
			if version == '1' {
				got = s.sendFramed(t, host, name, fill.Replace(row.sent), more)
			} else {
				got = sendFrames(t, over[version], host, name, message{parseFields(strings.TrimSuffix(fill.Replace(row.sent), " | ")), fill.Replace(row.body), parseFields(fill.Replace(row.trailers))}, more)
			}
			if !slices.Contains(strings.Split(answers, "/"), got) {
				t.Errorf("line %d, HTTP/%c, %s: the client gets %q, want %q", row.line, version, row.what, got, answers)
			}
		}
	}
	rec.end(t, s)
	all, broken := rec.requests()
	for _, b := range broken {
		t.Errorf("no request: %s", b)
	}
	arrived := map[string][]string{}
	for _, r := range all {
		name, problem := r.name(host)
		if problem != "" {
			t.Errorf("%+v: %s", r, problem)
		}
		row, known := want[name]
		follows := strings.HasSuffix(r.target(), "/next")
		text, expected := r.String(), strings.ReplaceAll(row.arrives, "{row}", name)
		switch {
		case !known:
			t.Errorf("nobody sent %s", text)
		case follows && !next[name]:
			t.Errorf("line %d, HTTP/%c, %s: the next request reached the application, too", row.line, name[len(name)-1], row.what)
		case follows:
			delete(next, name)
		default:
			// What is broken off is a part of what was decided.
			whole, mayBreak := strings.CutPrefix(strings.TrimPrefix(expected, "?"), "~")
			whole, _, _ = strings.Cut(whole, " && ")
			if part, cut := strings.CutSuffix(text, " (cut)"); cut && mayBreak && strings.HasPrefix(whole, part) {
				text = whole
			}
			arrived[name] = append(arrived[name], text)
		}
	}
	for name, row := range want {
		got := strings.Join(arrived[name], " && ")
		expected, mayLack := strings.CutPrefix(strings.ReplaceAll(row.arrives, "{row}", name), "?")
		if expected = strings.TrimPrefix(expected, "~"); got != expected && !(mayLack && got == "") {
			t.Errorf("line %d, HTTP/%c, %s:\narrives %s\nwant    %s", row.line, name[len(name)-1], row.what, strconv.Quote(got), strconv.Quote(expected))
		}
		if next[name] {
			t.Errorf("line %d, HTTP/%c, %s: the next request did not reach the application", row.line, name[len(name)-1], row.what)
		}
	}
	if sent < 150 {
		t.Errorf("only %d requests", sent)
	}
}

func framedHead(method, host, name string) string {
	return ":method: " + method + " | :scheme: https | :authority: " + host + " | :path: /ok/" + name
}

// sendFramed sends bytes and tells the statuses of the answers until the edge
// closes. {wait} in them stands for the wait for an answer, {cut} for the end
// of what the client says. Unless they do so themselves, a request follows that
// asks the edge to close.
func (s *server) sendFramed(t *testing.T, host, name, request string, more bool) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	method, _, _ := strings.Cut(request, " ")
	var statuses []string
	in := bufio.NewReader(conn)
	read := func() bool {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			if err != io.ErrUnexpectedEOF {
				t.Errorf("%s: %v after %v", name, err, statuses)
			}
			return false
		}
		if res.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.Copy(io.Discard, res.Body)
		}
		if res.StatusCode >= http.StatusOK {
			method = http.MethodGet
		}
		statuses = append(statuses, strconv.Itoa(res.StatusCode))
		return true
	}
	request, cut := strings.CutSuffix(request, "{cut}")
	parts := strings.Split(request, "{wait}")
	if !cut && !strings.Contains(request, "/accept/") {
		parts[len(parts)-1] += "GET /ok/" + name + "/next HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
	}
	for i, part := range parts {
		_, _ = io.WriteString(conn, part)
		if i < len(parts)-1 && !read() {
			break
		}
	}
	if cut {
		_ = conn.CloseWrite()
	}
	for {
		if slices.Contains(statuses, "101") {
			_, _ = io.Copy(io.Discard, in)
			break
		}
		if _, err := in.Peek(1); err != nil || !read() {
			break
		}
	}
	if more {
		last := len(statuses) - 1
		if last < 0 || statuses[last] != "200" {
			return strings.Join(statuses, " ") + " and the next is not served"
		}
		statuses = statuses[:last]
	}
	return strings.Join(statuses, " ")
}

// sendFrames does the same over HTTP/2 or HTTP/3.
func sendFrames(t *testing.T, c framed, host, name string, m message, more bool) string {
	t.Helper()
	got, err := c.exchange(m)
	if err != nil {
		t.Errorf("%s: %q, %v", name, got, err)
	}
	if !more {
		return got
	}
	if after, err := c.exchange(message{fields: parseFields(framedHead("GET", host, name+"/next"))}); after != "200" || err != nil {
		t.Errorf("%s: the next request: %q, %v", name, after, err)
	}
	return got
}

// name is the row that a request belongs to. It tells what is wrong with those
// fields that are the edge's own.
func (s *said) name(host string) (name, problem string) {
	parts := strings.Split(s.target(), "/")
	if len(parts) < 3 {
		return "", "it has no name"
	}
	name, _, _ = strings.Cut(parts[2], "?")
	own := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": host, "Host": host, "Forwarded": `for=127.0.0.1;host="` + host + `";proto=https`}
	for field, value := range own {
		if n := s.count(field); n != 1 || s.field(field) != value {
			return name, fmt.Sprintf("%d times %s, %q", n, field, s.field(field))
		}
	}
	if keys := s.count("Sec-Websocket-Key"); s.field("Upgrade") != "" && keys != 1 {
		return name, fmt.Sprintf("%d keys", keys)
	}
	if id := s.field("X-Request-Id"); len(id) != 16 {
		return name, "its id is " + id
	}
	return name, ""
}

func (s *said) count(field string) (n int) {
	for _, f := range s.fields {
		if name, _, _ := strings.Cut(f, ": "); strings.EqualFold(name, field) {
			n++
		}
	}
	return n
}

// String is the request without what the edge adds to each, its fields in order:
// "GET /ok HTTP/1.1 | X-A: b || content || X-Trailer: c >> tunnel".
func (s *said) String() string {
	fields := slices.DeleteFunc(slices.Clone(s.fields), func(f string) bool {
		name, _, _ := strings.Cut(f, ": ")
		switch name {
		case "Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-Id", "Sec-Websocket-Key":
			return true
		}
		return false
	})
	slices.Sort(fields)
	out := strings.Join(append([]string{s.line}, fields...), " | ")
	if s.body != "" || len(s.trailers) > 0 {
		out += " || " + s.body
	}
	if len(s.trailers) > 0 {
		out += " || " + strings.Join(s.trailers, " | ")
	}
	if s.upgraded {
		out += " >> " + s.tunnel
	}
	if s.cut {
		out += " (cut)"
	}
	return out
}
