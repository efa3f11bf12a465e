package edge

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"swage/edge/limit"
)

// paceLook is how often clients are looked at. How slow they may be is
// [limit.Rate]'s to say.
const paceLook = 5 * time.Second

// goneLook is how long it may take at most to notice that a client has gone.
const goneLook = 100 * time.Millisecond

// lastWrites bounds what the server sends after the handler, which the registry
// no longer knows: nothing, if the handler has sent the whole answer. Over
// HTTP/2 the deadline would be a message to another goroutine and a timer, for
// each request.
func (x *exchange) lastWrites() {
	if x.link != nil && x.r.ProtoMajor == 1 && !x.complete {
		x.link.bounded = true
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(limit.Grace))
	}
}

// firstWrites takes away the bound of the request before.
func (x *exchange) firstWrites() {
	if x.link != nil && x.link.bounded {
		x.link.bounded = false
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	}
}

// finish sends what the server holds back of an answer of known length, while
// the registry still looks at the client.
func (x *exchange) finish() {
	if x.r.ProtoMajor == 1 && x.detached == nil && x.written == x.length {
		x.complete = x.FlushError() == nil
	}
}

// awaitedOf is of how many answers over HTTP/2 the end of one is awaited: each
// time costs a frame more.
const awaitedOf = 16

// mostAwaited are seldom awaited at once while the client takes them.
const mostAwaited = 3

// heldBack is the most that the servers hold back of an answer.
const heldBack = 4 << 10

// fillsPacket says that an answer may be larger than a packet of QUIC, which
// holds 1,200 bytes at least (RFC 9000, section 14).
func (x *exchange) fillsPacket() bool {
	const most = 1000
	size := x.written
	for name, values := range x.w.Header() {
		for _, value := range values {
			size += int64(len(name) + len(value))
		}
	}
	return size > most
}

// awaitTaken waits until a client of HTTP/2 has taken the end of one in so many
// answers, and of every one while it leaves a few there. net/http would wait
// with what it holds back for the client's window after the handler, where
// nobody counts or looks at it: so no more than some of a connection wait there.
// A client cannot know which are awaited, and if it does not take such a one,
// its connection ends, and with it the others. Beyond as many as a client may
// have at once, a page that it does not take is not kept for it.
//
// Of HTTP/3 the end of all that comes from containers is awaited, if it is more
// than quic-go takes without waiting.
func (p *Proxy) awaitTaken(x *exchange) {
	l := x.link
	switch {
	case x.r.ProtoMajor == 3 && x.counted && x.kind != aTunnel && x.written <= heldBack:
		if x.fillsPacket() {
			_ = x.FlushError()
		}
		return
	case x.r.ProtoMajor != 2, l == nil, x.kind == aTunnel, x.written == 0:
		return
	}
	stuck := l.endings.Load() >= mostAwaited
	if !stuck && rand.Uint32N(awaitedOf) != 0 {
		return
	}
	if !x.counted { // a page, or the agent's own
		client := subscriber(x.request.Client)
		counters := p.load.client(client)
		if counters.take(client, aRequest, p.load.limits.ClientRequests) {
			defer counters.give(client, aRequest)
		} else if stuck {
			_ = http.NewResponseController(x.w).SetWriteDeadline(past)
			return
		}
	}
	begun := time.Now()
	l.endings.Add(1)
	err := x.FlushError()
	l.endings.Add(-1)
	_, isCut := x.ctx.why().(cutError)
	if err != nil && !isCut && time.Since(begun) >= afterwards/2 {
		_ = l.socket.Close()
	}
}

// forgetUnsent lets the kernel drop what it holds for the client when the
// connection is closed, which it would otherwise offer for minutes.
func (x *exchange) forgetUnsent() {
	if x.link == nil || x.r.ProtoMajor != 1 {
		return
	}
	if socket, ok := x.link.socket.(interface{ SetLinger(int) error }); ok {
		_ = socket.SetLinger(0)
	}
}

// errSlow is the cause of the end of a request whose client was too slow.
var errSlow = errors.New("the client is too slow")

// pacedBody is a request's body whose sender is looked at.
type pacedBody struct {
	io.ReadCloser
	x    *exchange
	came int64 // bytes, so far
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.x.receiving.Begin()
	n, err := b.ReadCloser.Read(p)
	b.x.receiving.End(n)
	b.came += int64(n)
	switch {
	case err == io.EOF, err == nil && b.came == b.x.r.ContentLength:
		b.x.arrived.Store(true)
	case err == nil:
	default:
		b.x.truncated.Store(true)
	}
	return n, err
}

// answerTimeout is how long a container may think, or take nothing more of what
// it is sent.
const answerTimeout = 5 * time.Minute

// errSilent is the cause of the end of a request that has no answer in time.
var errSilent = errors.New("no answer in time")

// taken notes that the container has taken a part of the request.
func (x *exchange) taken() { x.asked.Store(time.Now().UnixNano()) }

// unheard says that it neither took more nor answered for too long.
func (x *exchange) unheard(now time.Time) bool {
	asked := x.asked.Load()
	return asked != 0 && !x.receiving.Waits() && now.UnixNano()-asked > int64(answerTimeout)
}

// look ends the requests of clients that are too slow. Once the application
// answers, what the client sends is a conversation and may pause; so it may
// from the beginning in gRPC and in tunnels. The agent itself has none.
func (l *registry) look(now time.Time) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for x := range s.each {
			switch {
			case x.r.Method == http.MethodConnect: // of HTTP/1 nothing passes here
			case x.sending.TooSlow(now, bufferSize):
				x.ctx.cancel(errSlow)
				x.forgetUnsent()
				x.sever()
			case (x.own || !x.started.Load() || x.answered.Load()) && x.receiving.TooSlow(now, 0):
				x.ctx.cancel(errSlow)
				_ = http.NewResponseController(x.w).SetReadDeadline(past)
			case !x.started.Load() && x.unheard(now):
				x.ctx.cancel(errSilent)
			}
		}
		s.mu.Unlock()
	}
}

// watch looks at clients, and at connections that rest, again and again until
// ctx ends.
func (p *Proxy) watch(ctx context.Context) {
	gone, slow := time.NewTicker(goneLook), time.NewTicker(paceLook)
	defer gone.Stop()
	defer slow.Stop()
	for {
		select {
		case <-ctx.Done():
			p.live.tie() // so that its requests end
			return
		case <-gone.C:
			p.live.tie()
		case now := <-slow.C:
			p.live.look(now)
			p.upstreams.sweep(now)
		}
	}
}
