package reconcile

import (
	"context"
	"sync"
)

// turns lets one at a time. The zero value is ready for use.
type turns struct {
	once sync.Once
	free chan struct{}
}

// turn is a turn that may be taken. One goroutine uses it.
type turn struct {
	of    *turns
	taken bool
}

func (t *turns) turn() *turn {
	t.once.Do(func() { t.free = make(chan struct{}, 1) })
	return &turn{of: t}
}

// take waits until nobody else has a turn, or until ctx ends.
func (t *turn) take(ctx context.Context) error {
	select {
	case t.of.free <- struct{}{}:
		t.taken = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end is called always, and does nothing if the turn was never taken.
func (t *turn) end() {
	if t.taken {
		t.taken = false
		<-t.of.free
	}
}
