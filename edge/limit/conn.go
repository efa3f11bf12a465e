package limit

import (
	"net/netip"
	"time"
)

// Named says whose the connection is that was opened with a zero address. False:
// that client has too many, and the connection must be closed.
func (e *Conn) Named(client netip.Addr) bool {
	if e == nil || !client.IsValid() {
		return true
	}
	c, now := e.of, time.Now()
	c.mu.Lock()
	if e.gone || e.named {
		c.mu.Unlock()
		return !e.gone
	}
	var victims [3]*Conn
	queued := e.places[0] != nil
	c.unqueue(e) // it must not make room for itself
	ok := c.name(e, client, now, &victims)
	if queued {
		c.queue(e)
	}
	if !ok {
		c.refuse(now)
	}
	c.tell(client, now)
	c.mu.Unlock()
	for _, v := range victims {
		v.end()
	}
	return ok
}

// Opened says how a reserved connection can be closed from now on.
func (e *Conn) Opened(close func()) {
	if e == nil {
		return
	}
	c := e.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.opening && !e.gone {
		e.opening, e.close = false, close
		c.opening--
		if e.state.Load() == 0 {
			c.requeue(e)
		}
	}
}

// IdleFor is how long the connection has carried no request; below 0: it carries
// one.
func (e *Conn) IdleFor(now time.Time) time.Duration {
	if e == nil || e.state.Load() > 0 {
		return -1
	}
	return time.Duration(max(0, now.UnixNano()-e.since.Load()))
}

// Busy says that the connection carries a request. False: it is being closed for
// another, and the request must not be served.
func (e *Conn) Busy() bool {
	return e == nil || e.state.CompareAndSwap(0, 1) || e.state.Load() > 0
}

// Idle ends what Busy began.
func (e *Conn) Idle() {
	if e == nil {
		return
	}
	e.since.Store(time.Now().UnixNano()) // before it may be closed
	if e.state.CompareAndSwap(1, 0) {
		e.rest()
	}
}

// Enter and Leave are Busy and Idle where there may be several requests at once.
func (e *Conn) Enter() bool {
	for e != nil {
		n := e.state.Load()
		if n < 0 {
			return false
		}
		if e.state.CompareAndSwap(n, n+1) {
			break
		}
	}
	return true
}

// Leave ends what Enter began.
func (e *Conn) Leave() {
	if e == nil {
		return
	}
	e.since.Store(time.Now().UnixNano())
	if e.state.Add(-1) == 0 {
		e.rest()
	}
}

func (e *Conn) rest() {
	if e.out.Load() {
		e.of.mu.Lock()
		if e.state.Load() == 0 {
			e.of.requeue(e)
		}
		e.of.mu.Unlock()
	}
}

// Close counts the connection off, which has ended.
func (e *Conn) Close() {
	if e == nil {
		return
	}
	e.of.mu.Lock()
	e.of.forget(e)
	e.of.mu.Unlock()
}

func (e *Conn) end() {
	if e != nil && e.close != nil {
		e.close()
	}
}
