package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"swage/edge/upstream"
)

// forward passes a request on to its container, and the answer back. Over
// HTTP/1.1 it does so on the request's own goroutine; only a body that comes
// from the client has another.
func (p *Proxy) forward(x *exchange) {
	key := ""
	if x.r.Method == http.MethodConnect {
		key = newWebSocketKey()
	}
	x.prepare(key)
	if isGRPC(x.r) {
		p.forwardGRPC(x)
		return
	}
	whole := false
	defer func() { p.upstreams.leave(x, whole) }()
	res, err := p.upstreams.send(x)
	switch {
	case err != nil:
		x.fail(err)
	case res.StatusCode == http.StatusSwitchingProtocols:
		p.tunnel(x, res, key)
	case key != "" && res.StatusCode < 300: // would open the tunnel
		x.fail(fmt.Errorf("status %d is no answer to the WebSocket handshake", res.StatusCode))
	default:
		x.pass(res, x.conn.in)
		// A container that was asked to change the protocol may do so late.
		whole = !res.Close && x.kind != aTunnel
	}
	x.settled = true
}

// send writes the request over a connection that rested, or a fresh one, and
// reads the header of the answer.
//
// A container may close a connection at the very moment in which a request is
// sent over it. Then it is sent once more over a fresh one, if nothing was sent
// or the request changes nothing (RFC 9110, section 9.2.2). And where the
// client's own address does not do, the edge's is tried.
func (u *upstreams) send(x *exchange) (*http.Response, error) {
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	learn := func() {}
	for fresh := false; ; {
		head, err := x.appendHead((*buf)[:0])
		if err != nil {
			return nil, err
		}
		*buf = head
		to := x.place(false)
		c, err := u.connect(x.ctx, &to, time.Now(), fresh)
		if err != nil {
			again, proven := u.sources.failed(x, err)
			if proven == nil {
				return nil, err
			}
			x.source, learn = again, proven
			continue
		}
		learn()
		x.occupy(c)
		n, err := c.Write(head)
		if err == nil {
			x.startUpload()
			var res *http.Response
			if res, err = c.readAnswer(x.request.Method, x.w.Header(), x.hint); err == nil {
				return res, nil
			}
		}
		if again := c.used && (n == 0 || !c.heard() && x.repeatable()); !again || x.ctx.Err() != nil {
			return nil, err
		}
		x.vacate(false)
		fresh = true
	}
}

// repeatable says that a request may be sent again although the container may
// have had it.
func (x *exchange) repeatable() bool {
	switch x.request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return x.body == nil
	}
	return false
}

// occupy makes a connection the exchange's, which ends with it.
func (x *exchange) occupy(c *conn) {
	x.conn = c
	x.taken()
	x.ctx.stake(towardsContainer, c.stop)
}

// leave gives the connection back if both the request and the answer went over
// it as a whole, or else closes it.
func (u *upstreams) leave(x *exchange, whole bool) {
	c := x.conn
	if x.vacate(whole) {
		u.give(c)
	}
}

// vacate ends the use of a connection, and reports whether it can be used
// again.
func (x *exchange) vacate(whole bool) bool {
	c := x.conn
	if c == nil {
		return false
	}
	x.conn = nil
	again := whole && c.in.Buffered() == 0 && x.sent()
	if !x.ctx.takeBack(towardsContainer) || !again {
		c.kill()
		x.abandon()
		c.letGo()
		return false
	}
	return true
}

// hint passes on an informational answer (RFC 9110, section 15.2).
func (x *exchange) hint(status int, header http.Header) {
	if status == http.StatusContinue {
		x.up.tell(true)
	}
	h := x.w.Header()
	maps.Copy(h, header)
	removeHopByHop(h)
	x.keepToHost(h)
	x.WriteHeader(status)
	clear(h)
}

// pass passes an answer on, which is read through in. Where that is nil nobody
// can tell how much is there already.
func (x *exchange) pass(res *http.Response, in *bufio.Reader) {
	h := x.w.Header()
	removeHopByHop(res.Header)
	maps.Copy(h, res.Header)
	x.keepToHost(h)
	if res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		// There is no content, so 204 must not name a length (RFC 9110, section
		// 8.6). That of 304 net/http leaves out over HTTP/1.1.
		delete(h, "Content-Length")
	}
	// The only header that the edge adds to an application's answer: a
	// generated host works as a credential, so links must not carry it to
	// other sites.
	if x.decision.Generated && len(h["Referrer-Policy"]) == 0 {
		h["Referrer-Policy"] = []string{"no-referrer"}
	}
	trailers := answerTrailers(res.Trailer)
	if len(trailers) > 0 {
		h["Trailer"] = []string{strings.Join(trailers, ", ")}
	}
	x.WriteHeader(res.StatusCode)
	switch {
	case res.Body != http.NoBody:
		x.copy(res.Body, res.ContentLength < 0, in)
	case res.ContentLength < 0 && x.r.ProtoMajor == 3:
		// quic-go would say that the length is 0, of an answer to HEAD too.
		_ = x.FlushError()
	}
	if len(res.Trailer) > 0 {
		x.passTrailers(res.Trailer, trailers, in == nil)
	}
}

// copy passes the body of an answer on, each part as soon as no more is there.
func (x *exchange) copy(body io.Reader, unknown bool, in *bufio.Reader) {
	waits := func() bool { return in == nil || in.Buffered() == 0 }
	if unknown && waits() { // as an event stream does before its first event
		_ = x.FlushError()
	}
	buf := buffers.Get().(*upstream.Buffer)
	defer buffers.Put(buf)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			if _, failed := x.Write(buf[:n]); failed != nil {
				panic(http.ErrAbortHandler)
			}
			if err == nil && x.written != x.length && waits() && x.FlushError() != nil {
				panic(http.ErrAbortHandler)
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return
		default:
			x.err = err
			panic(http.ErrAbortHandler) // a part must not pass for the whole
		}
	}
}

// buffers are lent to what copies bodies.
var buffers = sync.Pool{New: func() any { return new(upstream.Buffer) }}

const bufferSize = int64(len(upstream.Buffer{}))

// fail answers when the container did not.
func (x *exchange) fail(err error) {
	x.err = err
	if x.started.Load() {
		panic(http.ErrAbortHandler)
	}
	clear(x.w.Header()) // of an answer that was none
	why := x.ctx.why()
	cut, isCut := why.(cutError)
	if why != nil && x.r.ProtoMajor == 1 {
		// A body that was broken off would be read as the next request.
		x.w.Header().Set("Connection", "close")
	}
	switch {
	case isCut:
		x.refuse(cut.decision)
	case why == errSlow:
		x.page(tooSlow)
	case why == errSilent:
		x.page(noAnswer)
	case why != nil:
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	case x.truncated.Load(), errors.Is(err, errUnsound):
		x.page(malformed)
	case unanswered(err):
		x.page(noAnswer)
	case errors.Is(err, syscall.ECONNREFUSED):
		x.page(nothingListens)
	default:
		x.page(brokenAnswer)
	}
}

// statusClientGone stands in logs for a request whose client did not wait; no
// answer has it.
const statusClientGone = 499
