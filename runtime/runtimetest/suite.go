// Package runtimetest is the contract that every runtime.Runtime passes. The
// fake passes exactly what Incus passes, or tests that trust it lie.
package runtimetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"swage/runtime"
)

// Run runs the suite. open gives a Runtime for a scope of an engine that all
// calls share; the scope's fleet is new for every test. image can be started.
// Of the fields named by without, which this engine does not know, all stay as a
// plain container has them.
func Run(t *testing.T, image string, open func(*testing.T, runtime.Scope) runtime.Runtime, without ...string) {
	run(t, image, open, without, []row{
		{"nothing is owned at first", (*suite).nothing},
		{"a project is made once and keeps its id", (*suite).project},
		{"a project that is not empty stays", (*suite).projectInUse},
		{"a container is created running, with an address", (*suite).create},
		{"a container is created stopped, without an address", (*suite).createStopped},
		{"a container without an id gets one", (*suite).drawID},
		{"creating twice is creating once", (*suite).createTwice},
		{"a container needs its project", (*suite).createWithoutProject},
		{"names that Incus does not take are kept", (*suite).names},
		{"stop and start, each twice", (*suite).stopStart},
		{"the environment changes while running", (*suite).environment},
		{"the environment changes while stopped", (*suite).environmentStopped},
		{"the environment is written for services and logins without a restart", (*suite).environmentWritten},
		{"every field is given at creation, running", func(s *suite) { s.createFull(runtime.Running) }},
		{"every field is given at creation, paused", func(s *suite) { s.createFull(runtime.Paused) }},
		{"every field is given at creation, stopped", func(s *suite) { s.createFull(runtime.Stopped) }},
		{"every field changes while running", func(s *suite) { s.changeAll(runtime.Running) }},
		{"every field changes while paused", func(s *suite) { s.changeAll(runtime.Paused) }},
		{"every field changes while stopped", func(s *suite) { s.changeAll(runtime.Stopped) }},
		{"an update changes neither image, kit, project nor status", (*suite).changeFixed},
		{"the kit is remembered", (*suite).kit},
		{"pause and resume, each twice", (*suite).pauseResume},
		{"a paused container starts, and stops by force", (*suite).pausedStartStop},
		{"a stopped container neither pauses nor resumes", (*suite).stoppedPause},
		{"steps on the status note the commit and what was asked", (*suite).notes},
		{"a rename keeps everything else", (*suite).rename},
		{"two containers swap names", (*suite).swap},
		{"a move keeps everything else, running", func(s *suite) { s.moveAs(runtime.Running) }},
		{"a move keeps everything else, paused", func(s *suite) { s.moveAs(runtime.Paused) }},
		{"a move keeps everything else, stopped", func(s *suite) { s.moveAs(runtime.Stopped) }},
		{"deleting twice is deleting once", (*suite).delete},
		{"steps on what is gone are errors", (*suite).gone},
		{"other scopes are neither seen nor touched", (*suite).foreign},
		{"a second Runtime sees the same", (*suite).second},
		{"what was made under another prefix stays in use", (*suite).prefix},
		{"a cancelled context ends a call", (*suite).cancelled},
		{"changes are hinted at", (*suite).watch},
		{"a guard ends with its context", (*suite).guard},
	})
}

type row struct {
	name string
	test func(*suite)
}

func run(t *testing.T, image string, open func(*testing.T, runtime.Scope) runtime.Runtime, without []string, rows []row) {
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			scope := runtime.Scope{
				Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default",
				ImageServer: "https://images.invalid",
			}
			scope.Prefix = "t" + string(scope.Fleet[:8]) + "-"
			s := &suite{T: t, image: image, scope: scope, open: open, rt: open(t, scope), without: without}
			t.Cleanup(s.clean)
			c.test(s)
		})
	}
}

type suite struct {
	*testing.T
	image string
	scope runtime.Scope
	open  func(*testing.T, runtime.Scope) runtime.Runtime
	rt    runtime.Runtime

	without []string // names of Fields
}

// full is Full but for the fields that the engine does not know.
func (s *suite) full(status runtime.Status) runtime.Container {
	c := Full(s.image, status)
	for _, f := range Fields {
		if slices.Contains(s.without, f.Name) {
			f.Values[0](&c)
		}
	}
	return c
}

// Equal compares states as swage does: nil and empty are equal.
var Equal = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})}

