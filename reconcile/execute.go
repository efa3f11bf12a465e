package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"swage/runtime"
)

// execute does the steps of a plan: each once those it waits for went well,
// some at a time. A failure ends what waits for it and nothing else, but what
// destroys comes only after all else went well.
func (a *Agent) execute(ctx context.Context, plan Plan, r *Report) error {
	x := &execution{agent: a, plan: plan, report: r, began: time.Now(), events: make(chan event), quit: make(chan struct{}), tries: map[string]*attempt{}}
	defer close(x.quit)
	if len(plan.Steps) > 0 {
		r.Steps = nil
	}
	for _, s := range plan.Steps {
		line := StepReport{Step: s.String(), Effect: s.Effect(), State: Waiting, Container: s.Container().Ref()}
		if s.Container().Name == "" {
			line.Container = ""
		}
		r.Steps = append(r.Steps, line)
	}
	maps.DeleteFunc(a.attempts, func(_ string, t *attempt) bool { return t.over(r.Commit) })
	x.build()
	a.tell(r)
	x.run(ctx)
	if x.withdrew && ctx.Err() == nil && a.lost() == nil {
		x.readmit(ctx)
	}
	return errors.Join(x.failed...)
}

// node is a step, or the wait for a container to be healthy or to have lasted.
type node struct {
	step  int    // index into the plan; -1 for a check
	ref   string // of a check
	lasts bool   // it checks that a container stays up, not its health
	late  int    // see lateness
	waits int    // for so many nodes
	next  []int  // nodes that wait for this one
	state nodeState
	try   *attempt // that it is part of; nil outside Run
}

type nodeState int

const (
	pending nodeState = iota
	running
	passed
	failed
)

type execution struct {
	agent  *Agent
	plan   Plan
	report *Report
	nodes  []node
	events chan event
	quit   chan struct{} // closed when nobody reads events any more
	failed []error

	began    time.Time
	looked   time.Time // see look
	withdrew bool      // a step failed that its container's address was withdrawn for

	// tries are the attempts at objects that were begun; nil ones outside Run.
	tries map[string]*attempt

	steps, checks int    // that run now
	open          [4]int // nodes by lateness that have not ended
	broken        int    // lateness of the earliest failure, plus one
}

// event is what a worker tells the goroutine that owns the state.
type event struct {
	node  int
	phase string // of a step that goes on; else it has ended
	done  runtime.Done
	took  time.Duration
	err   error
}

// build makes the graph: the steps with what they wait for, and a check behind
// the steps of each container whose health is not known, which those that
// depend on it wait for.
func (x *execution) build() {
	ends := map[string]int{} // node that is the last of a container, by chain
	for i, s := range x.plan.Steps {
		x.nodes = append(x.nodes, node{step: i, late: lateness(s)})
		if c := s.Container(); c.Name != "" && lateness(s) == 0 {
			ends[chain(s)] = i
		}
	}
	last := map[string]int{} // by ref
	for _, i := range ends {
		last[x.plan.Steps[i].Container().Ref()] = i
	}
	link := func(from, to int) {
		x.nodes[from].next = append(x.nodes[from].next, to)
		x.nodes[to].waits++
	}
	for i, after := range x.plan.After {
		for _, on := range after {
			link(on, i)
		}
	}
	check := map[string]int{}
	for _, ref := range x.agent.unexamined(x.plan) {
		n := len(x.nodes)
		x.nodes = append(x.nodes, node{step: -1, ref: ref})
		check[ref] = n
		if on, ok := last[ref]; ok {
			link(on, n)
		}
	}
	for _, ref := range x.agent.unsettled(x.plan) {
		n := len(x.nodes)
		x.nodes = append(x.nodes, node{step: -1, ref: ref, lasts: true})
		if on, ok := last[ref]; ok {
			link(on, n)
		}
	}
	begun := map[string]bool{}
	for i, s := range x.plan.Steps {
		if _, stops := s.(runtime.StopContainer); stops || s.Container().Name == "" || lateness(s) > 0 || begun[chain(s)] {
			continue
		}
		begun[chain(s)] = true
		end := x.plan.Steps[ends[chain(s)]]
		if !runs(end) {
			continue
		}
		c := end.Container()
		for _, name := range c.DependsOn {
			if on, ok := check[c.Project+"/"+name]; ok {
				link(on, i)
			}
		}
	}
	for _, n := range x.nodes {
		x.open[n.late]++
	}
}

