package git

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	lastWait = 5 * time.Minute // between polls that fail, if polls are not rarer
	// leastGap is between two polls, however often somebody wakes us.
	leastGap = 2 * time.Second
)

// Watch polls the other side, and tells when there is another commit or
// another error.
func (r *Remote) Watch(ctx context.Context, changed chan<- struct{}) error {
	told := r.state()
	return poll(ctx, r.every, r.wake, func(ctx context.Context) error {
		before := r.lastError()
		err := r.sync(ctx)
		if ctx.Err() != nil {
			return err
		}
		if text(err) != text(before) {
			if err != nil {
				r.log.Error("the source cannot be read; what runs is left as it is", "err", err)
			} else {
				r.log.Info("the source can be read again")
			}
		}
		if now := r.state(); now != told {
			told = now
			hint(changed)
		}
		return err
	})
}

func (r *Remote) lastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// poll calls once at about every interval, and when woken, until ctx ends.
// While it fails, the waits become longer.
func poll(ctx context.Context, every time.Duration, wake <-chan struct{}, once func(context.Context) error) error {
	failed := 0
	for {
		began := time.Now()
		if err := once(ctx); err != nil {
			failed++
		} else {
			failed = 0
		}
		timer := time.NewTimer(wait(every, failed))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake:
			timer.Reset(leastGap - time.Since(began))
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// wait is spread by a fifth to both sides, so that many agents do not ask at
// the same moment.
func wait(every time.Duration, failed int) time.Duration {
	for range failed {
		if every < lastWait {
			every = min(2*every, lastWait)
		}
	}
	return every*4/5 + rand.N(every*2/5+1)
}
