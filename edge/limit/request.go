package limit

import (
	"context"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

type connKey struct{}

// With returns a context that says which connection a request came over.
func (e *Conn) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, connKey{}, e)
}

// OfContext is the connection that [Conn.With] noted, nil if there is none.
func OfContext(ctx context.Context) *Conn {
	e, _ := ctx.Value(connKey{}).(*Conn)
	return e
}

// OfRequest is the connection that a request came over.
func OfRequest(r *http.Request) *Conn { return OfContext(r.Context()) }

// ClientOf is a request's client as the socket has it. Headers never count.
func ClientOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // belongs to no group
	}
	return ap.Addr().Unmap().WithZone("")
}

// RetryAfter is the value of that header (RFC 9110, section 10.2.3).
func RetryAfter(wait time.Duration) string {
	return strconv.Itoa(int(math.Ceil(wait.Seconds())))
}