// run returns when nothing runs any more and nothing more can be begun.
func (x *execution) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		if ctx.Err() == nil && x.agent.lost() == nil {
			x.start(ctx)
		}
		if x.steps+x.checks == 0 {
			break
		}
		if x.agent.again && x.steps == 0 { // a health that is waited for must not hide drift
			x.report.State = Interrupted
			break
		}
		select {
		case e := <-x.events:
			x.handle(ctx, e)
			continue
		case ask := <-x.agent.asks:
			ask(ctx)
			continue
		case <-x.agent.wake:
			if !x.agent.newerCommit(ctx) {
				x.agent.again = true
				continue
			}
			x.report.State = Superseded
		case <-x.agent.leaseEnds():
			if x.agent.lost() == nil { // it was renewed
				continue
			}
		case <-ctx.Done():
		}
		break
	}
	if x.steps+x.checks > 0 {
		cancel()
		x.drain(ctx)
	}
	if err := errors.Join(x.agent.lost(), ctx.Err()); err != nil && x.report.State != Superseded && x.report.State != Interrupted {
		x.failed = append(x.failed, err)
	}
	why := "was not begun"
	if ctx.Err() == nil && x.agent.lost() == nil && len(x.failed) == 0 && x.open != [4]int{} {
		why = "waits for itself: depends_on and copy_from form a circle"
		x.failed = append(x.failed, errors.New(why))
	}
	for i := range x.nodes {
		if x.nodes[i].state == pending {
			x.skip(i, why)
		}
	}
	x.agent.tell(x.report)
}

// drain waits a little for those that were told to end. A worker that does not
// heed its end is left behind; what it did shows in the next observation.
func (x *execution) drain(ctx context.Context) {
	abandon := time.After(grace)
	for x.steps+x.checks > 0 {
		select {
		case e := <-x.events:
			x.handle(ctx, e)
		case <-abandon:
			return
		}
	}
}

// start begins what may begin, the earliest first.
func (x *execution) start(ctx context.Context) {
	most := cmp.Or(x.agent.fleet.Parallel, inParallel)
	for i := range x.nodes {
		n := &x.nodes[i]
		if n.state != pending || n.waits > 0 || !x.turn(i) {
			continue
		}
		if n.step < 0 {
			wait := x.check
			if n.lasts {
				wait = x.waitUntilSettled
			}
			if wait(ctx, i); n.state != running {
				x.start(ctx) // what waited for it may begin, or has ended, too
				return
			}
			continue
		}
		if x.steps >= most {
			continue
		}
		if x.postpone(i) {
			x.start(ctx) // what waited for it has ended, too
			return
		}
		x.begin(ctx, i)
	}
}

// turn reports whether the time of a kind of step has come. What may not come
// any more is skipped.
func (x *execution) turn(i int) bool {
	late := x.nodes[i].late
	for earlier := range late {
		if x.open[earlier] > 0 {
			return false
		}
	}
	if late < 3 && x.broken > 0 && x.broken <= late {
		x.skip(i, "waits until everything else is well")
		return false
	}
	return true
}

func (x *execution) begin(ctx context.Context, i int) {
	n := &x.nodes[i]
	step := x.plan.Steps[n.step]
	n.state = running
	x.steps++
	k := key(step)
	if _, ok := x.tries[k]; !ok {
		x.tries[k] = x.agent.begin(step, x.report.Commit)
	}
	n.try = x.tries[k]
	x.report.Steps[n.step].State, x.report.Steps[n.step].Started = Doing, time.Now()
	if step.Effect() != runtime.Live {
		x.withdraw(step.Container().ID) // before it stops answering
	}
	if s, ok := step.(runtime.CopyContainer); ok && s.From == "" { // made a moment ago
		for _, h := range x.agent.seen.Containers {
			if h.Ref() == s.Of {
				s.From = h.ID
			}
		}
		step = s
	}
	x.agent.tell(x.report)
	rt := x.agent.rt // which a pass may replace while the step is under way
	go func() {
		start := time.Now()
		limited, cancel := context.WithTimeout(ctx, stepDeadline)
		defer cancel()
		limited = runtime.WithPhase(limited, func(phase string) { x.send(event{node: i, phase: phase}) })
		done, err := rt.Do(limited, step)
		x.send(event{node: i, done: done, took: time.Since(start), err: err})
	}()
}

