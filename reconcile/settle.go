package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swage/runtime"
	"swage/schema"
)

// A commit is deployed when its containers stay up: those with a health check
// until it is answered, the others for the fleet's settle. A container that
// ends before that, or whose init restarts, has failed. It stays failed until a
// later start has lasted, whatever is retried meanwhile.

// startup is one start of a container that has not lasted yet.
type startup struct {
	up       bool          // false: it ended, and no other start is known
	stopping bool          // a step of this pass asks it to end
	began    time.Time     // by the clock of this node
	init     time.Time     // see runtime.Actual.Started; zero until it is observed
	need     time.Duration // it has lasted when it is up for so long
	failures int           // starts in a row that did not last
	err      error         // why the last of them did not
}

func (s *startup) due() time.Time { return s.began.Add(s.need) }

// mostNeed bounds how long a container must stay up after starts that did not
// last. Each of them doubles it, so that one that ends every few seconds is not
// taken for deployed in between.
const mostNeed = time.Minute

// need is how long a container must stay up of which so many starts were tried
// already.
func (a *Agent) need(tried int) time.Duration {
	settle := a.fleet.Settle
	return max(settle, min(settle<<min(tried, 10), mostNeed))
}

// started begins to follow a container that a step started, for the times-th
// time in a row.
func (a *Agent) started(id runtime.ID, times int) {
	if a.fleet.Settle == 0 {
		return
	}
	s := a.starts[id]
	if s == nil {
		s = &startup{}
		if a.starts == nil {
			a.starts = map[runtime.ID]*startup{}
		}
		a.starts[id] = s
	}
	s.begin(time.Now(), time.Time{}, a.need(max(times-1, s.failures)))
}

func (s *startup) begin(now, init time.Time, need time.Duration) {
	s.up, s.stopping, s.began, s.init, s.need = true, false, now, init, need
}

// stopping says that a container is about to end because a step asks it to.
func (a *Agent) stopping(id runtime.ID) {
	if s := a.starts[id]; s != nil {
		s.stopping = true
	}
}

// endStopping says that no step is under way any more.
func (a *Agent) endStopping() {
	for _, s := range a.starts {
		s.up, s.stopping = s.up && !s.stopping, false
	}
}

// judgeStarts compares what was followed with what is there. What has lasted is
// followed no longer.
func (a *Agent) judgeStarts(seen *runtime.Actual) {
	if a.fleet.Settle == 0 {
		clear(a.starts)
		return
	}
	now, there := time.Now(), map[runtime.ID]bool{}
	wanted := a.wantedRunning()
	for _, h := range seen.Containers {
		c := wanted[string(h.ID)]
		if c == nil {
			c = wanted[h.Ref()]
		}
		if c == nil {
			continue
		}
		there[h.ID] = true
		s, init := a.starts[h.ID], seen.Started[h.ID]
		switch {
		case s == nil:
			// Nobody followed it: this process may have begun a moment ago.
			if age := now.Sub(init); h.Status == runtime.Running && c.Health == nil && age < a.fleet.Settle {
				a.started(h.ID, 0)
				a.starts[h.ID].began, a.starts[h.ID].init = now.Add(-max(age, 0)), init
			}
			continue
		case s.stopping:
			continue
		case !s.up && h.Status == runtime.Running: // somebody else started it
			s.begin(now, init, a.need(s.failures))
		case !s.up:
			continue
		case h.Status == runtime.Stopped:
			s.up = false
			a.didNotLast(h, s, fmt.Errorf("it ended within %s of its start; its console log may say why (incus console --show-log)", upTo(now.Sub(s.began))))
		case s.init.IsZero():
			s.init = init
		case !s.init.Equal(init):
			a.didNotLast(h, s, fmt.Errorf("its init was started again within %s of its start", upTo(now.Sub(s.began))))
			s.begin(now, init, a.need(s.failures))
		}
		if s.up && a.lasted(h.Ref(), *c, s, now) {
			delete(a.starts, h.ID)
		}
	}
	for id := range a.starts {
		if !there[id] {
			delete(a.starts, id)
		}
	}
}

// upTo is a span in whole tenths of a second, none of them zero.
func upTo(d time.Duration) time.Duration {
	return max(d, time.Millisecond).Truncate(100*time.Millisecond) + 100*time.Millisecond
}

// lasted reports whether a container that is up counts as deployed.
func (a *Agent) lasted(ref string, c schema.Container, s *startup, now time.Time) bool {
	if c.Health != nil {
		v := a.vitals[ref]
		return v != nil && v.ok() && v.of == a.target(ref, c)
	}
	return !now.Before(s.due())
}