// clean removes all that the test owns, also after it failed.
func (s *suite) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := s.rt.Observe(ctx)
	if err != nil {
		s.Error(err)
	}
	for _, c := range a.Containers {
		if _, err := s.rt.Do(ctx, runtime.DeleteContainer{Target: c}); err != nil {
			s.Error(err)
		}
	}
	for _, x := range a.Spares {
		if _, err := s.rt.Do(ctx, runtime.DeleteSpare{Spare: x}); err != nil {
			s.Error(err)
		}
	}
	// What had snapshots is an archive by now.
	if a, err = s.rt.Observe(ctx); err != nil {
		s.Error(err)
	}
	for _, x := range a.Archives {
		if _, err := s.rt.Do(ctx, runtime.DeleteArchive{Archive: x}); err != nil {
			s.Error(err)
		}
	}
	for _, p := range a.Projects {
		if _, err := s.rt.Do(ctx, runtime.DeleteProject{Project: p}); err != nil {
			s.Error(err)
		}
	}
}

func (s *suite) do(step runtime.Step) runtime.Done {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	d, err := s.rt.Do(ctx, step)
	if err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *suite) guard() {
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.rt.Guard(ctx, func(r runtime.Repair) { s.Errorf("nothing was taken away, and it tells of %+v", r) })
	}()
	select {
	case err := <-ended:
		s.Errorf("it ended by itself: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			s.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		s.Fatal("it goes on without its context")
	}
}

func (s *suite) observe() runtime.Actual {
	s.Helper()
	a, err := s.rt.Observe(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return a
}

// want holds what is observed to exactly these containers.
func (s *suite) want(want ...runtime.Container) runtime.Actual {
	s.Helper()
	a := s.observe()
	w := runtime.State{Containers: want}
	w.Sort()
	if d := cmp.Diff(w.Containers, a.Containers, Equal); d != "" {
		s.Errorf("observed containers differ (-want +got):\n%s", d)
	} else {
		for i, c := range a.Containers {
			if !c.Same(w.Containers[i]) {
				s.Errorf("a plan would change %v of %s", runtime.Changes(c, w.Containers[i]), c.Ref())
			}
		}
	}
	for _, c := range a.Containers {
		if addr := a.Addr[c.ID]; addr.IsValid() != (c.Status == runtime.Running || c.Status == runtime.Paused) {
			s.Errorf("container %s is %s and has the address %q", c.Ref(), c.Status, addr)
		} else if addr6 := a.Addr6[c.ID]; addr6.Is6() != addr.IsValid() {
			s.Errorf("container %s has the addresses %v and %v", c.Ref(), addr, addr6)
		}
	}
	return a
}

func (s *suite) container(name string, status runtime.Status) runtime.Container {
	return runtime.Container{
		ID: runtime.NewID(), Project: "web", Name: name, Image: s.image,
		Env: map[string]string{"GREETING": "hello", "PORT": "8080"}, Autostart: true,
		Status: status, Asked: status, Commit: "c1",
	}
}

// made creates project web and one container in it.
func (s *suite) made(name string, status runtime.Status) runtime.Container {
	s.Helper()
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.container(name, status)
	s.do(runtime.CreateContainer{New: c})
	return c
}

func (s *suite) nothing() {
	a := s.want()
	if len(a.Projects) != 0 {
		s.Errorf("projects %v", a.Projects)
	}
}

func (s *suite) project() {
	first := s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}}).Project
	if len(first.ID) != 24 {
		s.Errorf("the id drawn is %q", first.ID)
	}
	again := s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}}).Project
	if again != first {
		s.Errorf("again: %v, first: %v", again, first)
	}
	given := runtime.Project{Name: "Under_Score", ID: runtime.NewID()}
	s.do(runtime.CreateProject{Project: given})
	if got := s.observe().Projects; !slices.Equal(got, []runtime.Project{given, first}) {
		s.Errorf("observed %v", got)
	}
	for range 2 {
		s.do(runtime.DeleteProject{Project: first})
	}
	if got := s.observe().Projects; !slices.Equal(got, []runtime.Project{given}) {
		s.Errorf("observed after deletion %v", got)
	}
}

func (s *suite) projectInUse() {
	c := s.made("web1", runtime.Stopped)
	if _, err := s.rt.Do(s.Context(), runtime.DeleteProject{Project: runtime.Project{Name: "web"}}); err == nil {
		s.Error("a project with a container was deleted")
	}
	s.want(c)
}

func (s *suite) create() {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.container("web1", runtime.Running)
	d := s.do(runtime.CreateContainer{New: c})
	if !d.Container.Same(c) {
		s.Errorf("done %+v", d.Container)
	}
	if a := s.want(c); a.Addr[c.ID] != d.Addr {
		s.Errorf("address observed %v, done %v", a.Addr[c.ID], d.Addr)
	}
}

func (s *suite) createStopped() { s.want(s.made("web1", runtime.Stopped)) }

