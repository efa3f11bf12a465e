package edge

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestTie: every request ends with its client, whatever came and went before the
// tie, and what was tied is not looked at again.
func TestTie(t *testing.T) {
	table := mustCompile(t, at(netip.MustParseAddr("127.0.1.1"), nil))
	var l registry
	l.swap(table)
	type visit struct {
		x    *exchange
		gone context.CancelCauseFunc
	}
	var visits []visit
	come := func() {
		ctx, gone := context.WithCancelCause(t.Context())
		r := httptest.NewRequest(http.MethodGet, origin(80), nil).WithContext(ctx)
		r.RemoteAddr = "127.0.0.2:1024"
		x := newExchange(httptest.NewRecorder(), r)
		x.id %= 2 // the shards that are in use
		if l.admit(x); x.decision.Verdict != Allow {
			t.Fatal(x.decision.Why)
		}
		visits = append(visits, visit{x, gone})
	}
	for round := range 200 {
		for range rand.IntN(8) {
			come()
		}
		for range rand.IntN(8) {
			if len(visits) > 0 {
				i := rand.IntN(len(visits))
				l.leave(visits[i].x)
				visits = slices.Delete(visits, i, i+1)
			}
		}
		if n := l.count(); n != len(visits) {
			t.Fatalf("round %d: %d are live, want %d", round, n, len(visits))
		}
		if round%3 == 0 {
			l.tie()
		}
	}
	l.tie()
	for i, v := range visits {
		if v.x.ctx.tie() {
			t.Errorf("%d of %d is not tied", i, len(visits))
		}
	}
	come() // is not tied when its client goes
	cause := errors.New("the client is gone")
	for _, v := range visits {
		v.gone(cause)
	}
	last := visits[len(visits)-1].x
	if last.ctx.Err() != nil {
		t.Error("it ended without a tie")
	}
	l.tie()
	for i, v := range visits {
		select {
		case <-v.x.ctx.Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d does not end", i, len(visits))
		}
		if v.x.ctx.why() != cause {
			t.Errorf("%d ends with %v", i, v.x.ctx.why())
		}
	}

	// After the last tie nobody looks.
	r := last.r.Clone(last.r.Context())
	x := newExchange(httptest.NewRecorder(), r)
	if l.admit(x); x.ctx.Err() == nil {
		t.Error("a request lasts whose server has ended")
	}
}

// tied counts the live requests that end with their clients.
func (l *registry) tied() (n int) {
	for i := range l.shards {
		l.shards[i].mu.Lock()
		for x := range l.shards[i].each {
			x.ctx.mu.Lock()
			if x.ctx.leave != nil {
				n++
			}
			x.ctx.mu.Unlock()
		}
		l.shards[i].mu.Unlock()
	}
	return n
}

// TestGoneClients: the application hears of it when a client goes, over every
// version.
func TestGoneClients(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		come, left := make(chan struct{}), make(chan struct{})
		app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
			come <- struct{}{}
			<-r.Context().Done()
			left <- struct{}{}
		})
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		client := s.client(t, "127.0.0.2", version)
		for _, late := range []bool{false, true} { // after the tie
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, origin(app.Port()), nil)
				if res, err := client.Do(r); err == nil {
					res.Body.Close()
					t.Error("there is an answer")
				}
			}()
			<-come
			if late {
				until(t, "it is not tied", func() bool { return s.live.tied() == 1 })
			}
			cancel()
			<-ended
			select {
			case <-left:
			case <-time.After(10 * time.Second):
				t.Fatal("the application waits for ever")
			}
			until(t, "a request stays", func() bool { return s.live.count() == 0 })
		}
	})
}
