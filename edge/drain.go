package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"swage/edge/limit"
)

// gate lets a server end without breaking off anybody who has just come.
// http.Server.Shutdown alone drops a request that it reads a moment after, be it
// the first of its connection, and closes connections of HTTP/2 that rest before
// they were told.
//
// First nobody more is let in, and each answer asks the client to come back over
// another connection; then connections that were let in get their first answer;
// then the server is shut down, and those of HTTP/2 have a moment to hear of it.
type gate struct {
	net.Listener
	moment func() time.Duration // that clients need to hear of the end

	base    context.Context // of all that is served, tunnels too
	serving *handlers

	pending  pending
	closing  atomic.Bool
	released chan struct{} // Accept may tell that it ended
	release  func()
	fresh    sync.Map // net.Conn below TLS → struct{}: no request came yet
}

func newGate(base context.Context, l net.Listener, moment func() time.Duration) *gate {
	g := &gate{Listener: l, moment: moment, base: base, serving: new(handlers), released: make(chan struct{})}
	g.release = sync.OnceFunc(func() { close(g.released) })
	return g
}

// Accept implements net.Listener. The server closes connections that rest as
// soon as it returns an error.
func (g *gate) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil && g.closing.Load() {
		<-g.released
	}
	return conn, err
}

// Close implements net.Listener.
func (g *gate) Close() error {
	err := g.stop()
	time.AfterFunc(g.moment(), g.release)
	return err
}

// stop lets nobody in any more.
func (g *gate) stop() error {
	if g.closing.Swap(true) {
		return nil
	}
	return g.Listener.Close()
}

// state is an http.Server's ConnState.
func (g *gate) state(conn net.Conn, s http.ConnState) {
	limit.ConnState(conn, s)
	switch s {
	case http.StateNew:
		g.fresh.Store(socketOf(conn), struct{}{})
	case http.StateClosed, http.StateHijacked:
		g.fresh.Delete(socketOf(conn))
	}
}

// hears tells of the first request of a connection.
func (l *link) hears() {
	if l != nil && !l.heard.Load() {
		l.heard.Store(true)
		l.gate.fresh.Delete(l.socket)
	}
}

// context is an http.Server's ConnContext.
func (g *gate) context(ctx context.Context, conn net.Conn) context.Context {
	socket := socketOf(conn)
	return limit.Of(socket).With(context.WithValue(ctx, linkKey{}, &link{socket: socket, gate: g}))
}

// dismiss asks the client to come back over another connection, when this one's
// server is to end. Over HTTP/2 net/http makes a GOAWAY of the header.
func (x *exchange) dismiss() {
	if x.link != nil && x.link.gate.closing.Load() || x.unread() {
		x.w.Header()["Connection"] = []string{"close"}
	}
}

// unread says that a client of HTTP/1.1 is answered before all of its chunks
// were read. The server would look for the next request behind them, or where
// they turn out to be broken: nobody knows where it begins.
func (x *exchange) unread() bool {
	return x.body != nil && x.r.ProtoMajor == 1 && x.r.ContentLength < 0 && !x.arrived.Load()
}

// gatedServer is a server behind its gate.
type gatedServer struct {
	*gate
	server *http.Server
}

// Shutdown ends the server, or returns with ctx.
func (s gatedServer) Shutdown(ctx context.Context) error {
	closed := s.stop()
	// Who came and says nothing is waited for a little longer.
	patience, cancel := context.WithTimeout(ctx, min(4*s.moment(), readHeaderTimeout))
	defer cancel()
	pause(patience, s.moment())
	for patience.Err() == nil && s.anyFresh() {
		pause(patience, 5*time.Millisecond)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		for ctx.Err() == nil {
			if s.pending.rest(ctx, s.moment()); s.pending.tunnels.Load() > 0 {
				end(errTunnels)
			}
		}
	}()
	if err := s.server.Shutdown(ctx); err != nil && context.Cause(ctx) != errTunnels {
		return err
	}
	return closed
}

// errTunnels ends a server's Shutdown, which would await those of HTTP/2.
var errTunnels = errors.New("only tunnels are left")

// pending counts what is under way. Nobody awaits tunnels: they have no end.
type pending struct{ requests, tunnels atomic.Int64 }

func (p *pending) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := &p.requests
		if wantsTunnel(r) {
			n = &p.tunnels
		}
		n.Add(1)
		defer n.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// rest returns when there was no request for a moment, in which the last answer
// arrives, or with ctx.
func (p *pending) rest(ctx context.Context, moment time.Duration) {
	for busy := time.Now(); ctx.Err() == nil && time.Since(busy) <= moment; pause(ctx, 5*time.Millisecond) {
		if p.requests.Load() > 0 {
			busy = time.Now()
		}
	}
}

func (g *gate) anyFresh() (found bool) {
	g.fresh.Range(func(_, _ any) bool { found = true; return false })
	return found
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
