package edge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// prepare looks whether there is a body to pass on.
func (x *exchange) prepare() {
	if x.r.Body == nil || x.r.Body == http.NoBody || x.r.ContentLength == 0 || x.kind == aTunnel {
		return
	}
	x.body = &pacedBody{x.r.Body, x}
	if x.r.ContentLength < 0 && usuallyLacksBody(x.r.Method) {
		// In HTTP/3 nothing but the end of the stream tells that there is
		// none, and to have an empty one is another thing to many servers.
		var first [1]byte
		n, err := x.body.Read(first[:])
		if n == 0 && err == io.EOF {
			x.body = nil
			return
		}
		x.body = io.MultiReader(bytes.NewReader(first[:n]), x.body)
	}
}

// usuallyLacksBody names the methods of which a body would surprise.
func usuallyLacksBody(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace, "PROPFIND", "SEARCH":
		return true
	}
	return false
}

// target is where the container finds what is asked for: the path byte for byte
// as it came, or as the alias says.
func (x *exchange) target() string {
	path := x.decision.Route.Path
	if path == "" {
		path = x.decision.Route.Prefix + x.request.Path
	}
	if query := x.evidence.spent.query(x.r.URL.RawQuery); query != "" || x.r.URL.ForceQuery {
		path += "?" + query
	}
	return path
}

// place is where the request goes now.
func (x *exchange) place(http2 bool) place {
	to := place{x.decision.Route.ContainerID, x.source.target, x.source.client, "", http2}
	if x.decision.Route.TLS {
		var buf [maxHost]byte
		name, _ := normalise(&buf, x.r.Host)
		to.server = string(name)
	}
	return to
}

// heads lends what the head of a request is written into.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// errUnsound is a request that would not read the same for the container. None
// is known that the servers let through: it is the last line of defence.
var errUnsound = errors.New("the request cannot be written as HTTP/1.1")

// appendHead appends the request line and the header (RFC 9112, sections 3 and
// 5). A key is the edge's own, of a WebSocket whose
// client made none.
func (x *exchange) appendHead(b []byte, key string) ([]byte, error) {
	method, target := x.request.Method, x.target()
	if !httpguts.ValidHeaderFieldName(method) || !printable(target) || !printable(x.r.Host) {
		return nil, errUnsound
	}
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, x.r.Host...)
	b = append(b, "\r\n"...)
	sound := true
	field := func(name, value string) {
		sound = sound && validField(name, value)
		b = appendField(b, name, value)
	}
	x.fields(field)
	switch {
	case key != "":
		field("Connection", "Upgrade")
		field("Upgrade", "websocket")
		field("Sec-Websocket-Key", key)
	case x.kind == aTunnel:
		field("Connection", "Upgrade")
		field("Upgrade", x.r.Header["Upgrade"][0])
	case x.body == nil:
		if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
			field("Content-Length", "0") // RFC 9110, section 8.6
		}
	case x.bodyLength() >= 0:
		field("Content-Length", strconv.FormatInt(x.bodyLength(), 10))
	default:
		field("Transfer-Encoding", "chunked")
		for name := range x.r.Trailer {
			if !isForged(name) {
				field("Trailer", name)
			}
		}
	}
	if !sound {
		return nil, errUnsound
	}
	return append(b, "\r\n"...), nil
}

// bodyLength is -1 for a body that is sent in chunks. Nothing can follow a body
// of known length.
func (x *exchange) bodyLength() int64 {
	if len(x.r.Trailer) > 0 {
		return -1
	}
	return x.r.ContentLength
}

func validField(name, value string) bool {
	return httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// printable says that a part of a request line does not end it.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
