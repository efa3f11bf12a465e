package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ClientDialer opens connections in the name of a client, so that what it
// calls sees the client's address in its socket. Methods may be called by
// several goroutines.
type ClientDialer interface {
	// Obstacle says why target cannot be called in the client's name; empty,
	// it can. It is asked for each request, so it must not block.
	Obstacle(client, target netip.Addr) string

	// Dial opens a TCP connection whose source is the client's address, at
	// any port.
	Dial(ctx context.Context, client netip.Addr, target netip.AddrPort) (net.Conn, error)
}

// source is the address from which a request is passed on, and to which of the
// container's.
type source struct {
	target netip.AddrPort
	client netip.Addr // the zero Addr: the edge's own

	// why it is the edge's own although there is a ClientDialer.
	why string
}

// address is one of a container's.
type address struct {
	containerID string
	addr        netip.Addr
}

// unheardFor is how long a container that answers the edge but not its clients
// is called from the edge's own address only: its way to others may lead past
// this host.
const unheardFor = time.Minute

// sources chooses them.
type sources struct {
	dialer ClientDialer // nil: always the edge's own
	// unheard holds when each ended.
	unheard sync.Map    // address → time.Time
	some    atomic.Bool // there was ever one: looking it up allocates
}

// choose decides from where a request is passed on. A client of IPv6 calls the
// container's address of IPv6, if there is one: only from like to like can its
// own be used.
func (s *sources) choose(route *Route, client netip.Addr, now time.Time) source {
	if s.dialer == nil {
		return source{target: route.Addr}
	}
	to := route.Addr
	if client.Is6() && route.Addr6.IsValid() {
		to = netip.AddrPortFrom(route.Addr6, route.Addr.Port())
	}
	why := s.dialer.Obstacle(client, to.Addr())
	if why == "" && s.some.Load() {
		until, ok := s.unheard.Load(address{route.ContainerID, to.Addr()})
		if ok && now.Before(until.(time.Time)) {
			why = "the container does not answer its clients"
		}
	}
	if why != "" {
		return source{target: route.Addr, why: why}
	}
	return source{target: to, client: client}
}

// keep forgets what is no longer in the table.
func (s *sources) keep(t *Table) {
	s.unheard.Range(func(key, _ any) bool {
		if a := key.(address); !t.holds(a.containerID, a.addr) {
			s.unheard.Delete(key)
		}
		return true
	})
}

// failed says from where to try once more after the client's own address did
// not do, and remembers what the second answer proves.
func (s *sources) failed(x *exchange, err error) (again source, learn func()) {
	again = source{target: x.decision.Route.Addr}
	switch {
	case !x.source.client.IsValid() || x.ctx.Err() != nil:
		return source{}, nil
	case errors.Is(err, syscall.ECONNREFUSED) && x.source.target != again.target:
		again.why = "nothing listens at the container's IPv6 address"
		return again, func() {}
	case errors.Is(err, errDial) && errors.Is(err, syscall.EADDRNOTAVAIL):
		// The fault of this client alone: others are not made to appear as the
		// host for it.
		again.why = "the ports of the client's address are used up"
		return again, func() {}
	case errors.Is(err, errDial) && !errors.Is(err, syscall.ECONNREFUSED):
		again.why = "the container does not answer its clients"
		key := address{x.decision.Route.ContainerID, x.source.target.Addr()}
		return again, func() {
			s.unheard.Store(key, time.Now().Add(unheardFor))
			s.some.Store(true)
		}
	}
	return source{}, nil
}

// dial opens a connection in a client's name. Half of the usual time is left
// for a try from the edge's own address.
func (s *sources) dial(ctx context.Context, client netip.Addr, target netip.AddrPort) (net.Conn, error) {
	conn, err := dialFor(ctx, dialTotal/2, func(ctx context.Context) (net.Conn, error) {
		return s.dialer.Dial(ctx, client, target)
	})
	if err != nil {
		err = fmt.Errorf("%w %v: %w", errDial, client, err)
	}
	return conn, err
}

// errDial marks a failure before anything was sent.
var errDial = errors.New("no connection from the client's address")
