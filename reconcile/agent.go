package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
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
	// Token says that the node has a token of its own, so that the API and
	// the repository are served also where the fleet names none.
	Token bool
	// Approved is the id of a plan whose held deletions a pass does.
	Approved string
	// Unsynchronised, if not nil, tells whether the node's clock is not kept
	// right by anybody.
	Unsynchronised func() bool
	// ClientAddresses, if not nil, tells why containers do not see the
	// addresses of their callers; empty, they do.
	ClientAddresses func() string
	// Holder is who takes the lease on the server.
	Holder runtime.Holder
	// Accepted remembers the last commit that could be loaded, for a restart
	// while the newest cannot be. Nil forgets.
	Accepted Memory
	// Signers must have signed a commit that follows one without signers of
	// its own, or none.
	Signers schema.Signers
	// Trusted remembers the signers of the last accepted commit. Nil forgets.
	Trusted Memory
	Log     *slog.Logger

	rt       runtime.Runtime
	scope    runtime.Scope
	acting   bool   // a pass, not a plan: it holds the lease
	leave    func() // ends the watch of rt and gives the lease up
	renewals sync.WaitGroup
	lease    *lease
	edge     error // of the last Publish

	newest  *schema.Fleet            // accepted
	fleet   *schema.Fleet            // in force: the newest, unless there is a Standing
	rolled  *rolled                  // in force for a commit that was rolled back
	before  *schema.Fleet            // in force before, until what it alone declares is marked
	done    *schema.Fleet            // applied last, with nothing left to do
	leads   map[string]lead          // by alias: what it led to last
	earlier map[string]*schema.Fleet // by commit, that containers are kept by
	// unreadable are commits that could not be read when they were last needed.
	unreadable []string
	seen       *runtime.Actual // newest knowledge; nil before the first Observe
	kept       map[runtime.ID]Declaration

	schedules map[runtime.ID]schedule // of snapshots

	vitals map[string]*vital       // by ref
	starts map[runtime.ID]*startup // of containers that have not lasted yet
	// failing is the commit that has failed and is tried again.
	failing failing
	probes  sync.WaitGroup

	weighing turns // of plans: one large tree at a time is in memory

	// For other goroutines: what was observed last, the accepted fleet, and
	// what was published.
	state     atomic.Pointer[runtime.Actual]
	current   atomic.Pointer[schema.Fleet]
	published atomic.Pointer[told]
	compared  atomic.Pointer[earlierFleets]
	signing   atomic.Pointer[schema.Signers] // of the commit accepted last, whatever is in force
	last      atomic.Pointer[string]         // that commit
	letIn     atomic.Pointer[string]         // see ApproveCommit

	stale    atomic.Bool   // secrets may have other values
	wake     chan struct{} // capacity one
	asks     chan func(context.Context)
	journal  journal
	repairs  repairs
	said     Report              // that ended last
	moved    bool                // the Standing changed since the pass began
	again    bool                // a hint came during a pass and was not for a commit
	attempts map[string]*attempt // by beginning; nil outside Run, where nobody loops
	report   atomic.Pointer[Report]
}

// Edge is what the edge of a server serves, and where.
type Edge struct {
	Zone         string
	Listen, HTTP []string // addresses from the server's file
	TLS          schema.TLS
	Bridge       string // that the containers are attached to
	// Balancers speak the PROXY protocol; nobody else does.
	Balancers []netip.Prefix
	Table     *edge.Table
}

// Memory keeps one short string across restarts. Losing it costs nothing but
// what it is for.
type Memory interface {
	Load() (string, error)
	Save(string) error
}

