package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"swage/edge/limit"
	"swage/edge/upstream"
)

// exchange is one request and the answer to it. It is the ResponseWriter that
// the container's answer goes through.
type exchange struct {
	id      uint64 // random
	begun   time.Time
	w       http.ResponseWriter
	r       *http.Request
	link    *link // nil over HTTP/3
	request Request

	// Set by Proxy.admit: what the request proves, and how long to wait until
	// anything is looked at again.
	evidence evidence
	wait     time.Duration

	// Set by registry.admit; a refused request has no ctx.
	table    *Table
	decision Decision
	ctx      *ending

	// Guarded by the lock of its shard.
	expiry       *time.Timer
	listed       bool // among what is live, between its neighbours there
	before, next *exchange

	out     upstream.Request // what the container gets; set by prepare, as body is
	body    io.Reader        // nil: there is none
	source  source
	conn    *conn // to the container, while it is this exchange's
	up      *upload
	asked   atomic.Int64 // when the container took what it has of the request, in nanoseconds since 1970
	settled bool         // the handler has no more to say

	// Of a tunnel over HTTP/1.1: detach keeps the end of the server's handler
	// from ending it, and detached is what goes on after that.
	detach   func() bool
	detached func()

	// answered says that the client has its answer, and only the rest of its
	// body is waited for.
	answered atomic.Bool

	counted            bool // by load
	kind               int  // aRequest or aTunnel
	receiving, sending limit.Rate
	own, duplex        bool // the agent itself answers, not a container; a body may be read after the answer began

	// truncated says that the request's body did not arrive as announced, and
	// arrived that it did.
	truncated, arrived atomic.Bool

	// started says that the container's answer is on its way to the client,
	// so that it is too late for a page of ours.
	started  atomic.Bool
	status   int
	written  int64
	length   int64 // of the body as announced, -1 when it is not
	complete bool  // the whole answer was sent
	altSvc   string
	strict   bool  // browsers are to insist on HTTPS
	err      error // why the container gave no answer

	idText, clientText string // made when they are first asked for
}

// cutError is the cause of the end of a request that a new table, or the
// expiry of its alias, refuses.
type cutError struct{ decision Decision }

func (e cutError) Error() string { return "cut: " + e.decision.Why }

func newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	now := time.Now()
	return &exchange{
		id:      rand.Uint64(),
		begun:   now,
		w:       w,
		r:       r,
		link:    linkOf(r.Context()),
		request: NewRequest(r, now),
		length:  -1,
	}
}

// rawPath is the path of the request's target, byte for byte.
func rawPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	if path == "" {
		return "/"
	}
	return path
}

// idString is the request id as visitors and logs see it: 16 hexadecimal
// digits.
func (x *exchange) idString() string {
	if x.idText == "" {
		const digits = 16
		var b [2 * digits]byte
		s := strconv.AppendUint(append(b[:0], "0000000000000000"...), x.id, digits)
		x.idText = string(s[len(s)-digits:])
	}
	return x.idText
}

// clientString is the client's address, "unknown" (RFC 7239, section 6.2) if it
// has none.
func (x *exchange) clientString() string {
	switch {
	case x.clientText != "":
	case x.request.Client.IsValid():
		x.clientText = x.request.Client.String()
	default:
		x.clientText = "unknown"
	}
	return x.clientText
}

// cut ends the exchange. It is called under the shard's lock while the handler
// has not returned, so that w is still this request's.
func (x *exchange) cut(d Decision) {
	x.ctx.cancel(cutError{d})
	// The context alone does not wake a handler that waits for the client's
	// socket. Over HTTP/2 the deadline concerns this stream only.
	_ = http.NewResponseController(x.w).SetReadDeadline(past)
	if x.started.Load() {
		x.sever()
	}
}

// sever breaks off an answer that is under way. A connection of HTTP/1 carries
// nothing else and is closed below TLS, which would wait for a client that
// does not read; of HTTP/2 only the stream is reset.
func (x *exchange) sever() {
	if x.link != nil && x.r.ProtoMajor == 1 {
		_ = x.link.socket.Close()
		return
	}
	_ = http.NewResponseController(x.w).SetWriteDeadline(past)
}

// link is a client's connection over TCP. The requests that come over it share
// it.
type link struct {
	socket  net.Conn // below TLS
	gate    *gate
	heard   atomic.Bool  // a request came
	bounded bool         // of HTTP/1: what is written has a deadline
	endings atomic.Int32 // of HTTP/2: answers whose end awaitTaken waits for

	vouched atomic.Pointer[vouched]
}

// linkKey is the key of the *link in the context of a request.
type linkKey struct{}

func linkOf(ctx context.Context) *link {
	l, _ := ctx.Value(linkKey{}).(*link)
	return l
}

func socketOf(conn net.Conn) net.Conn {
	if c, ok := conn.(*tls.Conn); ok {
		return c.NetConn()
	}
	return conn
}

var past = time.Unix(1, 0)

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	// Over HTTP/1 the server sends it by itself when the body is first read,
	// which the container's own 100 has just let happen: once is enough.
	if status == http.StatusContinue && x.r.ProtoMajor == 1 {
		return
	}
	// A client of HTTP/1.0 would take it for the answer, and the answer for
	// that to its next request (RFC 9110, section 15.2).
	if status < 200 && !x.r.ProtoAtLeast(1, 1) {
		return
	}
	if x.tooSlowFor() {
		return
	}
	if status >= 200 {
		x.advertise()
		x.dismiss()
		x.closeUnread()
		if n, err := strconv.ParseInt(x.w.Header().Get("Content-Length"), 10, 64); err == nil {
			x.length = n
		}
		x.start(status)
	}
	x.w.WriteHeader(status)
}

// advertise names the edge's HTTP/3 in place of the container's, which has no
// way to here, and HTTPS as the only way unless the container says otherwise.
func (x *exchange) advertise() {
	if x.strict && len(x.w.Header()["Strict-Transport-Security"]) == 0 {
		x.w.Header()["Strict-Transport-Security"] = []string{hsts}
	}
	if x.altSvc != "" {
		x.w.Header()["Alt-Svc"] = []string{x.altSvc}
	}
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.own && x.status == http.StatusRequestTimeout {
		return len(b), nil // the page is the answer
	}
	x.sending.Begin()
	n, err := x.w.Write(b)
	x.written += int64(n)
	x.sending.End(n)
	return n, err
}

// FlushError is what http.ResponseController calls.
func (x *exchange) FlushError() error {
	x.sending.Begin()
	err := http.NewResponseController(x.w).Flush()
	x.sending.End(0)
	return err
}

// Unwrap lets http.ResponseController reach the server's writer.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

// mayDetach says that the exchange may become a tunnel that needs nothing of the
// server any more.
func (x *exchange) mayDetach() bool {
	return x.kind == aTunnel && x.link != nil && x.r.ProtoMajor == 1
}

// Hijack hands the client's connection to a tunnel. It is closed when the
// exchange is cut or the server ends.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.w).Hijack()
	if err == nil {
		x.start(http.StatusSwitchingProtocols)
		x.ctx.stake(towardsClient, func() { _ = socketOf(conn).Close() })
	}
	return conn, rw, err
}

// start and cut may meet: each sets its own mark before it reads the other's,
// so at least one of them sees both.
func (x *exchange) start(status int) {
	x.status = status
	x.started.Store(true)
	if x.ctx.Err() != nil {
		x.sever()
	}
}
