package edge

import (
	"net/http"
	"slices"

	"swage/edge/upstream"
)

// answerTrailers are the names of trailers that an answer announces and that may
// be passed on, in order.
func answerTrailers(announced http.Header) (names []string) {
	for name := range announced {
		if !upstream.ForbiddenTrailer(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// passTrailers passes on the trailers of an answer, which are known at its end.
//
// Of HTTP/1.1 those that the answer announced. A sender should announce them
// (RFC 9110, section 6.6.2), a recipient may discard any (RFC 9112, section
// 7.1.2), and what nobody announced is what an attacker appends to a body.
//
// Of gRPC all: the protocol itself says that its status stands there, and its
// servers announce neither that nor the metadata of applications.
func (x *exchange) passTrailers(trailer http.Header, announced []string, grpc bool) {
	// Once a part was sent, the server sends the rest in chunks, which alone have
	// trailers.
	_ = x.FlushError()
	h := x.w.Header()
	for name, values := range trailer {
		_, said := slices.BinarySearch(announced, name)
		switch {
		case said:
			h[name] = values
		case grpc && !upstream.ForbiddenTrailer(name):
			h[http.TrailerPrefix+name] = values
		}
	}
}