// A step may take as long as an image takes to arrive; retries and resync are
// the loop's only clocks.
const (
	stepDeadline = 5 * time.Minute
	seekDeadline = 15 * time.Second // for another server's engine, and what another's instance holds
	firstRetry   = time.Second
	lastRetry    = 2 * time.Minute
	leaseRetry   = 5 * time.Second // while another holds the lease
	resync       = 5 * time.Minute
	inParallel   = 8
	grace        = 2 * time.Second // for what was told to end
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
	a.asks = make(chan func(context.Context))
	go func() {
		if err := a.Source.Watch(ctx, a.wake); ctx.Err() == nil {
			a.Log.Error("the source is no longer watched; commits are seen at the next resync", "err", err)
		}
	}()
	defer a.close()
	retry := firstRetry
	for {
		// A commit that was rejected is not tried again: it stays wrong.
		r, err := a.Pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := resync
		switch {
		case r.State == Superseded || r.State == Interrupted || a.again:
			a.again = false
			continue
		case err != nil && (r.State == Failed || r.Rejected == nil):
			wait = retry/2 + rand.N(retry)
			retry = min(2*retry, lastRetry)
			if due := a.due(); !due.IsZero() {
				wait = max(0, time.Until(due))
			}
			if _, taken := errors.AsType[*runtime.Taken](err); taken { // nobody tells when it ends
				wait = min(wait, leaseRetry)
			}
			a.Log.Error("pass failed", "commit", r.Commit, "err", err, "retry_in", wait.Round(time.Millisecond))
		default:
			retry = firstRetry
		}
		if due := a.snapshotDue(); !due.IsZero() {
			wait = min(wait, max(time.Until(due), time.Second)) // not at once: it may just have failed
		}
		if awaitsPorts(r.Held) {
			wait = min(wait, portRetry)
		}
		timer := time.After(wait)
		for idle := true; idle; {
			select {
			case <-ctx.Done():
				return nil
			case ask := <-a.asks:
				ask(ctx)
				continue
			case <-a.wake:
			case <-timer:
			}
			idle = false
		}
	}
}

// hint wakes the loop, or does nothing where there is none.
func (a *Agent) hint() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// close ends what outlives a pass.
func (a *Agent) close() {
	a.letGo()
	a.rest()
	a.renewals.Wait()
}

// Pass reads the newest commit and the real state and makes them equal. Its
// error is that of the commit, of the runtime, or of the steps that failed.
func (a *Agent) Pass(ctx context.Context) (Report, error) {
	r := Report{Server: a.Server, State: Applying, Started: time.Now()}
	if old := a.report.Load(); old != nil {
		r.Steps = old.Steps // of the last plan that had any
	}
	a.acting = true
	if a.wake == nil {
		defer a.close()
	}
	plan, rejected, err := a.plan(ctx, &r)
	suspended := r.Standing != nil && r.Standing.Mode == ModeSuspended
	if err == nil {
		r.Held, r.Drift, r.Conflicts = plan.Held, plan.Drift, plan.Conflicts
	}
	if err == nil && !suspended {
		err = a.mark(ctx, plan)
	}
	if err == nil && !suspended {
		if err = a.execute(ctx, plan, &r); err != nil && ctx.Err() == nil && a.lost() == nil {
			r.RollsBack = a.rollBack(ctx, err)
		}
	}
	err = errors.Join(err, a.edge)
	if ctx.Err() == nil && a.rt != nil && a.lost() == nil && !suspended {
		a.marked(ctx)
		a.noteLeads(ctx)
	}
	switch {
	case r.State == Superseded || r.State == Interrupted:
	case err != nil:
		r.State, r.Error = Failed, err.Error()
	case suspended:
		r.State = Suspended
	case r.Standing != nil && r.Standing.Mode == ModeRolledBack:
		r.State = RolledBack
	case len(plan.Held) > 0:
		r.State = Incomplete
	default:
		r.State = Applied
		if r.Standing != nil {
			r.State = Pinned
		}
		a.finished(ctx)
	}
	a.failing.follow(&r)
	r.Finished = time.Now()
	if ctx.Err() == nil && a.rt != nil && a.seen != nil && a.lost() == nil {
		a.record(ctx, &r)
	}
	a.ended(&r)
	a.tell(&r)
	if r.State == Applied && len(plan.Steps) > 0 {
		a.Log.Info("applied", "commit", r.Commit, "steps", len(plan.Steps), "took", r.Finished.Sub(r.Started).Round(time.Millisecond))
	}
	return r, errors.Join(rejected, err)
}

// Plan is a Pass that stops before acting.
func (a *Agent) Plan(ctx context.Context) (Plan, error) {
	var r Report
	a.acting = false
	plan, rejected, err := a.plan(ctx, &r)
	return plan, errors.Join(rejected, err)
}

// Fleet is the accepted fleet, nil before there is one. Any goroutine may ask.
func (a *Agent) Fleet() *schema.Fleet { return a.current.Load() }