func (s *suite) drawID() {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.container("web1", runtime.Stopped)
	c.ID = ""
	d := s.do(runtime.CreateContainer{New: c})
	if len(d.Container.ID) != 24 {
		s.Errorf("the id drawn is %q", d.Container.ID)
	}
	c.ID = d.Container.ID
	s.want(c)
}

func (s *suite) createTwice() {
	c := s.made("web1", runtime.Running)
	s.do(runtime.CreateContainer{New: c})
	s.want(c)
}

func (s *suite) createWithoutProject() {
	if _, err := s.rt.Do(s.Context(), runtime.CreateContainer{New: s.container("web1", runtime.Stopped)}); err == nil {
		s.Error("a container was created without its project")
	}
	s.want()
}

func (s *suite) names() {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	long := make([]byte, 100)
	for i := range long {
		long[i] = 'x'
	}
	var all []runtime.Container
	for _, name := range []string{"a_b", "a-b", "A-B", "1st", "---", "___", string(long)} {
		c := s.container(name, runtime.Stopped)
		s.do(runtime.CreateContainer{New: c})
		all = append(all, c)
	}
	s.want(all...)
}

func (s *suite) stopStart() {
	c := s.made("web1", runtime.Running)
	first := s.want(c)
	if begun := first.Started[c.ID]; begun.IsZero() || !s.observe().Started[c.ID].Equal(begun) {
		s.Errorf("its init was started at %v, and later at %v", begun, s.observe().Started[c.ID])
	}
	for range 2 {
		s.do(runtime.StopContainer{Target: c})
	}
	stopped := c
	stopped.Status, stopped.Asked = runtime.Stopped, runtime.Stopped
	s.want(stopped)
	for range 2 {
		s.do(runtime.StartContainer{Target: stopped})
	}
	again := s.want(c)
	if again.Addr[c.ID] != first.Addr[c.ID] {
		s.Errorf("the address changed from %v to %v", first.Addr[c.ID], again.Addr[c.ID])
	}
	if !again.Started[c.ID].After(first.Started[c.ID]) {
		s.Errorf("its init was started at %v, after a stop and a start at %v", first.Started[c.ID], again.Started[c.ID])
	}
	to := c
	to.Env = map[string]string{"A": "1"}
	s.do(runtime.UpdateContainer{From: c, To: to})
	if third := s.want(to); !third.Started[c.ID].After(again.Started[c.ID]) {
		s.Errorf("after a change that restarts it, its init is still that of %v", third.Started[c.ID])
	}
}

func (s *suite) changeEnvironment(status runtime.Status) {
	c := s.made("web1", status)
	to := c
	to.Env, to.Commit = map[string]string{"GREETING": "good day", "NEW": "=,\"' \\"}, "c2"
	to.Protected = true
	for range 2 {
		d := s.do(runtime.UpdateContainer{From: c, To: to})
		if d.Addr.IsValid() != (status == runtime.Running) {
			s.Errorf("address %v of a container that is %s", d.Addr, status)
		}
	}
	s.want(to)
}

func (s *suite) environment()        { s.changeEnvironment(runtime.Running) }
func (s *suite) environmentStopped() { s.changeEnvironment(runtime.Stopped) }

// environmentWritten: every step that gives a container an environment writes its
// files, and an update that finds them unwritten does no more than that.
func (s *suite) environmentWritten() {
	c := s.made("web1", runtime.Running)
	if len(c.Env) == 0 {
		s.Fatal("the container has no environment")
	}
	addr := s.want(c).Addr[c.ID]
	from := c
	from.Unwritten = true
	step := runtime.UpdateContainer{From: from, To: c}
	if step.Restarts() || step.Effect() != runtime.Live || len(step.Changes()) != 1 {
		s.Errorf("%s is %s", step, step.Effect())
	}
	for range 2 {
		if d := s.do(step); d.Container.Unwritten || d.Addr != addr {
			s.Errorf("the step left %+v", d)
		}
	}
	s.want(c)
}

func (s *suite) rename() {
	c := s.made("web1", runtime.Running)
	to := c
	to.Name, to.Commit = "web2", "c2"
	addr := s.want(c).Addr[c.ID]
	s.do(runtime.UpdateContainer{From: c, To: to})
	if got := s.want(to).Addr[c.ID]; got != addr {
		s.Errorf("the address changed from %v to %v", addr, got)
	}
}

func (s *suite) swap() {
	a := s.made("one", runtime.Stopped)
	b := s.container("two", runtime.Stopped)
	s.do(runtime.CreateContainer{New: b})
	a2, b2 := a, b
	a2.Name, b2.Name = "two", "one"
	s.do(runtime.UpdateContainer{From: a, To: a2})
	s.do(runtime.UpdateContainer{From: b, To: b2})
	s.want(a2, b2)
}

