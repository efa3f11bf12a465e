package git

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// An hour away, on a clock of its own: the waits grow to lastWait and no
// farther, and after the return they are as before.
func TestPollBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var at []time.Duration
		away := func() bool { s := time.Since(begin); return s > 10*time.Minute && s < 70*time.Minute }
		ended := make(chan error)
		go func() {
			ended <- poll(ctx, 30*time.Second, nil, func(context.Context) error {
				at = append(at, time.Since(begin))
				if away() {
					return errors.New("away")
				}
				return nil
			})
		}()
		time.Sleep(2 * time.Hour)
		cancel()
		<-ended
		var before, during, after int
		longest := time.Duration(0)
		for i, a := range at {
			switch {
			case a <= 10*time.Minute:
				before++
			case a < 70*time.Minute:
				during++
			default:
				after++
			}
			if i > 0 {
				longest = max(longest, a-at[i-1])
			}
		}
		if before < 16 || before > 26 || during < 11 || during > 20 || after < 80 || after > 125 || longest > lastWait*6/5 {
			t.Errorf("%d polls before, %d during an hour away, %d in the 50 minutes after; at most %s apart", before, during, after, longest)
		}
	})
}

func TestPollIsWokenWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		polls := 0
		ended := make(chan error)
		go func() {
			ended <- poll(ctx, time.Hour, wake, func(context.Context) error { polls++; return nil })
		}()
		for range 1000 { // a hundred seconds of somebody who wakes us
			hint(wake)
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		<-ended
		if polls < 45 || polls > 53 {
			t.Errorf("%d polls in 100 s, want one each %s", polls, leastGap)
		}
	})
}