// Applied is the commit that was applied last with nothing left to do, as the
// server remembers it: empty where there is none. It is known after a Plan or a
// Pass, to the goroutine that made it.
func (a *Agent) Applied() string {
	if a.seen == nil {
		return ""
	}
	return a.seen.Notes[noteApplied]
}

// ErrNotObserved is the error of PlanFor before the first pass.
var ErrNotObserved = errors.New("the agent has not seen yet what runs here")

// PlanFor is the plan for another repository, on what was observed last. It
// reads nothing of this machine: see unresolved. Any goroutine may call it.
func (a *Agent) PlanFor(ctx context.Context, tree fs.FS) (Proposal, error) {
	return a.PlanAfter(ctx, tree, func(string) ([]Allowance, error) { return nil, nil }, nil)
}

// PlanAfter is PlanFor a commit: allowances are those of the commits that lead to
// it from the one applied last, and judge, if not nil, refuses its fleet.
func (a *Agent) PlanAfter(ctx context.Context, tree fs.FS, allowances func(applied string) ([]Allowance, error), judge func(*schema.Fleet) error) (Proposal, error) {
	var out Proposal
	turn := a.weighing.turn()
	defer turn.end()
	f, err := a.Loader.Trial(ctx, tree, turn.take)
	if err != nil {
		return out, err
	}
	if _, ok := f.Servers[a.Server]; !ok {
		return out, a.notServer()
	}
	if judge != nil {
		if err := judge(f); err != nil {
			return out, err
		}
	}
	f = unresolved(f, a.Fleet(), a.Server)
	f = revealGroups(f, schema.Keys{}, func(schema.Pos, string, error) {}) // of plain ones the form
	if _, err := edge.Compile(Routes(f, a.Server, View{})); err != nil {
		return out, err
	}
	state := a.state.Load()
	if state == nil {
		return out, ErrNotObserved
	}
	terms, earlier := TermsOf(f, a.Server), a.compared.Load()
	terms.Now = time.Now()
	if earlier != nil {
		holdMoved(terms, f, earlier.applied, goneElsewhere(state.Notes))
		terms.last = earlier.applied
	}
	if applied := state.Notes[noteApplied]; applied != "" {
		list, err := allowances(applied)
		if err != nil {
			return out, fmt.Errorf("commit trailers: %w", err)
		}
		terms.Allowed = a.deletable(ctx, list)
	}
	plan := Diff(state.State, Desired(f, a.Server), terms)
	access, err := a.accessAfter(f, state, plan)
	if err != nil {
		return out, err
	}
	out.Refused = earlier.refusals(f)
	out.Add(a.Server, plan, access, f)
	out.AddRights(a.inForce().fleet, f)
	return out, ctx.Err()
}

func (a *Agent) notServer() error {
	return fmt.Errorf("the fleet has no server %q; declare it in servers/%s.cue, or correct the name in the node file", a.Server, a.Server)
}

// plan does everything up to the steps. A new commit's permissions are live,
// on the addresses known last, before the runtime is even asked.
func (a *Agent) plan(ctx context.Context, r *Report) (plan Plan, rejected, err error) {
	rejected, err = a.accept(ctx, r)
	if err != nil {
		return Plan{}, nil, err
	}
	if err := a.settle(ctx, r); err != nil {
		return Plan{}, rejected, err
	}
	if a.seen != nil {
		a.keep(ctx)
		if err := a.publish(); err != nil {
			return Plan{}, rejected, err
		}
	}
	if err := a.open(ctx); err != nil {
		return Plan{}, rejected, a.blind(err)
	}
	seen, err := a.rt.Observe(ctx)
	if err != nil {
		return Plan{}, rejected, a.blind(fmt.Errorf("observe: %w", err))
	}
	a.seen = &seen
	accepted := a.newest.Commit
	if replayed, err := a.confirm(ctx); err != nil {
		return Plan{}, rejected, err
	} else if replayed != nil && rejected == nil { // else it was recalled from the folder
		a.reject(r, accepted, replayed)
		rejected = replayed
	}
	if err := a.settle(ctx, r); err != nil {
		return Plan{}, rejected, err
	}
	a.endStopping()
	a.judgeStarts(a.seen)
	if a.acting && a.standing() == nil && a.newest.Commit != Folder { // a rollback that is over
		if err := a.stand(ctx, nil); err != nil {
			return Plan{}, rejected, err
		}
	}
	a.recallBefore(ctx)
	a.recallDone(ctx)
	a.recallLeads(ctx)
	a.keep(ctx)
	if err := a.publish(); err != nil {
		return Plan{}, rejected, err
	}
	terms, err := a.terms(ctx)
	if err != nil {
		return Plan{}, rejected, err
	}
	want := Desired(a.fleet, a.Server)
	terms.Since = a.watchSchedules(want, terms.Now)
	plan = Diff(seen.State, want, terms)
	applied := seen.Notes[noteApplied]
	held := slices.ContainsFunc(plan.Held, func(h Held) bool { return h.Plan != "" })
	if !held || applied == "" {
		return plan, rejected, nil
	}
	list, err := a.Source.Allowances(ctx, applied, a.fleet.Commit)
	if err != nil {
		return Plan{}, rejected, fmt.Errorf("commit trailers: %w", err)
	}
	terms.Allowed = a.deletable(ctx, list)
	return Diff(seen.State, want, terms), rejected, nil
}

