package edge

import (
	"cmp"
	"hash/maphash"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleUpstream is below the five seconds after which common application
	// servers close: a request must not meet a connection that is closing.
	idleUpstream = 4 * time.Second

	maxIdle  = 4096 // connections that rest, of all places
	maxPools = 2048
)

// place is what one client reaches of a container. All of it makes the key of a
// pool of connections: what was opened to one container is never used for
// another that has the address later, and what was opened in the name of one
// client never for another.
type place struct {
	containerID string
	target      netip.AddrPort
	client      netip.Addr // whose address the connections come from; zero: the edge's own
	server      string     // the name that is asked for over TLS; empty: without TLS
	http2       bool       // the connections speak HTTP/2 and nothing else
}

// upstreams holds the connections to containers that rest.
type upstreams struct {
	sources sources
	seed    maphash.Seed
	parts   [16]part
	resting atomic.Int64 // connections in all pools
	count   atomic.Int64 // pools
	pruning sync.Mutex   // held by prune
}

// part is one of many, each with a lock of its own.
type part struct {
	mu    sync.Mutex
	pools map[place]*pool
	_     [48]byte // keeps neighbours out of this one's cache line
}

// pool are the connections to one place. The lock of its part guards it.
type pool struct {
	idle []*conn      // the one that was used last is at the end
	wait []chan *conn // for one that is given back, first come first
	used time.Time
	gone bool            // it was dropped
	grpc *http.Transport // of a place of HTTP/2, instead
}

func (u *upstreams) init(d ClientDialer) {
	u.sources.dialer, u.seed = d, maphash.MakeSeed()
	for i := range u.parts {
		u.parts[i].pools = make(map[place]*pool)
	}
}

func (u *upstreams) part(to *place) *part {
	client := to.client.As16()
	n := maphash.String(u.seed, to.containerID) ^ maphash.Bytes(u.seed, client[:])
	return &u.parts[n%uint64(len(u.parts))]
}

// take lends a connection that rests at a place, unless there is none or it is
// to be a fresh one, and tells the pool that it or a new one is to be given to.
// Where there is none, the next that is given back goes to wait, if that is not
// nil.
func (u *upstreams) take(to *place, now time.Time, fresh bool, wait chan *conn) (*conn, *pool) {
	s := u.part(to)
	for {
		s.mu.Lock()
		p := s.pools[*to]
		made := p == nil
		if made {
			p = u.newPool(to)
			s.pools[*to] = p
		}
		p.used = now
		var c *conn
		if n := len(p.idle) - 1; n >= 0 && !fresh {
			c, p.idle[n], p.idle = p.idle[n], nil, p.idle[:n]
		} else if wait != nil {
			p.wait = append(p.wait, wait)
		}
		s.mu.Unlock()
		if made && u.count.Add(1) > maxPools {
			u.prune()
		}
		if c == nil {
			return nil, p
		}
		u.resting.Add(-1)
		if now.Sub(c.rested) < idleUpstream && c.sound() {
			return c, p
		}
		c.kill()
	}
}

// give lets a connection rest until it is needed again, which may be at once.
// That of a pool that was dropped in the meantime is closed.
func (u *upstreams) give(c *conn) {
	c.rest(time.Now())
	s := u.part(&c.to)
	s.mu.Lock()
	p := c.pool
	kept := !p.gone
	if kept && len(p.wait) > 0 {
		p.wait[0] <- c
		p.wait = slices.Delete(p.wait, 0, 1)
		s.mu.Unlock()
		return
	}
	if kept {
		p.idle = append(p.idle, c)
	}
	s.mu.Unlock()
	switch {
	case !kept:
		c.kill()
	case u.resting.Add(1) > maxIdle:
		u.prune()
	}
}

// forget waits no longer. What came in the meantime is given back.
func (u *upstreams) forget(to *place, p *pool, wait chan *conn) {
	s := u.part(to)
	s.mu.Lock()
	if i := slices.Index(p.wait, wait); i >= 0 {
		p.wait = slices.Delete(p.wait, i, i+1)
	}
	s.mu.Unlock()
	select {
	case c := <-wait:
		u.give(c)
	default:
	}
}

// drop takes pools away for which gone is true, and closes what rests in them.
func (u *upstreams) drop(gone func(*place, *pool) bool) {
	for i := range u.parts {
		s := &u.parts[i]
		s.mu.Lock()
		for to, p := range s.pools {
			if gone(&to, p) {
				delete(s.pools, to)
				p.gone = true
				u.count.Add(-1)
				u.close(p, p.idle)
			}
		}
		s.mu.Unlock()
	}
}

func (u *upstreams) close(p *pool, idle []*conn) {
	for _, c := range idle {
		c.kill()
	}
	u.resting.Add(-int64(len(idle)))
	if p.grpc != nil {
		p.grpc.CloseIdleConnections()
	}
}

// prune drops the quarter of the pools that was not used for longest. It is
// rare: pools are made again only when so many others were used since.
func (u *upstreams) prune() {
	if !u.pruning.TryLock() {
		return
	}
	defer u.pruning.Unlock()
	type aged struct {
		used time.Time
		idle int
	}
	var all []aged
	for i := range u.parts {
		s := &u.parts[i]
		s.mu.Lock()
		for _, p := range s.pools {
			all = append(all, aged{p.used, len(p.idle)})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.idle, b.idle)) })
	// From the newest on, as many stay as may.
	var oldest time.Time
	pools, idle := 0, 0
	for _, a := range all {
		pools, idle = pools+1, idle+a.idle
		if pools > maxPools*3/4 || idle > maxIdle*3/4 {
			oldest = a.used
			break
		}
	}
	u.drop(func(_ *place, p *pool) bool { return !p.used.After(oldest) })
}

// sweep closes what has rested for too long.
func (u *upstreams) sweep(now time.Time) {
	u.drop(func(_ *place, p *pool) bool {
		n := 0
		for n < len(p.idle) && now.Sub(p.idle[n].rested) >= idleUpstream {
			n++
		}
		u.close(p, p.idle[:n])
		p.idle = slices.Delete(p.idle, 0, n)
		return len(p.idle) == 0 && now.Sub(p.used) > time.Minute
	})
}

// keep drops the pools of places that the table does not hold. Connections in
// use are not given back to a dropped pool, they end with their request.
func (u *upstreams) keep(t *Table) {
	u.drop(func(to *place, _ *pool) bool { return !t.holds(to.containerID, to.target.Addr()) })
	u.sources.keep(t)
}

// holds reports whether a container is at an address.
func (t *Table) holds(containerID string, addr netip.Addr) bool {
	if t == nil || t.byID[containerID] == nil {
		return false
	}
	c := t.byID[containerID]
	return addr == c.addr || addr == c.addr6
}

func (u *upstreams) newPool(to *place) *pool {
	if to.http2 {
		return &pool{grpc: u.newTransport(*to)}
	}
	return &pool{}
}
