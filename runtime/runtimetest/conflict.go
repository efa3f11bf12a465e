package runtimetest

import (
	"strings"

	"swage/runtime"
)

// copyByHand: the older instance stays ours and is worked on as before; the copy
// is told, and no step touches it.
func (s *suite) copyByHand(h Hands) {
	c := s.made("web1", runtime.Running)
	other := s.container("web2", runtime.Running)
	s.do(runtime.CreateContainer{New: other})
	remove := h.Copy(s.T, s.scope, c.ID)
	defer remove()
	conflict := func(when string) {
		s.Helper()
		a := s.observe()
		if len(a.Conflicts) != 1 || a.Conflicts[0].ID != c.ID || a.Conflicts[0].Ref() != c.Ref() || a.Conflicts[0].Lost {
			s.Fatalf("%s: conflicts %+v", when, a.Conflicts)
		}
		if !strings.Contains(a.Conflicts[0].Why, "copy") {
			s.Errorf("%s: it says %q", when, a.Conflicts[0].Why)
		}
	}
	s.want(c, other)
	conflict("while both run")
	s.rt = s.open(s.T, s.scope) // knows nothing yet
	to := c
	to.Comment, to.Commit = "after the copy", "c2"
	s.do(runtime.UpdateContainer{From: c, To: to})
	s.want(to, other)
	stopped := to
	stopped.Status, stopped.Asked = runtime.Stopped, runtime.Stopped
	s.do(runtime.StopContainer{Target: to})
	s.want(stopped, other)
	s.do(runtime.StartContainer{Target: stopped})
	s.want(to, other)
	conflict("after steps on the original")
	s.do(runtime.DeleteContainer{Target: other})
	s.want(to)
	remove()
	if a := s.want(to); len(a.Conflicts) > 0 {
		s.Errorf("without the copy: %+v", a.Conflicts)
	}
}
