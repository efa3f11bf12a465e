package edge

import (
	"bytes"
	"io"
	"net/http"
	"sync"

	"swage/edge/upstream"
)

// prepare decides what the container gets behind the head of the request: one
// value, from which the head and what follows it are both written.
func (x *exchange) prepare(key string) {
	declared := x.declaredTrailers() // before a body is read, which may add others
	if x.r.Body != nil && x.r.Body != http.NoBody && x.r.ContentLength != 0 && x.kind != aTunnel {
		x.body = &pacedBody{ReadCloser: x.r.Body, x: x}
		if x.r.ContentLength < 0 && !expectsBody(x.r.Method) && len(x.r.Header["Expect"]) == 0 {
			// In HTTP/3 nothing but the end of the stream tells that there is
			// none, and to have an empty one is another thing to many servers.
			// It is not waited for where a conversation may begin with an answer.
			var first [1]byte
			n, err := x.body.Read(first[:])
			if n == 0 && err == io.EOF {
				x.body = nil
			} else {
				x.body = io.MultiReader(bytes.NewReader(first[:n]), x.body)
			}
		}
	}
	var content upstream.Content
	switch {
	case x.kind == aTunnel:
		content = upstream.WebSocket(key)
	case x.body == nil:
		if x.r.ContentLength == 0 && len(x.r.Header["Content-Length"]) > 0 || expectsBody(x.r.Method) {
			content = upstream.Sized(0)
		}
	case len(declared) > 0: // nothing can follow a body of known length
		content = upstream.Chunked(declared)
	default:
		content = upstream.Sized(x.r.ContentLength)
	}
	x.out = upstream.New(x.request.Method, x.target(), x.r.Host, content)
}

// declaredTrailers are the trailers that may be passed on: those that the client
// announced, less what the edge alone may say and credentials.
func (x *exchange) declaredTrailers() (names []string) {
	for name := range x.r.Trailer {
		if !isForged(name) && !tellsURL(name) && len(x.evidence.spent.field(name, dummy)) > 0 && !upstream.ForbiddenTrailer(name) {
			names = append(names, name)
		}
	}
	return names
}

// dummy is any value of a field.
var dummy = []string{""}

// expectsBody names the methods whose requests say so when they have no body
// (RFC 9110, section 8.6).
func expectsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
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
var errUnsound = upstream.ErrInvalid

// appendHead appends the head of the request as the container gets it.
func (x *exchange) appendHead(b []byte) ([]byte, error) {
	head := x.out.Head(b)
	x.fields(head.Field)
	return head.Done()
}
