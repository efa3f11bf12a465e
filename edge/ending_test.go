package edge

import (
	"context"
	"errors"
	"testing"
)

// TestEnding: it ends once, with the first cause, and calls what is at stake
// then and nothing else.
func TestEnding(t *testing.T) {
	parent, end := context.WithCancelCause(context.WithValue(t.Context(), linkKey{}, "value"))
	e := newEnding(parent)
	var called []string
	note := func(s string) func() { return func() { called = append(called, s) } }
	e.stake(towardsContainer, note("a first connection"))
	if !e.takeBack(towardsContainer) || e.takeBack(towardsContainer) {
		t.Error("what is at stake is not taken back once")
	}
	e.stake(towardsContainer, note("container"))
	e.stake(towardsClient, note("client"))
	if e.Err() != nil || e.why() != nil || e.Value(linkKey{}) != "value" {
		t.Errorf("before the end: %v, %v", e.Err(), e.why())
	}
	child, cancel := context.WithCancel(e)
	defer cancel()
	first := errors.New("first")
	e.cancel(first)
	e.cancel(errors.New("second"))
	<-e.Done()
	<-child.Done()
	end(errors.New("third"))
	if e.why() != first || e.Err() != context.Canceled || len(called) != 2 {
		t.Errorf("%v, %v, %v", e.why(), e.Err(), called)
	}
	if e.takeBack(towardsClient) {
		t.Error("taken back after the end")
	}
	e.stake(towardsClient, note("late"))
	if len(called) != 3 {
		t.Errorf("%v", called)
	}

	cause := errors.New("the client is gone")
	parent, end = context.WithCancelCause(t.Context())
	e = newEnding(parent)
	end(cause)
	<-e.Done()
	if e.why() != cause {
		t.Errorf("the end of the context above: %v", e.why())
	}
	e = newEnding(parent) // which has ended
	<-e.Done()
	var none *ending
	if none.why() != nil {
		t.Error("a refused request has a cause")
	}
}
