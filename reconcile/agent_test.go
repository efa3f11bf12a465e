package reconcile_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

func TestMain(m *testing.M) {
	schema.EvaluateMain()
	goleak.VerifyTestMain(m)
}

// commits is a Source in memory.
type commits struct {
	mu      sync.Mutex
	all     []fs.FS
	changed chan<- struct{}
	err     error
	failAt  error                       // of At
	allowed map[int]reconcile.Allowance // by the number of a commit, from 1
	// settings are more of swage.cue; empty: no container need stay up.
	settings string
}

// push adds a commit with one project file.
func (c *commits) push(project string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, fstest.MapFS{
		"swage.cue":            {Data: []byte(cmp.Or(c.settings, "settle: \"0s\"\n") + "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n")},
		"servers/lab.cue":      {},
		"projects/web/app.cue": {Data: []byte(project)},
	})
	if c.changed != nil {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// whole is the hash of a commit, by its number.
func whole(n string) string { return strings.Repeat("0", 40-len(n)) + n }

func (c *commits) Latest(context.Context) (reconcile.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 || c.err != nil {
		return reconcile.Snapshot{}, errors.Join(errors.New("no commit"), c.err)
	}
	return reconcile.Snapshot{Commit: whole(strconv.Itoa(len(c.all))), Tree: c.all[len(c.all)-1]}, nil
}

func (c *commits) At(_ context.Context, commit string) (reconcile.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := strconv.Atoi(commit)
	if c.failAt != nil {
		return reconcile.Snapshot{}, c.failAt
	}
	if err != nil || n > len(c.all) {
		return reconcile.Snapshot{}, fmt.Errorf("no commit %s", commit)
	}
	return reconcile.Snapshot{Commit: commit, Tree: c.all[n-1]}, nil
}

func (c *commits) Allowances(_ context.Context, from, to string) ([]reconcile.Allowance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, _ := strconv.Atoi(from)
	last, _ := strconv.Atoi(to)
	var out []reconcile.Allowance
	for n := last; n > first; n-- {
		if a, ok := c.allowed[n]; ok && n > 1 {
			a.Before, a.After = c.all[n-2], c.all[n-1]
			out = append(out, a)
		}
	}
	return out, nil
}

func (c *commits) Watch(ctx context.Context, changed chan<- struct{}) error {
	c.mu.Lock()
	c.changed = changed
	c.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

type memory struct{ commit string }

func (m *memory) Load() (string, error) { return m.commit, nil }
func (m *memory) Save(c string) error   { m.commit = c; return nil }

// node is an agent with all that it works on.
type node struct {
	*reconcile.Agent
	source   *commits
	engine   *runtime.Fake
	accepted *memory
}

func newNode() *node {
	n := &node{source: &commits{}, engine: &runtime.Fake{}, accepted: &memory{}}
	n.restart()
	return n
}

// restart is a new process on the same machine.
func (n *node) restart() {
	n.Agent = &reconcile.Agent{
		Server: "lab", Source: n.source, Accepted: n.accepted, Log: slog.New(slog.DiscardHandler),
		Open:    func(s runtime.Scope) (runtime.Runtime, error) { return n.engine.Open(s), nil },
		Publish: func(reconcile.Edge) error { return nil },
	}
}

func (n *node) running(t *testing.T) string {
	t.Helper()
	scope := runtime.Scope{Fleet: "5a6b7c8d9e0f1a2b3c4d5e6f", Server: "lab", Prefix: "swage-"}
	a, err := n.engine.Open(scope).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range a.Containers {
		if c.Status == runtime.Running {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestARejectedCommitChangesNothing(t *testing.T) {
	n := newNode()
	n.source.push(`containers: {one1: {}, two2: {}}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	writes := n.engine.Writes()
	n.source.push("containers: {\n\tone1: state: \"off\"\n}")
	for _, when := range []string{"at once", "after a restart"} {
		r, err := n.Pass(t.Context())
		if err == nil || !strings.Contains(err.Error(), "projects/web/app.cue:2:15: containers.one1.state") {
			t.Errorf("%s: error %v", when, err)
		}
		if r.Rejected == nil || r.Rejected.Commit != whole("2") || r.Commit != whole("1") || r.State != reconcile.Applied {
			t.Errorf("%s: report %+v", when, r)
		}
		if n.running(t) != "one1 two2" || n.engine.Writes() != writes {
			t.Errorf("%s: %s runs, %d writes", when, n.running(t), n.engine.Writes()-writes)
		}
		n.restart()
	}
}

func TestWithoutAnyGoodCommitNothingHappens(t *testing.T) {
	n := newNode()
	if r, err := n.Pass(t.Context()); err == nil || r.State != reconcile.Failed {
		t.Errorf("empty repository: %v, %v", r.State, err)
	}
	n.source.push(`containers: {`)
	if r, err := n.Pass(t.Context()); err == nil || r.State != reconcile.Failed {
		t.Errorf("broken repository: %v, %v", r.State, err)
	}
	if n.engine.Writes() != 0 {
		t.Errorf("%d writes", n.engine.Writes())
	}
}

func TestWhatRunsIsKeptWhileTheSourceIsAway(t *testing.T) {
	n := newNode()
	n.source.push(`containers: {one1: {}, two2: {}}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.source.err = errors.New("gone fishing")
	for _, when := range []string{"at once", "after a restart"} {
		r, err := n.Pass(t.Context())
		if err == nil || r.State != reconcile.Applied || r.Commit != whole("1") || n.running(t) != "one1 two2" {
			t.Errorf("%s: %v %s, %v, %s runs", when, r.State, r.Commit, err, n.running(t))
		}
		n.restart()
	}
}

func TestAnAddressIsWithdrawnBeforeItStopsAnswering(t *testing.T) {
	n := newNode()
	var mu sync.Mutex
	var log []string
	add := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, what)
	}
	n.Agent.Publish = func(reconcile.Edge) error { add("table"); return nil }
	n.engine.Fault = func(call runtime.Call) error {
		s, after := call.Step, call.After
		_ = after
		if s == nil {
			return nil
		}
		if !after {
			add(strings.Fields(s.String())[0])
		}
		return nil
	}
	pass := func(project string, want ...string) {
		t.Helper()
		n.source.push(project)
		log = nil
		if _, err := n.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(log, want) {
			t.Errorf("%s: %v, want %v", project, log, want)
		}
	}
	// A table for what is seen, then one after each change of an address.
	pass(`containers: job: {}`, "table", "create", "table", "create", "table")
	pass(`containers: {app: {}, job: {}}`, "table", "table", "create", "table")
	// A commit's own table comes first, on the addresses known last.
	pass(`containers: {app: environment_vars: A: "1", job: {}}`, "table", "table", "table", "update", "table")
	pass(`containers: {app: {environment_vars: A: "1", state: "stopped"}, job: {}}`, "table", "table", "table", "stop", "table")
	pass(`containers: job: {}`, "table", "table", "table", "delete", "table")
}

// A container that runs on although the step failed that was to restart it is
// reached at once, not when the step is tried again.
func TestAFailedStepLeavesItsContainerReachable(t *testing.T) {
	n := newNode()
	var table *edge.Table
	n.Agent.Publish = func(e reconcile.Edge) error { table = e.Table; return nil }
	n.source.push(`containers: app: {}, aliases: site: {container: "app", program: "http", port: 18080}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.engine.Fault = func(call runtime.Call) error {
		if _, ok := call.Step.(runtime.UpdateContainer); ok && !call.After {
			return errors.New("no room")
		}
		return nil
	}
	n.source.push(`containers: app: environment_vars: A: "1", aliases: site: {container: "app", program: "http", port: 18080}`)
	r, err := n.Pass(t.Context())
	if err == nil || r.State != reconcile.Failed {
		t.Fatalf("%s, %v", r.State, err)
	}
	d := table.Decide(edge.Request{Client: netip.MustParseAddr("203.0.113.9"), Host: "site.lab.example.com", Path: "/", Time: time.Now()})
	if !d.Route.Addr.IsValid() {
		t.Errorf("it cannot be reached: %+v", d)
	}
	if line := n.Report().Containers[0]; line.Address == "" || line.State != reconcile.StateFailed {
		t.Errorf("listed as %+v", line)
	}
}

func TestDeletionsWaitUntilAllElseIsWell(t *testing.T) {
	n := newNode()
	n.source.push(`containers: {one1: {}, two2: {}}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.engine.Fault = func(call runtime.Call) error {
		s, after := call.Step, call.After
		_ = after
		if s == nil {
			return nil
		}
		if _, ok := s.(runtime.CreateContainer); ok && !after {
			return errors.New("no room")
		}
		return nil
	}
	n.source.push(`containers: {one1: {}, new: id: "111111111111111111111111"}`)
	r, err := n.Pass(t.Context())
	if err == nil || r.State != reconcile.Failed || !strings.Contains(r.Error, "no room") {
		t.Errorf("%v, %v", r.State, err)
	}
	if got := n.running(t); got != "one1 two2" {
		t.Errorf("%s runs", got)
	}
	if last := r.Steps[len(r.Steps)-1]; last.State != reconcile.Skipped {
		t.Errorf("the deletion is %+v", last)
	}
	n.engine.Fault = nil
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.running(t); got != "new one1" {
		t.Errorf("%s runs", got)
	}
}

func TestOneFailureDoesNotStopTheRest(t *testing.T) {
	n := newNode()
	n.engine.Fault = func(call runtime.Call) error {
		s, after := call.Step, call.After
		_ = after
		if s == nil {
			return nil
		}
		if s.Container().Name == "bad" && !after {
			return errors.New("broken image")
		}
		return nil
	}
	n.source.push(`containers: {bad: {}, good: {}, fine: {}}`)
	r, err := n.Pass(t.Context())
	if err == nil || r.State != reconcile.Failed {
		t.Errorf("%v, %v", r.State, err)
	}
	if got := n.running(t); got != "fine good" {
		t.Errorf("%s runs", got)
	}
}

// The loop, on a fake clock.

func TestTheLoopFollowsCommitsAndRetriesWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		failures := 3
		n.engine.Fault = func(call runtime.Call) error {
			s, after := call.Step, call.After
			_ = after
			if s == nil {
				return nil
			}
			if s.Container().Name == "flaky" && !after && failures > 0 {
				failures--
				return errors.New("not now")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Failed {
			t.Errorf("with an empty repository: %s", r.State)
		}
		n.source.push(`containers: {one1: {}, flaky: {}}`)
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Failed || n.running(t) != "one1" {
			t.Errorf("after the first failure: %s, %s runs", r.State, n.running(t))
		}
		time.Sleep(30 * time.Second) // of the fake clock: the retries
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Applied || n.running(t) != "flaky one1" {
			t.Errorf("after the retries: %s, %s runs", r.State, n.running(t))
		}
		writes := n.engine.Writes()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n.engine.Writes() != writes {
			t.Errorf("%d writes in an hour without a change", n.engine.Writes()-writes)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A container whose init ends at once, and an update that fails half-way: both
// cause the hints that wake the agent.
func TestWhatDoesNotLastIsTriedMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		starts := 0
		n.engine.Fault = func(call runtime.Call) error {
			s, after := call.Step, call.After
			_ = after
			if s == nil {
				return nil
			}
			_, ours := s.(runtime.StopContainer) // the one below: the fleet stops nothing
			if s.Container().Name == "crash" && after && !ours {
				starts++
				if starts > 10_000 {
					panic("tried without a pause")
				}
				view := n.engine.Open(runtime.Scope{Fleet: "5a6b7c8d9e0f1a2b3c4d5e6f", Server: "lab", Prefix: "swage-"})
				a, err := view.Observe(t.Context())
				if err != nil {
					return err
				}
				for _, c := range a.Containers {
					if c.Name == "crash" {
						_, err = view.Do(t.Context(), runtime.StopContainer{Target: c})
					}
				}
				return err
			}
			return nil
		}
		n.source.push(`containers: crash: {}`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		time.Sleep(time.Hour) // of the fake clock
		synctest.Wait()
		if starts < 20 || starts > 60 {
			t.Errorf("%d starts in an hour", starts)
		}
		if r := n.Report(); r.State != reconcile.Failed || !strings.Contains(r.Error, "start container web/crash: was done") {
			t.Errorf("%s: %s", r.State, r.Error)
		}
		// What is well is not held up, nor is a new commit.
		before := starts
		n.source.push(`containers: {crash: {}, fine: {}}`)
		synctest.Wait()
		if starts == before || n.running(t) != "fine" {
			t.Errorf("the new commit: %d starts more, %s runs", starts-before, n.running(t))
		}
		cancel()
		<-ended
	})
}

func TestAnEdgeThatCannotServeIsReportedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		taken, begun := errors.New("address already in use"), time.Now()
		n.Agent.Publish = func(reconcile.Edge) error {
			if time.Since(begun) < time.Second {
				return taken
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		n.source.push(`containers: one1: {}`)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Failed || r.Error != taken.Error() || n.running(t) != "one1" {
			t.Errorf("%s: %s, %s runs", r.State, r.Error, n.running(t))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Applied {
			t.Errorf("%s: %s", r.State, r.Error)
		}
		cancel()
		<-ended
	})
}

func TestANewCommitDoesNotWaitForAHungStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.Agent.Open = func(s runtime.Scope) (runtime.Runtime, error) { return hangs{n.engine.Open(s)}, nil }
		var tables int
		n.Agent.Publish = func(reconcile.Edge) error { tables++; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		n.source.push(`containers: {one1: {}, hang: {}}`)
		synctest.Wait()
		if r := n.Report(); r.Commit != whole("1") || r.State != reconcile.Applying {
			t.Errorf("while a step hangs: %s %s", r.Commit, r.State)
		}
		tables = 0
		n.source.push(`containers: {one1: {}, two2: id: "222222222222222222222222"}`)
		synctest.Wait()
		if r := n.Report(); r.Commit != whole("2") || r.State != reconcile.Applied || n.running(t) != "one1 two2" {
			t.Errorf("the new commit: %s %s, %s runs", r.Commit, r.State, n.running(t))
		}
		if tables == 0 {
			t.Error("no table for the new commit")
		}
		cancel()
		<-ended
	})
}

func TestWhatIsNotBegunAtTheEndKeepsItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		fleet := func(value string) string {
			var b strings.Builder
			for i := range 20 {
				fmt.Fprintf(&b, "containers: \"app-%d\": environment_vars: A: %q\n", i, value)
			}
			return b.String()
		}
		n.source.push(fleet("1"))
		if _, err := n.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.restart()
		n.Agent.Open = func(s runtime.Scope) (runtime.Runtime, error) { return stuck{n.engine.Open(s)}, nil }
		n.source.push(fleet("2"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-ended
		served := 0
		for _, c := range n.Report().Containers {
			if c.Address != "" {
				served++
			}
		}
		if served != 12 { // all but the eight that were begun
			t.Errorf("%d containers keep their address", served)
		}
	})
}

// stuck never ends an update.
type stuck struct{ runtime.Runtime }

func (s stuck) Do(ctx context.Context, step runtime.Step) (runtime.Done, error) {
	if _, ok := step.(runtime.UpdateContainer); ok {
		<-ctx.Done()
		return runtime.Done{}, ctx.Err()
	}
	return s.Runtime.Do(ctx, step)
}

// TestARevocationDoesNotWaitForAHungStep: what a commit takes away is gone
// while a step of the same commit hangs and ignores that it was told to end;
// so is what the next commit takes away.
func TestARevocationDoesNotWaitForAHungStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		release := make(chan struct{})
		n.Agent.Open = func(s runtime.Scope) (runtime.Runtime, error) { return deaf{n.engine.Open(s), release}, nil }
		var table atomic.Pointer[edge.Table]
		n.Agent.Publish = func(e reconcile.Edge) error { table.Store(e.Table); return nil }
		may := func(from string) edge.Verdict {
			return table.Load().Decide(edge.Request{
				Host: "app.lab.example.com", Path: "/", Client: netip.MustParseAddr(from), Time: time.Now(),
			}).Verdict
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		commit := func(more, ranges string) {
			n.source.push(`containers: one1: {}
				aliases: app: container: "one1"
				permissions: {groups: those: {type: "ip", ranges: [` + ranges + `]}, permissions: those: http: true}
			` + more)
			synctest.Wait()
		}
		commit("", `"192.0.2.1", "192.0.2.2", "192.0.2.3"`)
		for _, from := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			if v := may(from); v != edge.Allow {
				t.Errorf("at first %s: %v", from, v)
			}
		}
		commit(`containers: hang: {}`, `"192.0.2.1", "192.0.2.2"`)
		if r := n.Report(); !strings.HasSuffix(r.Commit, "2") || r.State != reconcile.Applying || may("192.0.2.3") != edge.Deny || may("192.0.2.2") != edge.Allow {
			t.Errorf("while a step hangs: %s %s; revoked %v, kept %v", r.Commit, r.State, may("192.0.2.3"), may("192.0.2.2"))
		}
		commit(`containers: hang: {}`, `"192.0.2.1"`)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if may("192.0.2.2") != edge.Deny || may("192.0.2.1") != edge.Allow {
			t.Errorf("the next commit, while the step still hangs: revoked %v, kept %v", may("192.0.2.2"), may("192.0.2.1"))
		}
		close(release)
		cancel()
		<-ended
	})
}

// deaf never ends steps on containers called hang before it is released.
type deaf struct {
	runtime.Runtime
	release <-chan struct{}
}

func (d deaf) Do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	if s.Container().Name == "hang" {
		<-d.release
	}
	return d.Runtime.Do(ctx, s)
}

