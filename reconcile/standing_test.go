package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
)

// start runs the agent until the test ends, or stop is called.
func (n *node) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			cancel()
			<-ended
		}
		stopped = true
	}
	t.Cleanup(stop)
	return stop
}

func (n *node) await(t *testing.T, state reconcile.CommitState, running string) {
	t.Helper()
	await(t, string(state)+" with "+running, func() bool { return n.Report().State == state && n.running(t) == running })
}

// [R9] A pinned commit stays, whatever is pushed and whoever runs the agent,
// until resume.
func TestRollbackPinsUntilResume(t *testing.T) {
	n := newNode()
	stop := n.start(t)
	n.source.push(`containers: {one1: {}, two2: {}}`)
	n.await(t, reconcile.Applied, "one1 two2")
	n.source.push(`containers: {one1: {}, two2: {}, three3: {}}`)
	n.await(t, reconcile.Applied, "one1 three3 two2")
	for _, wrong := range []string{"c", "c999", "nothing"} {
		if err := n.Rollback(t.Context(), wrong, ""); err == nil {
			t.Errorf("rolled back to %q", wrong)
		}
	}
	if err := n.Rollback(t.Context(), whole("1"), "three3 was a mistake"); err != nil {
		t.Fatal(err)
	}
	n.await(t, reconcile.Pinned, "one1 two2")
	n.source.push(`containers: {one1: {}, two2: {}, four4: {}}`)
	await(t, "the newest is told", func() bool { return n.Report().Newest == whole("3") })
	if r := n.Report(); r.Commit != whole("1") || r.Standing.Reason != "three3 was a mistake" || n.running(t) != "one1 two2" {
		t.Errorf("%+v, %s runs", r.Standing, n.running(t))
	}
	stop()
	n.restart()
	n.start(t)
	n.await(t, reconcile.Pinned, "one1 two2")
	if err := n.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.await(t, reconcile.Applied, "four4 one1 two2")
	if err := n.Resume(t.Context()); err == nil {
		t.Error("resumed twice")
	}
	var story []string
	for _, e := range n.Report().History {
		story = append(story, e.Commit[39:]+" "+string(e.State)+" "+strings.Join(e.Deleted, ","))
	}
	if want := []string{"3 applied ", "1 pinned web/three3", "2 applied ", "1 applied "}; !slices.Equal(story, want) {
		t.Errorf("history %q, want %q", story, want)
	}
}

// [R9] A commit that cannot be applied is not pinned, and the author's problems
// are the answer.
func TestRollbackToABadCommitIsRefused(t *testing.T) {
	n := newNode()
	n.start(t)
	n.source.push(`containers: one1: colour: "red"`)
	n.source.push(`containers: one1: {}`)
	n.await(t, reconcile.Applied, "one1")
	err := n.Rollback(t.Context(), whole("1"), "")
	if err == nil || !strings.Contains(err.Error(), "projects/web/app.cue:1:") {
		t.Errorf("%v", err)
	}
	if n.Report().Standing != nil {
		t.Errorf("%+v", n.Report().Standing)
	}
}

