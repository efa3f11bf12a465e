package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"swage/runtime"
)

// The lease is renewed long before its end. Another may take it LeaseTime after
// the last success, by a clock of its own, so nothing is begun leaseMargin before
// that.
const (
	leaseRenewal = runtime.LeaseTime / 3
	leaseAgain   = runtime.LeaseTime / 12 // after a renewal that failed
	leaseCall    = runtime.LeaseTime / 4  // deadline of one call
	leaseMargin  = runtime.LeaseTime / 4
)

// lease is the right to change what runs on the server, as long as it lasts. Any
// goroutine may use it.
type lease struct {
	rt     runtime.Runtime
	holder runtime.Holder
	taken  atomic.Pointer[runtime.Taken] // who took it away
	// renewed is when the last call that succeeded began: it counts from then at
	// the latest.
	renewed atomic.Pointer[time.Time]
	over    chan struct{} // closed when it was given up
}

// renew takes the lease or makes it last longer.
func (l *lease) renew(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, leaseCall, fmt.Errorf("no answer in %s", leaseCall))
	defer cancel()
	begun := time.Now()
	err := l.rt.Lease(limited, l.holder)
	if taken, ok := errors.AsType[*runtime.Taken](err); ok {
		l.taken.Store(taken)
		return err
	}
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("take the lease: %w", context.Cause(limited))
		}
		return err
	}
	l.renewed.Store(&begun)
	return nil
}

// left is how long steps may still be begun.
func (l *lease) left() time.Duration {
	at := *l.renewed.Load()
	now := time.Now()
	// The clock that knows no jumps stands still while the machine sleeps.
	age := max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
	return runtime.LeaseTime - leaseMargin - age
}

// err is why nothing may be begun; nil: it may.
func (l *lease) err() error {
	if t := l.taken.Load(); t != nil {
		return t
	}
	if left := l.left(); left <= 0 {
		return fmt.Errorf("the lease could not be renewed for %s, so nothing more is begun; it goes on when Incus answers", (runtime.LeaseTime - leaseMargin - left).Round(time.Second))
	}
	return nil
}

// leased is a runtime that changes nothing without the lease.
type leased struct {
	runtime.Runtime
	lease *lease
}

func (r leased) Do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	if err := r.lease.err(); err != nil {
		return runtime.Done{}, err
	}
	return r.Runtime.Do(ctx, s)
}

func (r leased) Note(ctx context.Context, key, value string) error {
	if err := r.lease.err(); err != nil {
		return err
	}
	return r.Runtime.Note(ctx, key, value)
}

// hold takes the lease on the server and renews it until ctx ends. It is kept
// across passes: who has it is the only one that changes anything.
func (a *Agent) hold(ctx context.Context) error {
	l := &lease{rt: a.rt, holder: a.Holder, over: make(chan struct{})}
	if err := l.renew(ctx); err != nil {
		return err
	}
	a.lease, a.rt = l, leased{a.rt, l}
	a.renewals.Go(func() {
		defer close(l.over)
		for wait := leaseRenewal; ; {
			select {
			case <-ctx.Done():
				give, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
				defer cancel()
				_ = l.rt.Release(give, l.holder) // it ends by itself, too
				return
			case <-time.After(wait):
			}
			wait = leaseRenewal
			if l.renew(ctx) == nil {
				continue
			}
			if wait = leaseAgain; l.err() != nil {
				a.hint()
			}
		}
	})
	return nil
}

// letGo ends the watch of the runtime and gives the lease up. It waits until
// that is done, or as good as: given up later, it would be the next one's.
func (a *Agent) letGo() {
	if a.leave == nil {
		return
	}
	l := a.lease
	a.leave()
	a.leave, a.rt, a.lease = nil, nil, nil
	if l == nil {
		return
	}
	select {
	case <-l.over:
	case <-time.After(2 * grace):
	}
}

// lost is why nothing may be changed any more; nil where it may, or where the
// lease was never taken.
func (a *Agent) lost() error {
	if a.lease == nil {
		return nil
	}
	return a.lease.err()
}

// leaseEnds tells when the lease may have come to its end, unless it is renewed.
func (a *Agent) leaseEnds() <-chan time.Time {
	if a.lease == nil {
		return nil
	}
	return time.After(max(a.lease.left(), time.Millisecond))
}
