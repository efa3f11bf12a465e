package limit

import (
	"crypto/tls"
	"net"
	"net/http"
)

// What a connection speaks, as its Conn keeps it.
const (
	speaksHTTP1 = 1 + iota
	speaksHTTP2
)

// ConnState tells of a connection of [Conns.Listen] whether it carries a request;
// it is an http.Server's ConnState, and goes with [WhileBusy]. Over HTTP/2 the
// server knows. Over HTTP/1.1 it calls a connection active from the first byte
// on, which is not a request yet: that begins with its handler, and ends here,
// once the answer is sent.
func ConnState(conn net.Conn, s http.ConnState) {
	over, secured := conn.(*tls.Conn)
	if secured {
		conn = over.NetConn()
	}
	e := Of(conn)
	switch {
	case e == nil:
	case s == http.StateActive:
		if e.speaks.Load() == 0 {
			e.speaks.Store(speaksHTTP1)
			if secured && over.ConnectionState().NegotiatedProtocol == "h2" {
				e.speaks.Store(speaksHTTP2)
			}
		}
		if e.speaks.Load() == speaksHTTP2 {
			e.Busy()
		}
	case s == http.StateIdle:
		e.Idle()
	}
}

// WhileBusy keeps a connection open while next serves a request that came over
// it: the one that [Conn.With] noted. It breaks off a request whose connection
// is being closed for another: nobody has seen it, and the client may send it
// again (RFC 9110, section 9.2.2).
func WhileBusy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := OfRequest(r)
		switch r.ProtoMajor {
		case 1:
			if !e.Busy() {
				panic(http.ErrAbortHandler)
			}
		case 3:
			if !e.Enter() {
				panic(http.ErrAbortHandler)
			}
			defer e.Leave()
		}
		next.ServeHTTP(w, r)
	})
}