// [R9] While suspended nothing is changed: no commit, no permission, no drift,
// also by the next agent.
func TestSuspend(t *testing.T) {
	n := newNode()
	var table atomic.Pointer[edge.Table]
	publish := func(e reconcile.Edge) error { table.Store(e.Table); return nil }
	n.Agent.Publish = publish
	allowed := func() bool {
		d := table.Load().Decide(edge.Request{Client: netip.MustParseAddr("203.0.113.9"), Host: "site.lab.example.com", Path: "/", Time: time.Now()})
		return d.Verdict == edge.Allow
	}
	stop := n.start(t)
	n.source.push(`containers: one1: {}, aliases: site: {container: "one1", program: "http", port: 18080}`)
	n.await(t, reconcile.Applied, "one1")
	if err := n.Suspend(t.Context(), "a disk is replaced"); err != nil {
		t.Fatal(err)
	}
	n.await(t, reconcile.Suspended, "one1")
	n.source.push(`containers: {one1: {}, two2: {}}, aliases: site: {container: "one1", program: "http", port: 18080}, permissions: default: "deny"`)
	await(t, "the newest is told", func() bool { return n.Report().Newest == whole("2") })
	n.engine.Meddle(n.id(t, "one1"), func(c *runtime.Container) { c.Env = map[string]string{"BY": "hand"} })
	stop()
	n.restart()
	n.Agent.Publish = publish
	n.start(t)
	n.await(t, reconcile.Suspended, "one1")
	if c := n.observe(t).Containers[0]; c.Env["BY"] != "hand" || !allowed() || n.Report().Commit != whole("1") {
		t.Errorf("%+v, allowed %t, commit %s", c.Env, allowed(), n.Report().Commit)
	}
	if err := n.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.await(t, reconcile.Applied, "one1 two2")
	if c := n.observe(t).Containers[0]; c.Env["BY"] != "" || allowed() {
		t.Errorf("%+v, allowed %t", c.Env, allowed())
	}
}