// terms adds what only the server and the history know to what the fleet says.
func (a *Agent) terms(ctx context.Context) (Terms, error) {
	t := TermsOf(a.fleet, a.Server)
	t.ApprovedPlan, t.Now, t.last = a.Approved, time.Now(), a.done
	holdMoved(t, a.fleet, a.done, goneElsewhere(a.seen.Notes))
	if a.rolled != nil && a.fleet == a.rolled.fleet {
		t.RolledBack = map[runtime.ID]bool{}
		for _, h := range a.seen.Containers {
			_, t.RolledBack[h.ID] = a.declared(a.rolled.of, h)
		}
	}
	var err error
	if t.Approved, err = a.approved(ctx); err != nil {
		return t, err
	}
	for ref, m := range t.Making {
		if m.Adopt == "" && m.Origin == nil || a.present(ref) {
			continue
		}
		var found runtime.Container
		var err error
		limited, cancel := context.WithTimeout(ctx, seekDeadline)
		if m.Origin != nil {
			found, err = a.rt.Seek(limited, *m.Origin)
		} else {
			found, err = a.rt.Inspect(limited, m.Adopt)
		}
		cancel()
		if m.NotFound = err; err == nil {
			m.Found = &found
		}
		t.Making[ref] = m
	}
	return t, nil
}

// present reports whether what the fleet calls ref is there, whatever its name.
func (a *Agent) present(ref string) bool {
	return slices.ContainsFunc(a.seen.Containers, func(h runtime.Container) bool {
		d, ok := a.declared(a.fleet, h)
		return ok && d.Project.Name+"/"+d.Container.Name == ref
	})
}

