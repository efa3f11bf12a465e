package edge

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"swage/edge/limit"
)

// generation serves the connections of QUIC that come in a stretch of time, so
// that those of an earlier one can end while others are still let in.
//
// It is the listener of its own server. http3.Server drops a connection that it
// is handed while it begins to end, so none is then: see leave.
type generation struct {
	server *http3.Server

	come    chan *quic.Conn
	rests   chan struct{} // the server waits for the next connection
	ended   chan struct{}
	pending pending
}

func (p *Proxy) newGeneration(serving *handlers) *generation {
	g := &generation{come: make(chan *quic.Conn), rests: make(chan struct{}), ended: make(chan struct{})}
	g.server = &http3.Server{
		Handler:        serving.await(g.pending.count(limit.WhileBusy(p))),
		MaxHeaderBytes: maxHeaderBytes,
		IdleTimeout:    idleTimeout,
		Logger:         slog.New(slog.DiscardHandler), // the access log has what matters
	}
	go func() {
		defer close(g.ended)
		_ = g.server.ServeListener(g) // ends with the server
	}()
	return g
}

// leave asks clients to come back over another connection, awaits their requests
// and whatever else is to be awaited, and cuts what is left: tunnels, and what
// takes longer than within. Clients need a moment to hear of it. Nobody may be
// led in any more.
func (g *generation) leave(within, moment time.Duration, others func() bool) {
	select {
	case <-g.rests:
	case <-g.ended:
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = g.server.Shutdown(ctx) // of clients that do not go it says so
	}()
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		g.pending.rest(ctx, moment)
	}()
	select {
	case <-gone:
	case <-quiet: // a client that sleeps does not go
	}
	for ctx.Err() == nil && others != nil && !others() {
		pause(ctx, 5*time.Millisecond)
	}
	cancel()
	<-quiet
	<-gone
}

// Accept implements http3.QUICListener.
func (g *generation) Accept(ctx context.Context) (*quic.Conn, error) {
	for {
		select {
		case conn := <-g.come:
			return conn, nil
		case g.rests <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Addr implements http3.QUICListener. It is for Alt-Svc, which is the Proxy's.
func (g *generation) Addr() net.Addr { return &net.UDPAddr{} }

// Close implements http3.QUICListener. The listener is not the server's.
func (g *generation) Close() error { return nil }

// door leads those who come to a generation.
type door struct {
	mu sync.Mutex
	to *generation
}

// lead returns when the listener ends.
func (d *door) lead(l *quic.EarlyListener, opened func(*quic.Conn)) error {
	for {
		conn, err := l.Accept(context.Background())
		if err != nil {
			return err
		}
		opened(conn)
		d.mu.Lock()
		d.to.come <- conn
		d.mu.Unlock()
	}
}

// turn leads to another generation from now on.
func (d *door) turn(to *generation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
}
