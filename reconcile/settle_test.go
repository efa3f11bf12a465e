package reconcile_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swage/reconcile"
	"swage/runtime"
)

// lives has each init of a container end after a time, in turn, the last one
// for every start that follows; 0: it stays. restart: another init follows at
// once, as when the container reboots itself.
func lives(e *runtime.Fake, name string, restart bool, spans ...time.Duration) {
	e.Fault = func(call runtime.Call) error {
		if call.Step == nil || !call.After || call.Step.Container().Name != name || len(spans) == 0 {
			return nil
		}
		switch call.Step.(type) {
		case runtime.CreateContainer, runtime.StartContainer, runtime.UpdateContainer:
		default:
			return nil
		}
		span := spans[0]
		if len(spans) > 1 {
			spans = spans[1:]
		}
		id := call.Step.Container().ID
		if span > 0 {
			time.AfterFunc(span, func() {
				if restart {
					e.Restart(id)
					return
				}
				e.Meddle(id, func(c *runtime.Container) { c.Status = runtime.Stopped })
			})
		}
		return nil
	}
}

// states runs a new agent for a while and gives the states of its commit in turn.
func (n *node) states(t *testing.T, span time.Duration) []reconcile.CommitState {
	t.Helper()
	n.restart()
	var out []reconcile.CommitState
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		synctest.Wait()
		if r := n.Report(); len(out) == 0 || out[len(out)-1] != r.State {
			out = append(out, r.State)
		}
	}
	cancel()
	<-ended
	return out
}

const appID = "890abcdef12345678901cdef"

// L3, [R9] A container without a health check that ends within settle, or whose
// init restarts, fails its commit, which stays failed until a start has lasted.
func TestL3DeployedMeansItStays(t *testing.T) {
	for _, test := range []struct {
		name    string
		restart bool
		spans   []time.Duration
		want    []reconcile.CommitState // but for those before the first that is not applying
		why     string
	}{
		{"it stays", false, []time.Duration{0}, []reconcile.CommitState{"applied"}, ""},
		{"ends at once", false, []time.Duration{time.Millisecond}, []reconcile.CommitState{"failed"}, "container web/app did not stay up: it ended within 100ms of its start"},
		{"ends after a second", false, []time.Duration{time.Second}, []reconcile.CommitState{"failed"}, "it ended within 1.1s of its start"},
		{"ends just before it counts", false, []time.Duration{2950 * time.Millisecond}, []reconcile.CommitState{"failed"}, "it ended within 3s of its start"},
		{"restarts its init", true, []time.Duration{time.Second}, []reconcile.CommitState{"failed", "applied"}, ""},
		{"ends twice, then stays", false, []time.Duration{time.Second, time.Second, 0}, []reconcile.CommitState{"failed", "applied"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode()
				n.source.settings = "parallel: 8\n" // the default settle
				lives(n.engine, "app", test.restart, test.spans...)
				n.source.push(`containers: app: id: "` + appID + `"`)
				got := n.states(t, 3*time.Minute)
				got = slices.DeleteFunc(got, func(s reconcile.CommitState) bool {
					return s == reconcile.Applying || s == reconcile.Pending || s == reconcile.Interrupted
				})
				if !slices.Equal(got, test.want) {
					t.Errorf("states %v, want %v", got, test.want)
				}
				r := n.Report()
				if !strings.Contains(r.Error, test.why) || (test.why == "") != (r.Error == "") {
					t.Errorf("error %q, want %q in it", r.Error, test.why)
				}
				want := reconcile.StateRunning
				if test.why != "" {
					want = reconcile.StateFailed
				}
				if c := r.Containers[0]; c.State != want || !strings.Contains(c.Reason, test.why) {
					t.Errorf("container %s (%s), want %s", c.State, c.Reason, want)
				}
				for _, h := range r.History {
					if test.why != "" && h.State != reconcile.Failed {
						t.Errorf("history has %s", h.State)
					}
				}
			})
		})
	}
}

// A container that lasts for settle and ends a little later, again and again, is
// not deployed in between.
func TestL3EndingLaterAgainAndAgainIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.source.settings = "parallel: 8\n"
		lives(n.engine, "app", false, 10*time.Second)
		n.source.push(`containers: app: id: "` + appID + `"`)
		begun := time.Now()
		n.states(t, 10*time.Minute)
		events, _ := n.Events(0)
		for _, e := range events {
			if e.Type == reconcile.CommitEnded && e.Text == string(reconcile.Applied) && e.Time.Sub(begun) > time.Minute {
				t.Errorf("applied after %s, of a container that ends every ten seconds", e.Time.Sub(begun))
			}
		}
		if r := n.Report(); r.State != reconcile.Failed {
			t.Errorf("%s", r.State)
		}
	})
}