// accept takes the newest commit, or keeps the last good one: what runs is
// kept running while its authors mend theirs. rejected says why.
func (a *Agent) accept(ctx context.Context, r *Report) (rejected, err error) {
	a.reread(ctx)
	newest, err := a.Source.Latest(ctx)
	if newest.Commit == "" {
		if a.recall(ctx); a.newest == nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		r.Source = err.Error()
		return fmt.Errorf("source: %w", err), nil
	}
	if err != nil {
		r.Source = err.Error()
	}
	if a.newest != nil && a.newest.Commit == newest.Commit && newest.Commit != Folder {
		return nil, nil
	}
	var fleet *schema.Fleet
	if err = a.signed(ctx, newest.Commit); err == nil {
		fleet, err = a.load(ctx, &a.Loader, newest)
	}
	if err == nil {
		err = a.sameFleet(ctx, fleet)
	}
	if err == nil {
		err = a.trust(fleet)
	}
	if err == nil {
		a.newest = fleet
		a.accepted(fleet)
		for _, w := range fleet.Warnings {
			a.Log.Warn(w.Warning(), "commit", newest.Commit)
		}
		a.remember(newest.Commit)
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a.reject(r, newest.Commit, err)
	rejected = fmt.Errorf("commit %s is rejected:\n%w", newest.Commit, err)
	a.recall(ctx)
	if a.newest == nil {
		return nil, rejected
	}
	return rejected, nil
}

// sameFleet refuses a commit of another fleet than the one accepted last, also
// by an earlier process. Where that cannot be read, nothing tells.
func (a *Agent) sameFleet(ctx context.Context, f *schema.Fleet) error {
	was := a.newest
	if was == nil && a.Accepted != nil {
		if commit, err := a.Accepted.Load(); err == nil && commit != "" && commit != f.Commit {
			was = a.at(ctx, commit)
		}
	}
	if was == nil {
		return nil
	}
	if found := schema.OtherFleet(was, f); len(found) > 0 {
		return found
	}
	return nil
}

// reject tells of a commit that is not applied, once.
func (a *Agent) reject(r *Report, commit string, why error) {
	old := a.report.Load()
	if old == nil || old.Rejected == nil || old.Rejected.Commit != commit {
		a.Log.Error("commit rejected; what runs is left as it is", "commit", commit, "err", why)
		a.journal.add(Event{Type: CommitRejected, Commit: commit, Text: "rejected", Error: why.Error()})
	}
	r.Rejected = &Rejected{commit, why.Error()}
}

// recall takes up the commit that an earlier process accepted, when this one
// has none.
func (a *Agent) recall(ctx context.Context) {
	if a.newest != nil || a.Accepted == nil {
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
	a.newest = fleet
}

func (a *Agent) load(ctx context.Context, loader *schema.Loader, s Snapshot) (*schema.Fleet, error) {
	f, err := loader.Load(ctx, s.Tree)
	if err != nil {
		return nil, err
	}
	if _, ok := f.Servers[a.Server]; !ok {
		return nil, a.notServer()
	}
	f = revealGroups(revealed(f, a.Keys), a.Keys, func(at schema.Pos, group string, err error) {
		a.Log.Warn("a group matches nobody: its secret cannot be read", "commit", s.Commit, "at", at.String(), "group", group, "err", err)
	})
	if _, err := edge.Compile(Routes(f, a.Server, View{})); err != nil {
		return nil, err
	}
	f.Commit = s.Commit
	return f, nil
}

// open connects the runtime for the fleet's scope, takes the lease and its
// hints.
func (a *Agent) open(ctx context.Context) error {
	scope := Scope(a.fleet, a.Server)
	if a.rt != nil && scope == a.scope && a.lost() == nil {
		return nil
	}
	a.letGo()
	rt, err := a.Open(scope)
	if err != nil {
		return err
	}
	a.rt, a.scope = rt, scope
	holding, leave := context.WithCancel(ctx)
	if a.acting {
		if err := a.hold(holding); err != nil {
			leave()
			a.rt, a.lease = nil, nil
			return err
		}
	}
	a.leave = leave
	if a.wake != nil {
		go rt.Watch(holding, a.wake) // ends with an error only when told to end
		go rt.Guard(holding, a.guarded)
	}
	return nil
}

// blind serves that nothing runs, while nothing was ever seen: a client is then
// told to come again instead of finding nobody. Beside another agent nothing is
// served.
func (a *Agent) blind(err error) error {
	var taken *runtime.Taken
	if a.seen != nil || a.Publish == nil || errors.As(err, &taken) {
		return err
	}
	a.seen = &runtime.Actual{}
	published := a.publish()
	a.seen, a.leads = nil, nil
	return errors.Join(err, published)
}

// view is what is known now, and where each alias leads in a table of it.
func (a *Agent) view() (View, map[string]lead) {
	stay, leads := a.followAliases()
	return View{Actual: *a.seen, Kept: a.kept, Stay: stay, Token: a.Token}, leads
}

// publish makes the table follow what is known now.
func (a *Agent) publish() error {
	if a.Publish == nil {
		return nil
	}
	view, leads := a.view()
	table, err := edge.Compile(Routes(a.fleet, a.Server, view))
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	a.published.Store(&told{a.fleet, table, view.Kept, view.Stay})
	a.leads = leads
	server := a.fleet.Servers[a.Server]
	a.edge = a.Publish(Edge{
		Zone: a.fleet.Zone(a.Server), Listen: server.Listen, HTTP: server.HTTP, TLS: server.TLS,
		Bridge: server.Bridge, Balancers: server.Balancers, Table: table,
	})
	return nil
}
