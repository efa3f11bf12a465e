package reconcile

import (
	"context"
	"errors"
	"time"

	"swage/runtime"
)

// lease takes the lease on the server and renews it until ctx ends. It is kept
// across passes: who has it is the only one that changes anything.
func (a *Agent) lease(ctx context.Context) error {
	rt, h := a.rt, a.Holder
	if err := rt.Lease(ctx, h); err != nil {
		return err
	}
	a.taken.Store(nil)
	a.renewals.Go(func() {
		for {
			select {
			case <-ctx.Done():
				give, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
				defer cancel()
				_ = rt.Release(give, h) // it ends by itself, too
				return
			case <-time.After(runtime.LeaseTime / 3):
			}
			err := rt.Lease(ctx, h)
			var taken *runtime.Taken
			if errors.As(err, &taken) {
				a.taken.Store(taken)
				a.hint()
			}
		}
	})
	return nil
}

// lost is who took the lease away, if somebody did.
func (a *Agent) lost() error {
	if t := a.taken.Load(); t != nil {
		return t
	}
	return nil
}
