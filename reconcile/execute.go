package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"swage/runtime"
)

// execute does the steps of a plan. Steps of one container follow each other,
// containers do not wait for each other, and deletions come only after all
// else went well. A failure ends its own chain.
func (a *Agent) execute(ctx context.Context, plan Plan, r *Report) error {
	x := execution{
		agent: a, plan: plan, report: r, events: make(chan *event), broken: map[string]bool{},
		attempts: make([]*attempt, len(plan.Steps)),
	}
	if len(plan.Steps) > 0 {
		r.Steps = nil
	}
	for _, s := range plan.Steps {
		r.Steps = append(r.Steps, StepReport{Step: s.String(), Effect: s.Effect(), State: Waiting})
	}
	maps.DeleteFunc(a.attempts, func(_ string, t *attempt) bool { return t.over(r.Commit) })
	a.tell(r)
	for _, phase := range phases(plan.Steps) {
		if len(x.failed) > 0 && phase.destroys {
			x.skip(phase, "waits until everything else is well")
			continue
		}
		phase.chains = slices.DeleteFunc(phase.chains, x.postpone)
		x.run(ctx, phase)
		if r.State == Superseded {
			return nil
		}
	}
	return errors.Join(x.failed...)
}

// phase is a set of chains that may run side by side.
type phase struct {
	chains   [][]int // indexes into the plan
	destroys bool
}

// phases cuts a plan, which is in order, into what may run side by side.
func phases(steps []runtime.Step) []phase {
	var projects, containers, deletions, empty phase
	deletions.destroys, empty.destroys = true, true
	chain := map[runtime.ID]int{}
	for i, s := range steps {
		switch s.(type) {
		case runtime.CreateProject:
			projects.chains = append(projects.chains, []int{i})
		case runtime.DeleteContainer:
			deletions.chains = append(deletions.chains, []int{i})
		case runtime.DeleteProject:
			empty.chains = append(empty.chains, []int{i})
		default:
			id := s.Container().ID
			if n, ok := chain[id]; ok && id != "" {
				containers.chains[n] = append(containers.chains[n], i)
				continue
			}
			chain[id] = len(containers.chains)
			containers.chains = append(containers.chains, []int{i})
		}
	}
	all := []phase{projects, containers, deletions, empty}
	return slices.DeleteFunc(all, func(p phase) bool { return len(p.chains) == 0 })
}

type execution struct {
	agent  *Agent
	plan   Plan
	report *Report
	events chan *event
	failed []error
	broken map[string]bool // projects that could not be made
	// attempts that the steps are part of; nil outside Run.
	attempts []*attempt
}

// attempt is how often a chain was begun for one commit. What fails, or does
// not last, such as a container whose init ends at once, is tried more and
// more seldom, whatever hints come: its own steps cause some.
type attempt struct {
	commit string
	times  int
	next   time.Time // not before
	err    error     // of the last time
}

// over reports whether an attempt no longer counts: it lasted, or is for
// another commit.
func (t *attempt) over(commit string) bool {
	return t.commit != commit || time.Since(t.next) > lastRetry
}

func (t *attempt) delay() {
	d := min(firstRetry<<min(t.times-1, 10), lastRetry)
	t.next = time.Now().Add(d/2 + rand.N(d))
}

func (t *attempt) begin() {
	t.times, t.next, t.err = t.times+1, time.Now(), nil
	if t.times > 1 { // once it may be drift, which is put back at once
		t.delay()
	}
}

func (t *attempt) fail(err error) {
	t.err = err
	t.delay()
}

// due is when the first of the chains that failed or were put off may be begun.
func (a *Agent) due() time.Time {
	var due time.Time
	for _, t := range a.attempts {
		if (t.err != nil || t.times > 1) && time.Now().Before(t.next) && (due.IsZero() || t.next.Before(due)) {
			due = t.next
		}
	}
	return due
}

// key is the same for the chain of one object in every pass for a commit.
func key(s runtime.Step) string {
	switch s := s.(type) {
	case runtime.CreateProject:
		return s.Project.Name
	case runtime.DeleteProject:
		return s.Project.Name
	}
	return s.Container().Ref()
}

// postpone reports whether it is too early for a chain.
func (x *execution) postpone(chain []int) bool {
	first := x.plan.Steps[chain[0]]
	t := x.agent.attempts[key(first)]
	if t == nil || !time.Now().Before(t.next) {
		return false
	}
	err := t.err
	if err == nil {
		err = fmt.Errorf("%s: was done %d times and did not last", first, t.times)
	}
	err = fmt.Errorf("%w; tried again at %s", err, t.next.Format(time.TimeOnly))
	for _, i := range chain {
		x.report.Steps[i].State, x.report.Steps[i].Error = Skipped, err.Error()
	}
	if s, ok := first.(runtime.CreateProject); ok {
		x.broken[s.Project.Name] = true
	}
	x.failed = append(x.failed, err)
	x.agent.tell(x.report)
	return true
}

// begin counts a chain that a worker took.
func (x *execution) begin(chain []int) {
	if x.agent.attempts == nil {
		return
	}
	k := key(x.plan.Steps[chain[0]])
	t := x.agent.attempts[k]
	if t == nil {
		t = &attempt{commit: x.report.Commit}
		x.agent.attempts[k] = t
	}
	t.begin()
	for _, i := range chain {
		x.attempts[i] = t
	}
}

