package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// Agent makes one server equal to its fleet, again and again. One goroutine
// runs Pass or Run and owns everything here but the report.
type Agent struct {
	Server string
	Source Source
	// Open connects the runtime. It is called again when the scope changes.
	Open func(runtime.Scope) (runtime.Runtime, error)
	// Loader reads the commits, within its limits, and remembers the files of
	// the last one.
	Loader schema.Loader
	// Keys read the secrets of environments.
	Keys schema.Keys
	// Publish is given every new table with where it is served. Its error
	// fails the pass, which goes on all the same. Nil where there is no edge.
	Publish func(Edge) error
	// Port is where clients reach the edge, for URLs. Empty: the port of the
	// first address that the server's file names.
	Port string
	// OnStep is told of each step that ended. It may be nil.
	OnStep func(StepReport)
	// Accepted remembers the last commit that could be loaded, for a restart
	// while the newest cannot be. Nil forgets.
	Accepted Memory
	// Applied remembers the last commit of which nothing was left to do, to
	// know what changed its server since. Nil forgets.
	Applied Memory
	Log     *slog.Logger

	rt    runtime.Runtime
	scope runtime.Scope
	watch func() // ends the watch of rt
	edge  error  // of the last Publish

	fleet *schema.Fleet   // accepted
	done  *schema.Fleet   // applied last, with nothing left to do
	seen  *runtime.Actual // newest knowledge; nil before the first Observe

	// For other goroutines: what was observed last, and the accepted fleet.
	state   atomic.Pointer[runtime.State]
	current atomic.Pointer[schema.Fleet]

	wake     chan struct{}       // capacity one
	again    bool                // a hint came during a pass and was not for a commit
	attempts map[string]*attempt // by key; nil outside Run, where nobody loops
	report   atomic.Pointer[Report]
}

// Edge is what the edge of a server serves, and where.
type Edge struct {
	Zone   string
	Listen []string // addresses from the server's file
	Table  *edge.Table
}

// Memory keeps one short string across restarts. Losing it costs nothing but
// what it is for.
type Memory interface {
	Load() (string, error)
	Save(string) error
}

// A step may take as long as an image takes to arrive; retry and resync are
// the loop's only clocks.
const (
	stepDeadline = 5 * time.Minute
	firstRetry   = time.Second
	lastRetry    = 2 * time.Minute
	resync       = 5 * time.Minute
	inParallel   = 8
)

// Report is the newest report; it is never nil and never changes.
func (a *Agent) Report() *Report {
	if r := a.report.Load(); r != nil {
		return r
	}
	return &Report{Server: a.Server, State: Pending}
}

// Run passes whenever something may have changed, until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	a.wake, a.attempts = make(chan struct{}, 1), map[string]*attempt{}
	go func() {
		if err := a.Source.Watch(ctx, a.wake); ctx.Err() == nil {
			a.Log.Error("the source is no longer watched; commits are seen at the next resync", "err", err)
		}
	}()
	defer func() {
		if a.watch != nil {
			a.watch()
		}
	}()
	retry := firstRetry
	for {
		// A commit that was rejected is not tried again: it stays wrong.
		r, err := a.Pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := resync
		switch {
		case r.State == Superseded || a.again:
			a.again = false
			continue
		case err != nil && (r.State == Failed || r.Rejected == nil):
			wait = retry/2 + rand.N(retry)
			retry = min(2*retry, lastRetry)
			if due := a.due(); !due.IsZero() {
				wait = max(0, time.Until(due))
			}
			a.Log.Error("pass failed", "commit", r.Commit, "err", err, "retry_in", wait.Round(time.Millisecond))
		default:
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-time.After(wait):
		}
	}
}

// Pass reads the newest commit and the real state and makes them equal. Its
// error is that of the commit, of the runtime, or of the steps that failed.
func (a *Agent) Pass(ctx context.Context) (Report, error) {
	r := Report{Server: a.Server, State: Applying, Started: time.Now()}
	if old := a.report.Load(); old != nil {
		r.Steps = old.Steps // of the last plan that had any
	}
	plan, rejected, err := a.plan(ctx, &r)
	if err == nil {
		r.Held = plan.Held
		err = a.execute(ctx, plan, &r)
	}
	err = errors.Join(err, a.edge)
	switch {
	case r.State == Superseded:
	case err != nil:
		r.State, r.Error = Failed, err.Error()
	case len(plan.Held) > 0:
		r.State = Incomplete
	default:
		r.State = Applied
		a.finished()
	}
	r.Finished = time.Now()
	a.tell(&r)
	if r.State == Applied && len(plan.Steps) > 0 {
		a.Log.Info("applied", "commit", r.Commit, "steps", len(plan.Steps), "took", r.Finished.Sub(r.Started).Round(time.Millisecond))
	}
	return r, errors.Join(rejected, err)
}

// Plan is a Pass that stops before acting.
func (a *Agent) Plan(ctx context.Context) (Plan, error) {
	var r Report
	plan, rejected, err := a.plan(ctx, &r)
	return plan, errors.Join(rejected, err)
}

// Fleet is the accepted fleet, nil before there is one. Any goroutine may ask.
func (a *Agent) Fleet() *schema.Fleet { return a.current.Load() }

// ErrNotObserved is the error of PlanFor before the first pass.
var ErrNotObserved = errors.New("the agent has not seen yet what runs here")