// check waits for the health of a container.
func (x *execution) check(ctx context.Context, i int) {
	n := &x.nodes[i]
	v := x.agent.examine(n.ref)
	if v == nil { // it does not run, which is another's failure
		x.end(i, nil)
		return
	}
	n.state = running
	x.checks++
	x.agent.tell(x.report)
	go func() { x.send(event{node: i, err: v.wait(ctx)}) }()
}

func (x *execution) send(e event) {
	select {
	case x.events <- e:
	case <-x.quit:
	}
}

// handle runs in the owner: it alone changes what is known, the table and the
// report.
func (x *execution) handle(ctx context.Context, e event) {
	n := &x.nodes[e.node]
	if n.lasts {
		x.settled(ctx, e)
		return
	}
	if n.step < 0 {
		x.checks--
		if e.err == nil {
			x.publish() // aliases may follow now
		}
		x.end(e.node, e.err)
		x.agent.tell(x.report)
		return
	}
	step, line := x.plan.Steps[n.step], &x.report.Steps[n.step]
	if e.phase != "" {
		line.Phase = e.phase
		x.agent.tell(x.report)
		return
	}
	x.steps--
	line.Phase, line.Millis = "", e.took.Milliseconds()
	if e.err != nil {
		line.State, line.Error = Broken, withoutStep(step, e.err)
		x.withdrew = x.withdrew || step.Effect() != runtime.Live
	} else {
		line.State = Done
		if startsInit(step) && e.done.Container.Status == runtime.Running {
			times := 0
			if n.try != nil {
				times = n.try.times
			}
			x.agent.started(e.done.Container.ID, times)
		}
		x.learn(step, e.done)
	}
	x.end(e.node, e.err)
	x.agent.stepped(*line, x.report.Commit)
	x.agent.tell(x.report)
}

// end settles a node and what waits for it.
func (x *execution) end(i int, err error) {
	n := &x.nodes[i]
	x.open[n.late]--
	if err == nil {
		n.state = passed
		for _, next := range n.next {
			x.nodes[next].waits--
		}
		return
	}
	n.state = failed
	x.failed = append(x.failed, err)
	if x.broken == 0 || n.late < x.broken-1 {
		x.broken = n.late + 1
	}
	if n.try != nil {
		n.try.fail(err)
	}
	x.skipNext(i)
}

// skip ends a node that is not begun, and what waits for it.
func (x *execution) skip(i int, why string) {
	n := &x.nodes[i]
	if n.state != pending {
		return
	}
	n.state = failed
	x.open[n.late]--
	if n.step >= 0 {
		x.report.Steps[n.step].State, x.report.Steps[n.step].Error = Skipped, why
	}
	x.skipNext(i)
}

func (x *execution) skipNext(i int) {
	for _, next := range x.nodes[i].next {
		x.skip(next, "waits for "+x.name(i))
	}
}

// name is what a person waits for.
func (x *execution) name(i int) string {
	n := x.nodes[i]
	switch {
	case n.lasts:
		return n.ref + " to stay up"
	case n.step < 0:
		return n.ref + " to be healthy"
	}
	return "the step: " + x.plan.Steps[n.step].String()
}

// withoutStep is an error without the name of the step that it stands beside.
func withoutStep(step runtime.Step, err error) string {
	return strings.TrimPrefix(err.Error(), step.String()+": ")
}

// postpone reports whether it is too early for a step, and ends it then.
func (x *execution) postpone(i int) bool {
	step := x.plan.Steps[x.nodes[i].step]
	t := x.agent.attempts[beginning(step)]
	if _, begun := x.tries[key(step)]; begun || t == nil || !time.Now().Before(t.next) {
		return false
	}
	err := t.err
	if s := x.agent.starts[step.Container().ID]; err == nil && s != nil {
		err = s.err
	}
	if err == nil {
		err = fmt.Errorf("%s: was done %d times and did not last", step, t.times)
	}
	err = fmt.Errorf("%w; tried again at %s", err, t.next.Format(time.TimeOnly))
	line := &x.report.Steps[x.nodes[i].step]
	line.State, line.Error = Skipped, withoutStep(step, err)
	x.end(i, err)
	return true
}

