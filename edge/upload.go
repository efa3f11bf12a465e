package edge

import (
	"errors"
	"net/http"
	"time"

	"swage/edge/upstream"
)

// continueTimeout is how long a container is waited for that was asked whether
// it wants the body (RFC 9110, section 10.1.1).
const continueTimeout = time.Second

// sentTimeout is how long the end of a body is waited for after the answer, to
// save the connection.
const sentTimeout = 50 * time.Millisecond

// upload is a body on its way from the client to the container. The goroutine
// that carries it ends before the exchange does.
type upload struct {
	wanted chan bool // by the container; nil: it is not asked
	done   chan struct{}
	err    error // set before done is closed
}

var errUnwanted = errors.New("the container did not want the body")

// startUpload begins to send the body, if there is one.
func (x *exchange) startUpload() {
	if x.body == nil {
		return
	}
	up := &upload{done: make(chan struct{})}
	if listed(x.r.Header["Expect"], "100-continue") {
		up.wanted = make(chan bool, 1)
	}
	x.up = up
	go up.carry(x, x.conn)
}

func (up *upload) carry(x *exchange, c *conn) {
	defer close(up.done)
	if up.wanted != nil {
		timer := time.NewTimer(continueTimeout)
		defer timer.Stop()
		select {
		case wanted := <-up.wanted:
			if !wanted {
				up.err = errUnwanted
				return
			}
		case <-timer.C:
		}
	}
	buf := buffers.Get().(*upstream.Buffer)
	defer buffers.Put(buf)
	failed, err := x.out.Send(c, x.body, func() http.Header { return x.r.Trailer }, buf, x.taken)
	if failed != nil {
		c.kill() // what the container has is not the whole
	}
	up.err = errors.Join(failed, err)
}

// tell says whether the container wants the body, if nothing was said before.
func (up *upload) tell(wanted bool) {
	if up == nil || up.wanted == nil {
		return
	}
	select {
	case up.wanted <- wanted:
	default:
	}
}

// sent reports whether all of the body was sent. The goroutine that did so may
// be a little later than the answer.
func (x *exchange) sent() bool {
	if x.up == nil {
		return true
	}
	select {
	case <-x.up.done:
		return x.up.err == nil
	default:
	}
	x.up.tell(false)
	if x.r.ProtoMajor == 1 {
		_ = x.FlushError() // nobody shall wait for this
	}
	timer := time.NewTimer(sentTimeout)
	defer timer.Stop()
	select {
	case <-x.up.done:
		return x.up.err == nil
	case <-timer.C:
		return false
	}
}

// abandon ends an upload whose connection was closed. A client of HTTP/1.1 that
// has its answer may still be sending, and would lose it if its connection were
// closed at once: it has as long as any sender.
func (x *exchange) abandon() {
	if x.up == nil {
		return
	}
	x.up.tell(false)
	if x.settled && x.r.ProtoMajor == 1 && x.ctx.Err() == nil && x.FlushError() == nil {
		x.answered.Store(true)
	} else {
		_ = http.NewResponseController(x.w).SetReadDeadline(past)
	}
	<-x.up.done
	x.up = nil
}