// PlanFor is the plan for another repository, on what was observed last. Any
// goroutine may call it.
func (a *Agent) PlanFor(ctx context.Context, tree fs.FS) (Proposal, error) {
	var out Proposal
	state := a.state.Load()
	if state == nil {
		return out, ErrNotObserved
	}
	f, err := a.load(ctx, &schema.Loader{Limits: a.Loader.Limits}, Snapshot{Tree: tree})
	if err != nil {
		return out, err
	}
	out.Add(a.Server, Diff(*state, Desired(f, a.Server), DeleteLimits(f, a.Server)), f)
	return out, nil
}

// plan does everything up to the steps. A new commit's permissions are live,
// on the addresses known last, before the runtime is even asked.
func (a *Agent) plan(ctx context.Context, r *Report) (plan Plan, rejected, err error) {
	rejected, err = a.accept(ctx, r)
	if err != nil {
		return Plan{}, nil, err
	}
	r.Commit, r.Zone = a.fleet.Commit, a.fleet.Zone(a.Server)
	if a.seen != nil {
		if err := a.publish(); err != nil {
			return Plan{}, rejected, err
		}
	}
	if err := a.open(ctx); err != nil {
		return Plan{}, rejected, err
	}
	seen, err := a.rt.Observe(ctx)
	if err != nil {
		return Plan{}, rejected, fmt.Errorf("observe: %w", err)
	}
	a.seen = &seen
	if err := a.publish(); err != nil {
		return Plan{}, rejected, err
	}
	limits := DeleteLimits(a.fleet, a.Server)
	a.holdMoved(ctx, limits)
	return Diff(seen.State, Desired(a.fleet, a.Server), limits), rejected, nil
}

// accept takes the newest commit, or keeps the last good one: what runs is
// kept running while its authors mend theirs. rejected says why.
func (a *Agent) accept(ctx context.Context, r *Report) (rejected, err error) {
	newest, err := a.Source.Latest(ctx)
	if err != nil {
		a.recall(ctx)
		if a.fleet != nil {
			return fmt.Errorf("source: %w", err), nil
		}
		return nil, fmt.Errorf("source: %w", err)
	}
	if a.fleet != nil && a.fleet.Commit == newest.Commit && newest.Commit != "local" {
		return nil, nil
	}
	fleet, err := a.load(ctx, &a.Loader, newest)
	if err == nil {
		a.fleet = fleet
		a.current.Store(fleet)
		for _, w := range slices.Concat(fleet.Warnings, NotApplied(fleet)) {
			a.Log.Warn(w.Warning(), "commit", newest.Commit)
		}
		if a.Accepted != nil {
			if err := a.Accepted.Save(newest.Commit); err != nil {
				a.Log.Error("the accepted commit cannot be remembered", "err", err)
			}
		}
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	old := a.report.Load()
	if old == nil || old.Rejected == nil || old.Rejected.Commit != newest.Commit {
		a.Log.Error("commit rejected; what runs is left as it is", "commit", newest.Commit, "err", err)
	}
	r.Rejected = &Rejected{newest.Commit, err.Error()}
	rejected = fmt.Errorf("commit %s is rejected:\n%w", newest.Commit, err)
	a.recall(ctx)
	if a.fleet == nil {
		return nil, rejected
	}
	return rejected, nil
}

// recall takes up the commit that an earlier process accepted, when this one
// has none.
func (a *Agent) recall(ctx context.Context) {
	if a.fleet != nil || a.Accepted == nil {
		return
	}
	commit, err := a.Accepted.Load()
	if err != nil || commit == "" {
		return
	}
	var fleet *schema.Fleet
	snapshot, err := a.Source.At(ctx, commit)
	if err == nil {
		fleet, err = a.load(ctx, &a.Loader, snapshot)
	}
	if err != nil {
		a.Log.Error("the last accepted commit cannot be read", "commit", commit, "err", err)
		return
	}
	a.fleet = fleet
	a.current.Store(fleet)
}

func (a *Agent) load(ctx context.Context, loader *schema.Loader, s Snapshot) (*schema.Fleet, error) {
	f, err := loader.Load(ctx, s.Tree)
	if err != nil {
		return nil, err
	}
	if _, ok := f.Servers[a.Server]; !ok {
		return nil, fmt.Errorf("the fleet has no server %q; declare it in servers/%s.cue, or correct the name in the node file", a.Server, a.Server)
	}
	if _, err := edge.Compile(Routes(f, a.Server, runtime.Actual{})); err != nil {
		return nil, err
	}
	f = revealed(f, a.Keys)
	f.Commit = s.Commit
	return f, nil
}

// open connects the runtime for the fleet's scope, and its hints.
func (a *Agent) open(ctx context.Context) error {
	scope := Scope(a.fleet, a.Server)
	if a.rt != nil && scope == a.scope {
		return nil
	}
	rt, err := a.Open(scope)
	if err != nil {
		return err
	}
	if a.watch != nil {
		a.watch()
	}
	a.rt, a.scope = rt, scope
	if a.wake != nil {
		var watching context.Context
		watching, a.watch = context.WithCancel(ctx)
		go rt.Watch(watching, a.wake) // ends with an error only when told to end
	}
	return nil
}

// publish makes the table follow what is known now.
func (a *Agent) publish() error {
	if a.Publish == nil {
		return nil
	}
	table, err := edge.Compile(Routes(a.fleet, a.Server, *a.seen))
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	a.edge = a.Publish(Edge{a.fleet.Zone(a.Server), a.fleet.Servers[a.Server].Listen, table})
	return nil
}