// hangs never ends steps on containers called hang.
type hangs struct{ runtime.Runtime }

func (h hangs) Do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	if s.Container().Name == "hang" {
		<-ctx.Done()
		return runtime.Done{}, ctx.Err()
	}
	return h.Runtime.Do(ctx, s)
}

// [F7] A changed server neither deletes on one nor creates on the other, also
// after a restart and for commits that leave it as it is.
func TestAChangedServerCreatesNothing(t *testing.T) {
	n := newNode()
	push := func(server, extra string) {
		n.source.push("project: id: \"67e89abc123def456789abcd\"\ncontainers: {own: server: \"lab\", app: {server: \"" + server + "\"}" + extra + "}")
		n.source.all[len(n.source.all)-1].(fstest.MapFS)["servers/two.cue"] = &fstest.MapFile{}
	}
	pass := func(want reconcile.CommitState, runs string) {
		t.Helper()
		r, err := n.Pass(t.Context())
		if err != nil || r.State != want || n.running(t) != runs {
			t.Errorf("%v, %s, %s runs, held %v", err, r.State, n.running(t), r.Held)
		}
	}
	push("two", "")
	pass(reconcile.Applied, "own")
	push("lab", "")
	pass(reconcile.Incomplete, "own")
	n.restart()
	pass(reconcile.Incomplete, "own")
	push("lab", ", more: server: \"lab\"")
	pass(reconcile.Incomplete, "more own")
	push("two", ", more: server: \"lab\"")
	pass(reconcile.Applied, "more own")
}
