package runtimetest

import (
	"slices"
	"time"

	"swage/runtime"
)

func (s *suite) createFull(status runtime.Status) {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.full(status)
	d := s.do(runtime.CreateContainer{New: c})
	if a := s.want(c); a.Addr[c.ID] != d.Addr || a.Addr6[c.ID] != d.Addr6 {
		s.Errorf("addresses observed %v and %v, done %v and %v", a.Addr[c.ID], a.Addr6[c.ID], d.Addr, d.Addr6)
	}
	s.do(runtime.CreateContainer{New: c}) // a step that is done again
	s.want(c)
}

// changeAll gives every field each of its values in turn, in the end as if
// nothing were asked for, and each twice, as after a crash.
func (s *suite) changeAll(status runtime.Status) {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := Plain(s.image, status)
	addr := s.do(runtime.CreateContainer{New: c}).Addr
	for _, f := range Fields {
		if slices.Contains(s.without, f.Name) {
			continue
		}
		first := f.Values[0]
		if f.Name == "Asked" {
			first = func(to *runtime.Container) { to.Asked = status }
		}
		for _, set := range append(f.Values[1:len(f.Values):len(f.Values)], first) {
			step := runtime.UpdateContainer{From: c, To: c}
			set(&step.To)
			if step.Restarts() {
				step.To.Status = runtime.Running
			}
			again := s.observe().Containers
			d := s.do(step)
			if !d.Container.Same(step.To) {
				s.Errorf("%s: done %v of what was to do", f.Name, runtime.Changes(d.Container, step.To))
			}
			s.do(runtime.UpdateContainer{From: d.Container, To: step.To})
			after := s.want(step.To)
			if s.Failed() {
				s.Fatalf("%s: from %+v", f.Name, again)
			}
			if status != runtime.Stopped && after.Addr[c.ID] != addr {
				s.Errorf("%s: the address changed from %v to %v", f.Name, addr, after.Addr[c.ID])
			}
			c = step.To
			if c.Status != status {
				s.do(runtime.PauseContainer{Target: c})
				c.Status, c.Asked = status, status
			}
		}
	}
}

func (s *suite) changeFixed() {
	c := s.made("web1", runtime.Stopped)
	to := c
	to.Project, to.Image, to.Kit, to.Status, to.Color = "shop", "other/1", !c.Kit, runtime.Running, "fff"
	s.do(runtime.UpdateContainer{From: c, To: to})
	c.Color = "fff"
	s.want(c)
}

func (s *suite) kit() {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	var all []runtime.Container
	for _, kit := range []bool{true, false} {
		c := Plain(s.image, runtime.Stopped)
		c.Kit = kit
		s.do(runtime.CreateContainer{New: c})
		all = append(all, c)
	}
	s.want(all...)
}

func (s *suite) pauseResume() {
	c := s.made("web1", runtime.Running)
	before := s.want(c)
	paused := c
	paused.Status, paused.Asked = runtime.Paused, runtime.Paused
	for range 2 {
		s.do(runtime.PauseContainer{Target: c})
	}
	if a := s.want(paused); a.Addr[c.ID] != before.Addr[c.ID] || a.Addr6[c.ID] != before.Addr6[c.ID] {
		s.Errorf("the addresses changed: %v before, %v paused", before, a)
	}
	for range 2 {
		s.do(runtime.ResumeContainer{Target: paused})
	}
	s.want(c)
}

func (s *suite) pausedStartStop() {
	c := s.made("web1", runtime.Paused)
	running, stopped := c, c
	running.Status, running.Asked = runtime.Running, runtime.Running
	stopped.Status, stopped.Asked = runtime.Stopped, runtime.Stopped
	s.do(runtime.StartContainer{Target: c})
	s.want(running)
	s.do(runtime.PauseContainer{Target: running})
	s.want(c)
	began := time.Now()
	s.do(runtime.StopContainer{Target: c})
	if took := time.Since(began); took > 8*time.Second {
		s.Errorf("it took %v to stop what cannot answer", took)
	}
	s.want(stopped)
}

func (s *suite) stoppedPause() {
	c := s.made("web1", runtime.Stopped)
	for _, step := range []runtime.Step{runtime.PauseContainer{Target: c}, runtime.ResumeContainer{Target: c}} {
		if _, err := s.rt.Do(s.Context(), step); err == nil {
			s.Errorf("%s: no error", step)
		}
	}
	s.want(c)
}

func (s *suite) notes() {
	c := s.made("web1", runtime.Stopped)
	for i, next := range []struct {
		step   func(runtime.Container) runtime.Step
		status runtime.Status
	}{
		{func(c runtime.Container) runtime.Step { return runtime.StartContainer{Target: c} }, runtime.Running},
		{func(c runtime.Container) runtime.Step { return runtime.PauseContainer{Target: c} }, runtime.Paused},
		{func(c runtime.Container) runtime.Step { return runtime.ResumeContainer{Target: c} }, runtime.Running},
		{func(c runtime.Container) runtime.Step { return runtime.StopContainer{Target: c} }, runtime.Stopped},
	} {
		c.Commit = "n" + string(rune('0'+i))
		target := c
		target.Color = "not of this step"
		s.do(next.step(target))
		c.Status, c.Asked = next.status, next.status
		s.want(c)
	}
}

func (s *suite) move() { s.moveAs(runtime.Running) }

func (s *suite) moveAs(status runtime.Status) {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "shop"}})
	c := s.full(status)
	addr := s.do(runtime.CreateContainer{New: c}).Addr
	to := c
	to.Project, to.Name, to.Commit = "shop", "web2", "c3"
	for range 2 {
		s.do(runtime.MoveContainer{From: c, To: to})
	}
	if got := s.want(to).Addr[c.ID]; got != addr {
		s.Errorf("the address changed from %v to %v", addr, got)
	}
}
