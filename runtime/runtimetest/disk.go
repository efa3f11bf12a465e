package runtimetest

import (
	"strings"

	"swage/runtime"
)

// smallDisk: a limit below what is used is refused with the number in use. What
// else the step changes is changed, the limit stays as it was, and any other one
// can be set afterwards.
func (s *suite) smallDisk(h Hands) {
	if h.NoQuota {
		return
	}
	c := s.made("web1", runtime.Running)
	sized := func(bytes int64) runtime.UpdateContainer {
		to := c
		to.Resources.Disk = bytes
		return runtime.UpdateContainer{From: c, To: to}
	}
	refused := func(step runtime.Step) {
		s.Helper()
		_, err := s.rt.Do(s.Context(), step)
		if err == nil || !strings.Contains(err.Error(), "resources.disk 1MiB is too small: ") || !strings.Contains(err.Error(), "MiB are in use") {
			s.Errorf("%s: error %v", step, err)
		}
	}
	for _, have := range []int64{0, 2 << 30} {
		if have != 0 {
			s.do(sized(have))
			c.Resources.Disk = have
		}
		small := sized(1 << 20)
		small.To.Comment, small.To.Commit = c.Comment+"x", "c2"
		refused(small)
		c.Comment, c.Commit = small.To.Comment, small.To.Commit
		s.want(c)
	}
	for _, bytes := range []int64{1 << 30, 3 << 30, 0} {
		s.do(sized(bytes))
		c.Resources.Disk = bytes
		s.want(c)
	}
	twin := s.container("web2", runtime.Stopped)
	twin.Resources.Disk = 1 << 20
	refused(runtime.CopyContainer{New: twin, From: c.ID, Of: c.Ref()})
	s.want(c)
}