// A note that somebody wrote by hand might have said anything: nothing is
// changed.
func TestANoteThatCannotBeReadSuspends(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: one1: {}`)
	if err := n.engine.Open(scope).Note(t.Context(), "standing", "nonsense"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := n.pass(t, `containers: two2: {}`); r.State != reconcile.Suspended || n.running(t) != "one1" || !strings.Contains(r.Standing.Reason, "swage resume") {
			t.Errorf("%s, %s runs, %+v", r.State, n.running(t), r.Standing)
		}
		n.restart()
	}
}

// [R9] A commit that was applied is not rolled back when it fails later: there
// is nothing better.
func TestAnAppliedCommitIsNotRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.source.settings = "rollback: \"auto\"\nsettle: \"0s\"\n"
		stop := n.start(t)
		n.source.push(`containers: one1: {}`)
		n.await(t, reconcile.Applied, "one1")
		n.source.push(`containers: {one1: {}, two2: {}}`)
		n.await(t, reconcile.Applied, "one1 two2")
		n.engine.Fault = func(c runtime.Call) error {
			if _, ok := c.Step.(runtime.StartContainer); ok {
				return errors.New("it does not start any more")
			}
			return nil
		}
		n.engine.Meddle(n.id(t, "two2"), func(c *runtime.Container) { c.Status = runtime.Stopped })
		time.Sleep(10 * time.Minute) // of the fake clock
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Failed || r.Commit != whole("2") || r.Standing != nil {
			t.Errorf("%s %s %+v", r.Commit, r.State, r.Standing)
		}
		stop()
	})
}

// [R9] With rollback: "auto" a commit whose container never gets healthy is put
// back to the one before, with the permissions that it brought; a new commit
// ends that.
func TestACommitThatFailsIsRolledBack(t *testing.T) {
	n := newNode()
	n.source.settings = "rollback: \"auto\"\nsettle: \"0s\"\n"
	var table atomic.Pointer[edge.Table]
	publish := func(e reconcile.Edge) error { table.Store(e.Table); return nil }
	n.Agent.Publish = publish
	allowed := func(host string) bool {
		d := table.Load().Decide(edge.Request{Client: netip.MustParseAddr("203.0.113.9"), Host: host + ".lab.example.com", Path: "/", Time: time.Now()})
		return d.Verdict == edge.Allow
	}
	stop := n.start(t)
	n.source.push(`containers: {app: environment_vars: V: "1", old1: {}}
aliases: {site: {container: "app", port: 18080}, gone: {container: "app", port: 18080}}`)
	n.await(t, reconcile.Applied, "app old1")
	n.source.push(`containers: {app: {
	environment_vars: V: "2"
	health: {port: 18080, interval: "50ms", deadline: "300ms"}
	permissions: default: "deny"
}, new1: {id: "333333333333333333333333"}}
aliases: site: {container: "app", port: 18080}`)
	rolledBack := func() {
		t.Helper()
		n.await(t, reconcile.RolledBack, "app new1 old1")
		r := n.Report()
		if s := r.Standing; r.Commit != whole("2") || s == nil || s.Commit != whole("1") || !strings.Contains(s.Reason, "health: web/app") {
			t.Errorf("commit %s, %+v", r.Commit, s)
		}
		for _, c := range n.observe(t).Containers {
			if c.Name == "app" && c.Env["V"] != "1" {
				t.Errorf("app has %v", c.Env)
			}
		}
		if allowed("site") || allowed("gone") {
			t.Error("what the commit closed is open again")
		}
		if i := slices.IndexFunc(r.Held, func(h reconcile.Held) bool { return h.Ref == "web/new1" }); i < 0 || !strings.Contains(r.Held[i].Why, "rolled back") {
			t.Errorf("held %+v", r.Held)
		}
	}
	rolledBack()
	if e := n.Report().History[0]; e.Commit != whole("2") || e.State != reconcile.RolledBack {
		t.Errorf("history begins with %+v", e)
	}
	stop()
	n.restart()
	n.Agent.Publish = publish
	n.start(t)
	rolledBack()

	// Suspended, it stays as it is; resumed, the commit is tried and fails again.
	if err := n.Suspend(t.Context(), "think first"); err != nil {
		t.Fatal(err)
	}
	n.await(t, reconcile.Suspended, "app new1 old1")
	if s := n.Report().Standing; s.Commit != whole("1") || s.Failed != whole("2") {
		t.Errorf("suspended with %+v", s)
	}
	if err := n.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the failed commit is tried", func() bool { return n.Report().Standing == nil })
	rolledBack()

	n.source.push(`containers: {app: environment_vars: V: "3", old1: {}, new1: id: "333333333333333333333333"}`)
	n.await(t, reconcile.Applied, "app new1 old1")
	if r := n.Report(); r.Standing != nil || r.Commit != whole("3") {
		t.Errorf("%s, %+v", r.Commit, r.Standing)
	}
	if n.observe(t).Notes["standing"] != "" {
		t.Error("the rollback is still noted")
	}
}

// [R9] Rolling back neither makes again what the commit deleted nor deletes
// what it no longer declares.
func TestARollbackUndoesNoDeletion(t *testing.T) {
	n := newNode()
	n.source.settings = "rollback: \"auto\"\nsettle: \"0s\"\n"
	var table atomic.Pointer[edge.Table]
	n.Agent.Publish = func(e reconcile.Edge) error { table.Store(e.Table); return nil }
	n.start(t)
	n.source.push(`containers: {app: {}, old1: id: "111111111111111111111111", old2: id: "222222222222222222222222"}`)
	n.await(t, reconcile.Applied, "app old1 old2")
	n.source.push(`containers: app: health: {port: 18080, interval: "50ms", deadline: "500ms"}`)
	await(t, "the check begins", func() bool { return n.Report().Commit == whole("2") })
	if _, err := n.engine.Open(scope).Do(t.Context(), runtime.DeleteContainer{Target: runtime.Container{ID: "111111111111111111111111", Project: "web", Name: "old1"}}); err != nil {
		t.Fatal(err)
	}
	n.await(t, reconcile.RolledBack, "app old2")
	host := fmt.Sprintf("%s-222222222222222222222222-http.lab.example.com", n.Report().Projects[0].ID)
	if d := table.Load().Decide(edge.Request{Client: netip.MustParseAddr("203.0.113.9"), Host: host, Path: "/", Time: time.Now()}); d.Verdict != edge.Unavailable || !d.Closed {
		t.Errorf("old2: %+v", d)
	}
	for _, c := range n.Report().Containers {
		if c.Name == "old2" && len(c.URLs) > 0 {
			t.Errorf("its hosts answer nobody, and it has %v", c.URLs)
		}
	}
}
