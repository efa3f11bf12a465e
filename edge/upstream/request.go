// Package upstream writes requests of HTTP/1.1 to containers.
//
// A [Request] is a value that says what follows its head. Both the head and what
// is sent behind it derive from that one value, so that no caller can make them
// disagree: a head without framing has nothing behind it, a length is followed
// by as many bytes, and chunks end with the trailers that the head declared.
package upstream

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ErrInvalid is the error of a request that cannot be written as HTTP/1.1
// without another one being read in it.
var ErrInvalid = errors.New("the request cannot be written as HTTP/1.1")

// Content says what follows the head of a request. Its zero value is nothing,
// without a word about it.
type Content struct {
	kind     kind
	length   int64    // of a sized one
	trailers []string // of a chunked one
	key      string   // of an upgrade, may be empty
}

type kind uint8

const (
	none kind = iota
	sized
	chunked
	upgrade
)

// Sized is content of a length, which may be 0 (RFC 9112, section 6.2). A
// negative one is that of [Chunked] content.
func Sized(length int64) Content {
	if length < 0 {
		return Chunked(nil)
	}
	return Content{kind: sized, length: length}
}

// Chunked is content of any length, with trailers of these names behind it (RFC
// 9112, section 7.1). Those that [ForbiddenTrailer] names are left out.
func Chunked(trailers []string) Content {
	c := Content{kind: chunked}
	for _, name := range trailers {
		if httpguts.ValidHeaderFieldName(name) && !ForbiddenTrailer(name) {
			c.trailers = append(c.trailers, name)
		}
	}
	return c
}

// WebSocket is no content, but the handshake of a WebSocket (RFC 6455, section
// 4.1). A key that is not empty is written as the nonce of the handshake.
func WebSocket(key string) Content { return Content{kind: upgrade, key: key} }

// Length is the length of the content, -1 if it is chunked.
func (c *Content) Length() int64 {
	if c.kind == chunked {
		return -1
	}
	return c.length
}

// Empty says that nothing can follow the head.
func (c *Content) Empty() bool { return c.kind != chunked && c.length == 0 }

// Trailers are the names of the fields that may follow the content.
func (c *Content) Trailers() []string { return c.trailers }

// Request is one request. Its zero value cannot be written. It may be written
// more than once; its content can be sent only once, since that is read.
type Request struct {
	method, target, host string
	content              Content
}

// New makes a request. The target is written byte for byte. A WebSocket is asked
// for with GET (RFC 6455, section 4.1); with another method the request cannot be
// written, and neither can CONNECT be, which is not for applications.
func New(method, target, host string, content Content) Request {
	return Request{method, target, host, content}
}

// Content is what follows the head.
func (r *Request) Content() *Content { return &r.content }

// Head is the head of a request while it is written.
type Head struct {
	b       []byte
	invalid bool
	content *Content
}

// Head begins to append the head of the request to b: the request line and Host
// (RFC 9112, sections 3 and 5).
func (r *Request) Head(b []byte) Head {
	h := Head{content: &r.content}
	h.invalid = !httpguts.ValidHeaderFieldName(r.method) || r.method == http.MethodConnect || !printable(r.target) || !printable(r.host) ||
		r.target == "" || r.content.kind == upgrade && r.method != http.MethodGet
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.host...)
	h.b = append(b, "\r\n"...)
	return h
}

// Field appends a field. One that [Framing] names makes the request invalid:
// those are written by Done alone.
func (h *Head) Field(name, value string) {
	h.invalid = h.invalid || !validField(name, value) || Framing(name)
	h.b = appendField(h.b, name, value)
}

// Done appends what frames the content, and the end of the head. Its error is
// [ErrInvalid].
func (h *Head) Done() ([]byte, error) {
	b := h.b
	switch c := h.content; c.kind {
	case none:
	case sized:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, c.length, 10)
		b = append(b, "\r\n"...)
	case chunked:
		b = appendField(b, "Transfer-Encoding", "chunked")
		for _, name := range c.trailers {
			b = appendField(b, "Trailer", name)
		}
	case upgrade:
		b = append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
		if c.key != "" {
			h.invalid = h.invalid || !validField("Sec-Websocket-Key", c.key)
			b = appendField(b, "Sec-Websocket-Key", c.key)
		}
	}
	if h.invalid {
		return b, ErrInvalid
	}
	return append(b, "\r\n"...), nil
}

// Framing says that a field, in any spelling of its name, is written by [Head]
// itself: it decides where the request goes and where it ends.
func Framing(name string) bool {
	switch len(name) {
	case len("Host"):
		return strings.EqualFold(name, "Host")
	case len("Upgrade"): // as long as Trailer
		return strings.EqualFold(name, "Upgrade") || strings.EqualFold(name, "Trailer")
	case len("Connection"):
		return strings.EqualFold(name, "Connection")
	case len("Content-Length"):
		return strings.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
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