// One pass, as swage apply makes it, waits and fails as well, without a hint.
func TestL3OnePass(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode()
			n.source.settings = "settle: \"5s\"\n"
			lives(n.engine, "app", restart, 2*time.Second)
			n.source.push(`containers: {app: id: "` + appID + `", other: {}}`)
			r, err := n.Pass(t.Context())
			if err == nil || r.State != reconcile.Failed || !strings.Contains(r.Error, "container web/app did not stay up") || strings.Contains(r.Error, "other") {
				t.Errorf("restart %t: %s, %v", restart, r.State, err)
			}
		})
	}
}

// Without a wait asked for, running is enough.
func TestL3SettleOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.source.push(`containers: app: {}`)
		begun := time.Now()
		if r, err := n.Pass(t.Context()); err != nil || r.State != reconcile.Applied || time.Since(begun) > 0 {
			t.Errorf("%s, %v, after %s", r.State, err, time.Since(begun))
		}
	})
}

// What runs for long is waited for neither after a restart of the agent nor when
// a commit leaves it as it is.
func TestL3OnlyWhatStartsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.source.settings = "parallel: 8\n"
		n.source.push(`containers: app: id: "` + appID + `"`)
		if _, err := n.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.restart()
		n.source.push(`containers: app: {id: "` + appID + `", comment: "live"}`)
		begun := time.Now()
		if r, err := n.Pass(t.Context()); err != nil || r.State != reconcile.Applied || time.Since(begun) > 0 {
			t.Errorf("%s, %v, after %s", r.State, err, time.Since(begun))
		}
		n.source.push(`containers: app: {id: "` + appID + `", comment: "live", environment_vars: A: "1"}`) // restarts it
		begun = time.Now()
		if r, err := n.Pass(t.Context()); err != nil || r.State != reconcile.Applied || time.Since(begun) < 3*time.Second {
			t.Errorf("%s, %v, after %s", r.State, err, time.Since(begun))
		}
	})
}

// With rollback: "auto" a commit whose container does not stay up is put back,
// after as many starts as a step may fail.
func TestL3WhatDoesNotStayIsRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.source.settings = "rollback: \"auto\"\n"
		n.source.push(`containers: app: id: "` + appID + `"`)
		n.states(t, 10*time.Second)
		if r := n.Report(); r.State != reconcile.Applied {
			t.Fatalf("%s: %s", r.State, r.Error)
		}
		lives(n.engine, "app", false, time.Second, time.Second, time.Second, 0)
		n.source.push(`containers: app: {id: "` + appID + `", environment_vars: PORT: "99999999"}`)
		got := n.states(t, time.Minute)
		r := n.Report()
		if r.State != reconcile.RolledBack || r.Standing.Commit != whole("1") || r.Newest != whole("2") || !strings.Contains(r.Standing.Reason, "did not stay up") {
			t.Errorf("%v; %s of %s, newest %s: %+v", got, r.State, r.Commit, r.Newest, r.Standing)
		}
		if slices.Contains(got, reconcile.Applied) {
			t.Errorf("states %v", got)
		}
	})
}

// An alias moves to a container that has stayed up, and what it led to is
// deleted after that.
func TestL3AnAliasWaitsUntilItsTargetHasStayedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.source.settings = "parallel: 8\n"
		n.source.push(`containers: blue: {}, aliases: "my-app": {container: "blue", program: "http"}`)
		n.states(t, 10*time.Second)
		lives(n.engine, "green", false, time.Second)
		n.source.push(`containers: green: id: "` + appID + `", aliases: "my-app": {container: "green", program: "http"}`)
		n.states(t, time.Minute)
		if r := n.Report(); r.State != reconcile.Failed || r.Aliases[0].Container != "web/blue" || !strings.Contains(n.running(t), "blue") {
			t.Errorf("%s: the alias leads to %s; %s runs", r.State, r.Aliases[0].Container, n.running(t))
		}
		n.engine.Fault = nil
		n.states(t, 5*time.Minute)
		if r := n.Report(); r.State != reconcile.Applied || r.Aliases[0].Container != "web/green" || n.running(t) != "green" {
			t.Errorf("%s: the alias leads to %s; %s runs", r.State, r.Aliases[0].Container, n.running(t))
		}
	})
}