func (a *Agent) didNotLast(h runtime.Container, s *startup, why error) {
	s.failures++
	s.err = fmt.Errorf("container %s did not stay up: %w", h.Ref(), why)
	a.failing = failing{subject(a.fleet.Commit, a.standing()), s.err.Error(), a.attempts != nil && a.canRollBack()}
	a.Log.Error("a container did not stay up", "container", h.Ref(), "commit", a.fleet.Commit, "starts", s.failures, "err", why)
	a.journal.add(Event{Type: StepFailed, Commit: a.fleet.Commit, Container: h.Ref(), Text: "container " + h.Ref() + " did not stay up", Error: why.Error()})
}

// wantedRunning are the containers that are to run here, by id and by
// project/name.
func (a *Agent) wantedRunning() map[string]*schema.Container {
	out := map[string]*schema.Container{}
	for _, p := range a.fleet.Projects {
		for i := range p.Containers {
			c := &p.Containers[i]
			if c.Server != a.Server || c.State != string(runtime.Running) {
				continue
			}
			out[p.Name+"/"+c.Name] = c
			if c.ID != "" {
				out[c.ID] = c
			}
		}
	}
	return out
}

// unsettled lists, by project/name, the containers without a health check that
// a deploy waits for: those that the plan starts, and those that have not
// lasted yet.
func (a *Agent) unsettled(plan Plan) []string {
	starting := map[string]bool{}
	for _, s := range plan.Steps {
		if startsInit(s) {
			starting[s.Container().Ref()] = true
		}
	}
	for _, h := range a.seen.Containers {
		if a.starts[h.ID] != nil {
			starting[h.Ref()] = true
		}
	}
	var out []string
	for _, p := range a.fleet.Projects {
		for _, c := range p.Containers {
			if ref := p.Name + "/" + c.Name; starting[ref] && c.Server == a.Server && c.Health == nil && c.State == string(runtime.Running) && a.fleet.Settle > 0 {
				out = append(out, ref)
			}
		}
	}
	return out
}

// startsInit reports whether a container has another init after a step. One that is
// claimed or adopted keeps its own.
func startsInit(s runtime.Step) bool {
	switch s := s.(type) {
	case runtime.CreateContainer, runtime.CopyContainer, runtime.RestoreContainer, runtime.StartContainer, runtime.MoveContainer:
		return runs(s)
	case runtime.UpdateContainer:
		return s.Restarts()
	}
	return false
}

// startOf is the start that is followed of a container; nil: none is.
func (a *Agent) startOf(ref string) *startup {
	for _, h := range a.seen.Containers {
		if h.Ref() == ref {
			return a.starts[h.ID]
		}
	}
	return nil
}

// settleTick bounds how often a deploy looks whether containers are still up.
const settleTick = 500 * time.Millisecond

// waitUntilSettled waits until a container has been up for as long as it must: once it
// could be looked at, and at the end.
func (x *execution) waitUntilSettled(ctx context.Context, i int) {
	s := x.agent.startOf(x.nodes[i].ref)
	switch {
	case s == nil: // it has lasted, or does not run, which is another's failure
		x.end(i, nil)
		return
	case !s.up: // and nobody starts it
		x.end(i, s.err)
		return
	}
	x.nodes[i].state = running
	x.checks++
	due, unseen := s.due(), s.init.IsZero()
	go func() {
		if unseen && x.waitForTick(ctx, time.Now()) == nil {
			x.send(event{node: i, phase: "look"})
		}
		x.send(event{node: i, err: x.waitForTick(ctx, due)})
	}()
}

// waitForTick waits for the first tick after a time, so that many containers are
// looked at together.
func (x *execution) waitForTick(ctx context.Context, until time.Time) error {
	ticks := until.Sub(x.began)/settleTick + 1
	timer := time.NewTimer(time.Until(x.began.Add(ticks * settleTick)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look judges the starts by what is there now, unless that was done after a
// time already. What is known of the rest stays: steps may be under way.
func (x *execution) look(ctx context.Context, after time.Time) error {
	if x.looked.After(after) {
		return nil
	}
	at := time.Now()
	seen, err := x.agent.rt.Observe(ctx)
	if err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	x.looked = at
	x.agent.judgeStarts(&seen)
	return nil
}

// settled ends a wait, well if the container has lasted.
func (x *execution) settled(ctx context.Context, e event) {
	n := &x.nodes[e.node]
	s := x.agent.startOf(n.ref)
	if e.phase != "" {
		if s != nil && s.init.IsZero() {
			_ = x.look(ctx, s.began) // the end looks again
			x.agent.tell(x.report)
		}
		return
	}
	x.checks--
	err := e.err
	if err == nil && s != nil {
		err = x.look(ctx, s.due())
	}
	if s = x.agent.startOf(n.ref); err == nil && s != nil {
		if err = s.err; err == nil {
			err = errors.New("container " + n.ref + " has not stayed up for long enough yet")
		}
	}
	if err == nil {
		x.publish() // aliases may follow now
	}
	x.end(e.node, err)
	x.agent.tell(x.report)
}
