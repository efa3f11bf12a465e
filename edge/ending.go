package edge

import (
	"context"
	"sync"
)

// ending is the context of an exchange. It ends by cancel, or, once it is tied,
// with the context that it has its values from, and then ends what is at stake.
// The package context can do as much, with a dozen allocations for each request.
type ending struct {
	context.Context

	mu    sync.Mutex
	leave func() bool   // ends the tie; nil: there is none
	cause error         // nil until it ends
	done  chan struct{} // nil until it is asked for
	ends  [stakes]func()
}

// What is at stake at the end of an exchange.
const (
	towardsContainer = iota
	towardsClient
	stakes
)

// newEnding ends with parent.
func newEnding(parent context.Context) *ending {
	e := &ending{Context: parent}
	e.tie()
	return e
}

// tie makes it end with the context above. It reports false if it was tied
// before.
func (e *ending) tie() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leave != nil {
		return false
	}
	if e.cause == nil {
		e.leave = context.AfterFunc(e.Context, func() { e.cancel(context.Cause(e.Context)) })
	}
	return true
}

// cancel ends it. Only the first cause counts.
func (e *ending) cancel(cause error) {
	e.mu.Lock()
	if e.cause != nil {
		e.mu.Unlock()
		return
	}
	e.cause = cause
	ends, leave := e.ends, e.leave
	e.ends = [stakes]func(){}
	if e.done != nil {
		close(e.done)
	}
	e.mu.Unlock()
	if leave != nil {
		leave()
	}
	for _, end := range ends {
		if end != nil {
			end()
		}
	}
}

// stake has end called at the end, which may be at once.
func (e *ending) stake(at int, end func()) {
	e.mu.Lock()
	ended := e.cause != nil
	if !ended {
		e.ends[at] = end
	}
	e.mu.Unlock()
	if ended {
		end()
	}
}

// takeBack undoes stake, and reports false if it came too late.
func (e *ending) takeBack(at int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	there := e.ends[at] != nil
	e.ends[at] = nil
	return there
}

// why is the cause of the end, nil before.
func (e *ending) why() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause
}

// Err implements context.Context.
func (e *ending) Err() error {
	if e.why() != nil {
		return context.Canceled
	}
	return nil
}

// Done implements context.Context.
func (e *ending) Done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
		if e.cause != nil {
			close(e.done)
		}
	}
	return e.done
}