func (x *execution) withdraw(id runtime.ID) {
	delete(x.agent.seen.Addr, id)
	delete(x.agent.seen.Addr6, id)
	x.agent.unwell(id)
	x.agent.stopping(id)
	x.publish()
}

// readmit gives the addresses back of containers that run although a step on them
// failed: they are not cut off until the step is tried again.
func (x *execution) readmit(ctx context.Context) {
	seen, err := x.agent.rt.Observe(ctx)
	if err != nil {
		x.failed = append(x.failed, fmt.Errorf("observe: %w", err))
		return
	}
	x.agent.seen = &seen
	x.publish()
	x.agent.tell(x.report)
}

// learn adds what a step left behind to what is known.
func (x *execution) learn(s runtime.Step, d runtime.Done) {
	seen := x.agent.seen
	switch s := s.(type) {
	case runtime.CreateProject:
		seen.Projects = append(seen.Projects, d.Project)
	case runtime.DeleteProject:
		seen.Projects = slices.DeleteFunc(seen.Projects, func(p runtime.Project) bool { return p.Name == s.Project.Name })
	case runtime.DeleteContainer:
		x.forget(s.Target.ID)
		if s.Archives {
			t := s.Target
			seen.Archives = append(seen.Archives, runtime.Archive{
				ID: t.ID, Project: t.Project, Name: t.Name, Image: t.Image, Kit: t.Kit, Realms: t.Realms, Until: time.Now().Add(s.Keep),
			})
		}
	case runtime.DeleteArchive:
		seen.Archives = slices.DeleteFunc(seen.Archives, func(a runtime.Archive) bool { return a.ID == s.Archive.ID })
	case runtime.DeleteSnapshot:
		seen.Snapshots[s.Of] = slices.DeleteFunc(slices.Clone(seen.Snapshots[s.Of]), func(x runtime.Snapshot) bool { return x.Name == s.Snapshot })
	case runtime.TakeSnapshot, runtime.ExpireSnapshot: // the next pass sees it
	case runtime.CreateSpare:
		seen.Spares = append(seen.Spares, d.Spare)
	case runtime.DeleteSpare:
		seen.Spares = slices.DeleteFunc(seen.Spares, func(x runtime.Spare) bool { return x.ID == s.Spare.ID })
	default:
		if s, ok := s.(runtime.RestoreContainer); ok {
			seen.Archives = slices.DeleteFunc(seen.Archives, func(x runtime.Archive) bool { return x.ID == s.New.ID })
		}
		if s, ok := s.(runtime.ClaimContainer); ok {
			seen.Spares = slices.DeleteFunc(seen.Spares, func(x runtime.Spare) bool { return x.ID == s.Spare.ID })
		}
		x.forget(d.Container.ID)
		seen.Containers = append(seen.Containers, d.Container)
		if d.Addr.IsValid() {
			seen.Addr[d.Container.ID] = d.Addr
		}
		if d.Addr6.IsValid() {
			seen.Addr6[d.Container.ID] = d.Addr6
		}
	}
	seen.Sort()
	x.publish()
}

func (x *execution) forget(id runtime.ID) {
	seen := x.agent.seen
	seen.Containers = slices.DeleteFunc(seen.Containers, func(c runtime.Container) bool { return c.ID == id })
	delete(seen.Addr, id)
	delete(seen.Addr6, id)
}

// publish cannot fail for a fleet that was accepted; if it does, the last
// good table stays.
func (x *execution) publish() {
	if err := x.agent.publish(); err != nil {
		x.failed = append(x.failed, err)
	}
}

// newerCommit reports whether the source has moved past what is applied.
func (a *Agent) newerCommit(ctx context.Context) bool {
	if a.moved {
		return true
	}
	newest, err := a.Source.Latest(ctx)
	if err != nil || newest.Commit == a.newest.Commit {
		return false
	}
	rejected := a.report.Load().Rejected
	return rejected == nil || rejected.Commit != newest.Commit
}