func (s *suite) delete() {
	c := s.made("web1", runtime.Running)
	other := s.container("web2", runtime.Stopped)
	s.do(runtime.CreateContainer{New: other})
	for range 2 {
		s.do(runtime.DeleteContainer{Target: c})
	}
	s.want(other)
}

func (s *suite) gone() {
	c := s.container("web1", runtime.Stopped)
	to := c
	to.Name = "web2"
	for _, step := range []runtime.Step{
		runtime.StartContainer{Target: c},
		runtime.StopContainer{Target: c},
		runtime.UpdateContainer{From: c, To: to},
		runtime.MoveContainer{From: c, To: to},
	} {
		if _, err := s.rt.Do(s.Context(), step); err == nil {
			s.Errorf("%s: no error", step)
		}
	}
}

func (s *suite) foreign() {
	c := s.made("web1", runtime.Stopped)
	for _, other := range []runtime.Scope{
		{Fleet: runtime.NewID(), Server: s.scope.Server},
		{Fleet: s.scope.Fleet, Server: "elsewhere"},
	} {
		other.Prefix, other.Bridge, other.StoragePool = s.scope.Prefix, s.scope.Bridge, s.scope.StoragePool
		rt := s.open(s.T, other)
		a, err := rt.Observe(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		if len(a.Projects)+len(a.Containers) != 0 {
			s.Errorf("scope %+v sees %+v", other, a)
		}
		if _, err := rt.Do(s.Context(), runtime.CreateProject{Project: runtime.Project{Name: "web"}}); err == nil {
			s.Error("a project of another scope was taken over")
		}
		if _, err := rt.Do(s.Context(), runtime.DeleteProject{Project: runtime.Project{Name: "web"}}); err == nil {
			s.Error("the deletion of another scope's project gave no error")
		}
		if _, err := rt.Do(s.Context(), runtime.DeleteContainer{Target: c}); err != nil {
			s.Errorf("a container of another scope is as good as gone, yet: %v", err)
		}
		if _, err := rt.Do(s.Context(), runtime.StartContainer{Target: c}); err == nil {
			s.Error("a container of another scope was started")
		}
	}
	s.want(c)
}

func (s *suite) second() {
	c := s.made("web1", runtime.Running)
	first := s.want(c)
	a, err := s.open(s.T, s.scope).Observe(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if d := cmp.Diff(first, a, Equal); d != "" {
		s.Errorf("the second differs (-first +second):\n%s", d)
	}
}

func (s *suite) prefix() {
	c := s.made("web1", runtime.Running)
	project := s.observe().Projects[0]
	scope := s.scope
	scope.Prefix = "u" + scope.Prefix[1:]
	s.rt = s.open(s.T, scope) // knows nothing yet
	if got := s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}}).Project; got != project {
		s.Errorf("the project was %v and is %v", project, got)
	}
	other := s.container("web2", runtime.Stopped)
	s.do(runtime.CreateContainer{New: other})
	s.want(c, other)
	for _, target := range []runtime.Container{c, other} {
		s.do(runtime.DeleteContainer{Target: target})
	}
	s.do(runtime.DeleteProject{Project: project})
	if got := s.want().Projects; len(got) != 0 {
		s.Errorf("after its deletion there is %v", got)
	}
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.rt.Observe(ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("Observe: %v", err)
	}
	if _, err := s.rt.Do(ctx, runtime.CreateProject{Project: runtime.Project{Name: "web"}}); !errors.Is(err, context.Canceled) {
		s.Errorf("Do: %v", err)
	}
	if err := s.rt.Watch(ctx, make(chan struct{}, 1)); !errors.Is(err, context.Canceled) {
		s.Errorf("Watch: %v", err)
	}
}

func (s *suite) watch() {
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- s.rt.Watch(ctx, changed) }()
	select {
	case <-changed:
	case <-ctx.Done():
		s.Fatal("no hint of what happened before it listened")
	}
	c := s.made("web1", runtime.Stopped)
	// Hints may come late or doubled: a change is seen when one comes after it.
	for _, step := range []runtime.Step{
		runtime.StartContainer{Target: c}, runtime.StopContainer{Target: c}, runtime.DeleteContainer{Target: c},
	} {
		s.do(step)
		select {
		case <-changed:
		case <-ctx.Done():
			s.Fatalf("no hint after %s", step)
		}
	}
	// Late hints of the last step may still come; a Runtime that knows
	// nothing and hints all the time would never be quiet.
	quiet := 1500 * time.Millisecond
	for timer := time.NewTimer(quiet); ; timer.Reset(quiet) {
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			s.Fatal("hints do not end although nothing changes")
		case <-timer.C:
		}
		break
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		s.Errorf("Watch ended with %v", err)
	}
}
