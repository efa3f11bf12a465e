package limit

import (
	"sync/atomic"
	"time"
)

// How slow a client may be. There is no limit on a whole body: only the time
// that is waited for the client counts, and each byte earns more of it.
const (
	Grace = 30 * time.Second // for the first bytes, and for lapses
	Bytes = 500              // in each second on the average
	Stall = 2 * time.Minute  // for the next bytes, whatever was earned
)

// Rate is how a client keeps up in one direction. One goroutine calls Begin and
// End, any TooSlow.
type Rate struct {
	since  atomic.Int64 // when the wait that lasts began, in nanoseconds since 1970; 0: none does
	waited atomic.Int64 // nanoseconds in waits that ended
	bytes  atomic.Int64
}

// Begin tells that the client is waited for from now on.
func (r *Rate) Begin() { r.since.Store(time.Now().UnixNano()) }

// End tells that it took or gave so many bytes.
func (r *Rate) End(n int) {
	r.waited.Add(time.Now().UnixNano() - r.since.Load())
	r.bytes.Add(int64(n))
	r.since.Store(0)
}

// Forgive has the wait that lasts begin anew, without counting what has passed of
// it.
func (r *Rate) Forgive() {
	if since := r.since.Load(); since != 0 {
		r.since.CompareAndSwap(since, time.Now().UnixNano())
	}
}

// Waits says that the client is waited for.
func (r *Rate) Waits() bool { return r.since.Load() != 0 }

// TooSlow judges the wait that lasts, for a chunk of so many bytes.
func (r *Rate) TooSlow(now time.Time, chunk int64) bool {
	since := r.since.Load()
	if since == 0 {
		return false
	}
	wait := time.Duration(now.UnixNano() - since)
	earned := time.Duration(r.bytes.Load()+chunk) * (time.Second / Bytes)
	return wait > Stall || wait+time.Duration(r.waited.Load()) > Grace+earned
}
