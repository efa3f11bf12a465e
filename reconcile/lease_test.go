package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"swage/reconcile"
	"swage/runtime"
)

// badLease has a daemon that does not renew leases when it should not.
type badLease struct {
	runtime.Runtime
	on   func() bool
	call func(context.Context) error
}

func (b badLease) Lease(ctx context.Context, h runtime.Holder) error {
	if b.on() {
		if err := b.call(ctx); err != nil {
			return err
		}
	}
	return b.Runtime.Lease(ctx, h)
}

// TestL7NothingIsBegunWithoutTheLease: however renewals fail, no step is begun
// once the last one that succeeded is older than the lease less a margin, and
// the rest is done when they succeed again.
func TestL7NothingIsBegunWithoutTheLease(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(context.Context) error
		told string
	}{
		{"it hangs until its deadline", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "no answer in 15s"},
		{"it hangs whatever its deadline", func(context.Context) error { time.Sleep(10 * time.Minute); return errors.New("late") }, "the lease could not be renewed"},
		{"it fails", func(context.Context) error { return errors.New("no room") }, "no room"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode()
				n.engine.Now = time.Now
				var mu sync.Mutex
				var renewed time.Time // the begin of the last call that succeeded
				var late []string
				ailing, begun := false, 0
				ails := func() bool { mu.Lock(); defer mu.Unlock(); return ailing }
				n.engine.Fault = func(call runtime.Call) error {
					mu.Lock()
					switch {
					case call.Method == "Lease" && call.After:
						renewed = time.Now()
					case call.Method == "Do" || call.Method == "Note":
						if age := time.Since(renewed); !call.After && age > runtime.LeaseTime*3/4 {
							late = append(late, fmt.Sprintf("%s %v after %s", call.Method, call.Step, age))
						}
						if call.Method == "Do" && !call.After {
							if begun++; begun == 2 {
								ailing = true
							}
							mu.Unlock()
							time.Sleep(9 * time.Second)
							return nil
						}
					}
					mu.Unlock()
					return nil
				}
				open := n.Open
				n.Open = func(s runtime.Scope) (runtime.Runtime, error) {
					rt, err := open(s)
					return badLease{rt, ails, c.call}, err
				}
				n.source.settings = "parallel: 1\n"
				n.source.push(`containers: {aaa: {}, bbb: {}, ccc: {}, ddd: {}, eee: {}, fff: {}, ggg: {}, hhh: {}, iii: {}, jjj: {}}`)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- n.Run(ctx) }()
				defer func() { cancel(); <-ended; time.Sleep(time.Hour) }()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				mu.Lock()
				if len(late) > 0 {
					t.Errorf("begun without the lease:\n%s", strings.Join(late, "\n"))
				}
				if begun < 4 || begun > 7 {
					t.Errorf("%d steps were begun", begun)
				}
				ailing = false
				mu.Unlock()
				if r := n.Report(); r.State != reconcile.Failed || !strings.Contains(r.Error, c.told) {
					t.Errorf("%s: %s", r.State, r.Error)
				}
				time.Sleep(15 * time.Minute)
				synctest.Wait()
				if r := n.Report(); r.State != reconcile.Applied || n.running(t) != "aaa bbb ccc ddd eee fff ggg hhh iii jjj" {
					t.Errorf("when it renews again: %s %s; %s run", r.State, r.Error, n.running(t))
				}
			})
		})
	}
}

// TestL7TheLeaseOfTheNextScope: what is opened anew has its lease, and not the end
// of the one before.
func TestL7TheLeaseOfTheNextScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.engine.Now = time.Now
		n.Holder = runtime.Holder{Name: "the first"}
		n.engine.Fault = func(c runtime.Call) error {
			if c.Method == "Release" && !c.After {
				time.Sleep(time.Second)
			}
			return nil
		}
		n.source.push(`containers: aaa: {}`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		n.source.mu.Lock()
		tree := maps.Clone(n.source.all[0].(fstest.MapFS))
		tree["servers/lab.cue"] = &fstest.MapFile{Data: []byte(`network: bridge: "incusbr1"`)}
		n.source.all = append(n.source.all, tree)
		n.source.mu.Unlock()
		n.source.changed <- struct{}{}
		time.Sleep(10 * time.Second)
		other := runtime.Holder{Name: "the second"}
		var taken *runtime.Taken
		if err := n.engine.Open(scope).Lease(t.Context(), other); !errors.As(err, &taken) {
			t.Errorf("another takes the lease: %v", err)
		}
	})
}
