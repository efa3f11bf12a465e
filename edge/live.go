package edge

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// registry holds the table in force and the requests that are being passed on
// under it.
type registry struct {
	table  atomic.Pointer[Table] // nil at first
	shards [64]shard
}

// shard is one part of many, each with a lock of its own. It guards what ties
// an exchange to it, too.
type shard struct {
	mu   sync.Mutex
	live *exchange // the first of a list
	_    [48]byte  // keeps neighbours out of this one's cache line
}

// each yields the requests that are live. The lock is held.
func (s *shard) each(yield func(*exchange) bool) {
	for x := s.live; x != nil && yield(x); x = x.next {
	}
}

func (s *shard) add(x *exchange) {
	x.listed, x.next = true, s.live
	if x.next != nil {
		x.next.before = x
	}
	s.live = x
}

func (s *shard) remove(x *exchange) {
	if x.before != nil {
		x.before.next = x.next
	} else {
		s.live = x.next
	}
	if x.next != nil {
		x.next.before = x.before
	}
	x.listed, x.before, x.next = false, nil, nil
}

func (l *registry) shard(x *exchange) *shard { return &l.shards[x.id%uint64(len(l.shards))] }

// admit decides a request and keeps it if it is allowed.
//
// The table is loaded under the lock that swap takes after the table was
// stored. So either the request is decided by the new table, or swap finds it.
func (l *registry) admit(x *exchange) {
	s := l.shard(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	x.table = l.table.Load()
	x.decision = x.table.Decide(x.request)
	if x.decision.Verdict != Allow {
		return
	}
	x.ctx = &ending{Context: x.r.Context()}
	if x.mayDetach() {
		x.ctx.Context = x.link.gate.base
		x.detach = context.AfterFunc(x.r.Context(), func() { x.ctx.cancel(context.Canceled) })
	}
	s.add(x)
	if x.ctx.Context.Err() != nil { // which nobody may look at again
		x.ctx.cancel(context.Canceled)
	}
	l.expire(x, x.decision.Until)
}

// tie makes the requests end with their clients that came since it was called last.
// Most are over by then, so that only those that last cost what a tie does.
func (l *registry) tie() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for x := range s.each {
			if !x.ctx.tie() {
				break // those behind it came earlier
			}
		}
		s.mu.Unlock()
	}
}

// leave forgets a request; one that was refused is not there.
func (l *registry) leave(x *exchange) {
	if x.ctx == nil {
		return
	}
	s := l.shard(x)
	s.mu.Lock()
	if x.listed {
		s.remove(x)
	}
	if x.expiry != nil {
		x.expiry.Stop()
	}
	s.mu.Unlock()
	if x.detach != nil {
		x.detach()
	}
	x.ctx.cancel(context.Canceled)
}

// forgetServer makes the exchange forget the server's part of the connection, whose
// buffers are freed when the handler returns.
func (l *registry) forgetServer(x *exchange) {
	s := l.shard(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	x.w = nowhere{}
}

// nowhere is the ResponseWriter of an exchange that has none any more.
type nowhere struct{ http.ResponseWriter }

// swap stores a table and decides every live request again.
func (l *registry) swap(t *Table) {
	l.table.Store(t)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for x := range s.each {
			l.again(x)
		}
		s.mu.Unlock()
	}
}

// again decides one live request, under the shard's lock, and cuts it when it
// is refused or would now go to another place. A changed target path concerns
// later requests only.
func (l *registry) again(x *exchange) {
	r := x.request
	r.Time = time.Now()
	d := l.table.Load().Decide(r)
	was := x.decision.Route
	if d.Verdict != Allow {
		x.cut(d)
		return
	}
	d.Route.Path, d.Route.Prefix = was.Path, was.Prefix
	if !was.Addr6.IsValid() { // one that it gains moves nobody
		d.Route.Addr6 = was.Addr6
	}
	if d.Route != was {
		x.cut(Decision{Verdict: Unavailable, Why: "the host leads elsewhere now"})
		return
	}
	l.expire(x, d.Until)
}

// expire sees to it that a request is decided again when its permission ends.
func (l *registry) expire(x *exchange, until time.Time) {
	if x.expiry != nil {
		x.expiry.Stop()
		x.expiry = nil
	}
	if until.IsZero() {
		return
	}
	x.expiry = time.AfterFunc(time.Until(until), func() {
		s := l.shard(x)
		s.mu.Lock()
		defer s.mu.Unlock()
		if x.listed {
			l.again(x)
		}
	})
}
