package edge

import (
	"strings"
	"testing"
)

// smuggled is a request that no permission was asked about.
const smuggled = "DELETE /ok/smuggled HTTP/1.1\r\nHost: evil\r\nSwage-Level: delete\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"

// TestS1HandshakeWithContent: a handshake of a WebSocket that announces content
// is 400, however it is framed, and nothing of it reaches an application that
// ignores Upgrade. What follows a sound handshake is a request of its own, or
// the stream of the tunnel if there is one.
func TestS1HandshakeWithContent(t *testing.T) {
	rec := record(t)
	s := serve(t, mustCompile(t, at(rec.addr.Addr(), nil)))
	host := strings.TrimPrefix(origin(rec.addr.Port()), "https://")
	const handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, row := range []struct{ what, head, body string }{
		{"a length", "Content-Length: 91\r\n", smuggled},
		{"a length and Expect", "Content-Length: 91\r\nExpect: 100-continue\r\n", smuggled},
		{"the same length twice", "Content-Length: 91\r\nContent-Length: 91\r\n", smuggled},
		{"chunks", "Transfer-Encoding: chunked\r\n", "5b\r\n" + smuggled + "\r\n0\r\n\r\n"},
		{"no chunk at all", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"},
		{"chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 91\r\n", "5b\r\n" + smuggled + "\r\n0\r\n\r\n"},
		{"chunks and a trailer", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "0\r\nX-Sum: 1\r\n\r\n"},
	} {
		for _, path := range []string{"/ok", "/accept", "/early", "/refuse"} {
			got := s.send(t, host, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+handshake+row.head+"\r\n"+row.body)
			if len(got) != 1 || got[0] != 400 {
				t.Errorf("%s, %s: answers %v, want 400", row.what, path, got)
			}
		}
	}
	for version := 2; version <= 3; version++ {
		for _, fields := range []string{"content-length: 91", "content-length: 0", "trailer: x-sum"} {
			var c framed = s.dialH2(t, host)
			if version == 3 {
				c = s.dialH3(t, host)
			}
			body := smuggled
			if fields == "content-length: 0" {
				body = ""
			}
			got, err := c.exchange(message{fields: parseFields(":method: CONNECT | :protocol: websocket | :scheme: https | :authority: " + host +
				" | :path: /accept | sec-websocket-version: 13 | " + fields), body: body})
			if got != "400" || err != nil {
				t.Errorf("HTTP/%d, %s: %q, %v, want 400", version, fields, got, err)
			}
		}
	}
	rec.end(t, s)
	if all, broken := rec.requests(); len(all)+len(broken) > 0 {
		t.Errorf("%d requests reach the application: %+v %q", len(all), all, broken)
	}
}

// TestS1HandshakeRefused: of a handshake that the application refuses, early or
// late or by ignoring it, it gets the head and nothing else; and its connection
// serves nobody else.
func TestS1HandshakeRefused(t *testing.T) {
	rec := record(t)
	s := serve(t, mustCompile(t, at(rec.addr.Addr(), only("127.0.0.1"))))
	host := strings.TrimPrefix(origin(rec.addr.Port()), "https://")
	for _, path := range []string{"/ok", "/early", "/refuse", "/close"} {
		got := s.send(t, host, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+smuggled)
		if len(got) != 2 || got[1] != 421 {
			t.Errorf("%s: answers %v: what follows is to be decided by itself", path, got)
		}
		for version := 2; version <= 3; version++ {
			var c framed = s.dialH2(t, host)
			if version == 3 {
				c = s.dialH3(t, host)
			}
			got, err := c.exchange(message{fields: parseFields(":method: CONNECT | :protocol: websocket | :scheme: https | :authority: " + host +
				" | :path: " + path + " | sec-websocket-version: 13"), body: smuggled})
			if want := map[string]string{"/refuse": "403"}[path]; err != nil || got != want && (want != "" || got != "502") {
				t.Errorf("HTTP/%d, %s: %q, %v", version, path, got, err)
			}
		}
	}
	rec.end(t, s)
	all, broken := rec.requests()
	if len(all) != 12 || len(broken) > 0 {
		t.Errorf("%d requests reach the application, want 12: %+v %q", len(all), all, broken)
	}
	for _, r := range all {
		if r.cut || r.chunked || r.body != "" || r.field("Upgrade") != "websocket" || r.field("Content-Length") != "" {
			t.Errorf("the handshake arrives as %+v", r)
		}
	}
	if n := len(rec.streams); n != 12 {
		t.Errorf("%d connections for 12 handshakes", n)
	}
}