// event is what a worker tells the goroutine that owns the state. The worker
// goes on when ack is closed; skip is then why the step must not begin.
type event struct {
	step  int
	begin bool
	done  runtime.Done
	took  time.Duration
	err   error
	skip  string
	ack   chan struct{}
}

// run does one phase and returns when no worker is left.
func (x *execution) run(ctx context.Context, p phase) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan []int)
	finished := make(chan struct{})
	workers := min(inParallel, len(p.chains))
	for range workers {
		go func() {
			for chain := range queue {
				x.chain(ctx, chain)
			}
			finished <- struct{}{}
		}()
	}
	next, feed := 0, queue
	for workers > 0 {
		var chain []int
		if next < len(p.chains) {
			chain = p.chains[next]
		} else if feed != nil {
			close(queue)
			feed = nil
		}
		select {
		case feed <- chain:
			next++
			x.begin(chain)
		case e := <-x.events:
			x.handle(e)
		case <-finished:
			workers--
		case <-x.agent.wake:
			if x.agent.newerCommit(ctx) {
				x.report.State = Superseded
				cancel()
				next = len(p.chains)
			} else {
				x.agent.again = true
			}
		}
	}
	if err := ctx.Err(); err != nil && x.report.State != Superseded {
		x.failed = append(x.failed, err)
	}
}

// chain does steps one after the other, in a worker.
func (x *execution) chain(ctx context.Context, chain []int) {
	skip := ""
	for _, i := range chain {
		if skip == "" && ctx.Err() != nil {
			skip = "was not begun" // nothing is withdrawn for it either
		}
		begin := &event{step: i, begin: true, skip: skip}
		x.send(begin)
		if skip = begin.skip; skip != "" {
			continue
		}
		start := time.Now()
		limited, cancel := context.WithTimeout(ctx, stepDeadline)
		done, err := x.agent.rt.Do(limited, x.plan.Steps[i])
		cancel()
		x.send(&event{step: i, done: done, took: time.Since(start), err: err})
		if err != nil {
			skip = "waits for the step before it"
		}
	}
}

// send returns when the owner has dealt with e.
func (x *execution) send(e *event) {
	e.ack = make(chan struct{})
	x.events <- e
	<-e.ack
}

// handle runs in the owner: it alone changes what is known, the table and the
// report.
func (x *execution) handle(e *event) {
	defer close(e.ack)
	step, line := x.plan.Steps[e.step], &x.report.Steps[e.step]
	switch {
	case e.begin:
		if e.skip == "" && x.broken[step.Container().Project] {
			e.skip = "waits for its project"
		}
		if e.skip != "" {
			line.State, line.Error = Skipped, e.skip
			break
		}
		line.State = Doing
		if step.Effect() != runtime.Live {
			x.withdraw(step.Container().ID) // before it stops answering
		}
	case e.err != nil:
		line.State, line.Error, line.Millis = Broken, e.err.Error(), e.took.Milliseconds()
		x.failed = append(x.failed, e.err)
		if t := x.attempts[e.step]; t != nil {
			t.fail(e.err)
		}
		if s, ok := step.(runtime.CreateProject); ok {
			x.broken[s.Project.Name] = true
		}
	default:
		line.State, line.Millis = Done, e.took.Milliseconds()
		x.learn(step, e.done)
	}
	if !e.begin && x.agent.OnStep != nil {
		x.agent.OnStep(*line)
	}
	x.agent.tell(x.report)
}

func (x *execution) withdraw(id runtime.ID) {
	delete(x.agent.seen.Addr, id)
	x.publish()
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
		seen.Containers = slices.DeleteFunc(seen.Containers, func(c runtime.Container) bool { return c.ID == s.Target.ID })
		delete(seen.Addr, s.Target.ID)
	default:
		c := d.Container
		if i := slices.IndexFunc(seen.Containers, func(h runtime.Container) bool { return h.ID == c.ID }); i >= 0 {
			seen.Containers[i] = c
		} else {
			seen.Containers = append(seen.Containers, c)
		}
		delete(seen.Addr, c.ID)
		if d.Addr.IsValid() {
			seen.Addr[c.ID] = d.Addr
		}
	}
	seen.Sort()
	x.publish()
}

// publish cannot fail for a fleet that was accepted; if it does, the last
// good table stays.
func (x *execution) publish() {
	if err := x.agent.publish(); err != nil {
		x.failed = append(x.failed, err)
	}
}

func (x *execution) skip(p phase, why string) {
	for _, chain := range p.chains {
		for _, i := range chain {
			x.report.Steps[i].State, x.report.Steps[i].Error = Skipped, why
		}
	}
	x.agent.tell(x.report)
}

// newerCommit reports whether the source has moved past what is applied.
func (a *Agent) newerCommit(ctx context.Context) bool {
	newest, err := a.Source.Latest(ctx)
	if err != nil || newest.Commit == a.fleet.Commit {
		return false
	}
	rejected := a.report.Load().Rejected
	return rejected == nil || rejected.Commit != newest.Commit
}
