package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"swage/runtime"
)

// Hands do to the engine what swage does not: what its users do, and time.
type Hands struct {
	// Foreign makes a running instance without a mark, gone after the test,
	// and names it as Inspect wants it.
	Foreign func(t *testing.T, s runtime.Scope) string
	// Snapshot takes one.
	Snapshot func(t *testing.T, s runtime.Scope, id runtime.ID, name string)
	// Start tells one start of a container from the next.
	Start func(t *testing.T, s runtime.Scope, id runtime.ID) string
	// Copy copies an instance with all that it carries, under another name, until
	// remove is called.
	Copy func(t *testing.T, s runtime.Scope, id runtime.ID) (remove func())
	// NoQuota: the engine holds nobody to the size of a disk.
	NoQuota bool
	// Daemon is how the engine is reached from other servers.
	Daemon runtime.Daemon
}

// RunMaking is the part of the contract about containers that are not made
// from their image, what is left of them, and what swage remembers.
func RunMaking(t *testing.T, image string, open func(*testing.T, runtime.Scope) runtime.Runtime, h Hands, without ...string) {
	with := func(test func(*suite, Hands)) func(*suite) { return func(s *suite) { test(s, h) } }
	run(t, image, open, without, []row{
		{"notes survive and go", (*suite).remember},
		{"notes that are written at once are all kept", (*suite).rememberAtOnce},
		{"one holds the lease", (*suite).lease},
		{"of many who want the lease one gets it", (*suite).leaseAtOnce},
		{"neither notes nor the lease are hinted at", (*suite).watchNotes},
		{"a copy by hand is a conflict of its container alone", with((*suite).copyByHand)},
		{"a disk that is too small for what is on it is refused", with((*suite).smallDisk)},
		{"an instance is adopted as it is", with((*suite).adopt)},
		{"what is marked is not adopted", with((*suite).adoptMarked)},
		{"a running container is copied", func(s *suite) { s.copy(runtime.Running) }},
		{"a stopped container is copied", func(s *suite) { s.copy(runtime.Stopped) }},
		{"a snapshot is copied", with((*suite).copySnapshot)},
		{"what is not there is not copied", (*suite).copyNothing},
		{"a container with snapshots becomes an archive", with((*suite).archive)},
		{"a container becomes an archive, and is restored from it", with((*suite).restore)},
		{"an archive is copied", (*suite).copyArchive},
		{"what another server has is copied", with((*suite).copyFromPeer)},
		{"a snapshot is deleted", with((*suite).deleteSnapshot)},
		{"a snapshot is taken and given another end", (*suite).takeSnapshot},
		{"spares are made and deleted", (*suite).spare},
		{"a spare is claimed while it runs", with((*suite).claim)},
		{"of many who claim a spare one gets it", (*suite).claimAtOnce},
	})
}

func (s *suite) note(rt runtime.Runtime, key, value string) {
	s.Helper()
	if err := rt.Note(s.Context(), key, value); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) remember() {
	s.note(s.rt, "pin", "0123abcd")
	s.note(s.rt, "reason", "two words = \"and\"\na line")
	other := s.scope
	other.Server = "elsewhere"
	s.note(s.open(s.T, other), "pin", "another")
	later := s.scope
	later.Prefix = "u" + later.Prefix[1:]
	rt := s.open(s.T, later)
	s.note(rt, "gone", "soon")
	s.note(rt, "gone", "")
	if err := s.rt.Lease(s.Context(), runtime.Holder{Name: "a"}); err != nil {
		s.Fatal(err)
	}
	want := map[string]string{"pin": "0123abcd", "reason": "two words = \"and\"\na line"}
	a, err := rt.Observe(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if d := cmp.Diff(want, a.Notes, Equal); d != "" {
		s.Errorf("notes (-want +got):\n%s", d)
	}
	if len(a.Projects) != 0 {
		s.Errorf("projects %v", a.Projects)
	}
	for key := range want {
		s.note(rt, key, "")
	}
	if a := s.observe(); len(a.Notes) != 0 {
		s.Errorf("notes %v", a.Notes)
	}
}

func (s *suite) rememberAtOnce() {
	want := map[string]string{}
	var all sync.WaitGroup
	for i := range 6 {
		key := fmt.Sprint("key", i)
		want[key] = "value"
		rt := s.open(s.T, s.scope)
		all.Go(func() {
			if err := rt.Note(s.Context(), key, "value"); err != nil {
				s.Error(err)
			}
		})
	}
	all.Wait()
	if d := cmp.Diff(want, s.observe().Notes, Equal); d != "" {
		s.Errorf("notes (-want +got):\n%s", d)
	}
}

func (s *suite) lease() {
	self := runtime.Self("test")
	// The same pid, started at another time.
	gone := runtime.Holder{Name: "gone", Process: self.Process[:strings.LastIndex(self.Process, "/")+1] + "1"}
	other := runtime.Holder{Name: "other"}
	rt := s.open(s.T, s.scope)
	take := func(rt runtime.Runtime, h runtime.Holder, held *runtime.Holder) {
		s.Helper()
		err := rt.Lease(s.Context(), h)
		if held == nil {
			if err != nil {
				s.Errorf("%s: %v", h.Name, err)
			}
			return
		}
		var taken *runtime.Taken
		if !errors.As(err, &taken) || taken.Holder != *held || !strings.Contains(err.Error(), held.Name) {
			s.Errorf("%s: error %v", h.Name, err)
			return
		}
		if left := time.Until(taken.Until); left <= 0 || left > runtime.LeaseTime+time.Second {
			s.Errorf("the lease ends in %v", left)
		}
	}
	release := func(h runtime.Holder) {
		s.Helper()
		if err := rt.Release(s.Context(), h); err != nil {
			s.Error(err)
		}
	}
	take(s.rt, gone, nil)
	take(rt, self, nil) // from a dead one
	take(s.rt, other, &self)
	take(rt, self, nil)
	release(other) // has nothing
	take(s.rt, other, &self)
	release(self)
	release(self)
	take(s.rt, other, nil)
	take(rt, self, &other)
	elsewhere := s.scope
	elsewhere.Server = "elsewhere"
	take(s.open(s.T, elsewhere), self, nil)
}

func (s *suite) leaseAtOnce() {
	const many = 6
	errs := make([]error, many)
	var all sync.WaitGroup
	for i := range many {
		rt := s.open(s.T, s.scope)
		all.Go(func() { errs[i] = rt.Lease(s.Context(), runtime.Holder{Name: fmt.Sprint("holder ", i)}) })
	}
	all.Wait()
	var holder runtime.Holder
	for i, err := range errs {
		if err == nil && holder.Name != "" {
			s.Errorf("%s has it, and so has %d", holder.Name, i)
		} else if err == nil {
			holder.Name = fmt.Sprint("holder ", i)
		}
	}
	for i, err := range errs {
		var taken *runtime.Taken
		if err != nil && (!errors.As(err, &taken) || taken.Holder != holder) {
			s.Errorf("%d: %v, and the holder is %q", i, err, holder.Name)
		}
	}
}

func (s *suite) watchNotes() {
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- s.rt.Watch(ctx, changed) }()
	rt := s.open(s.T, s.scope)
	hinted := func() bool {
		select {
		case <-changed:
			return true
		case <-time.After(500 * time.Millisecond):
			return false
		}
	}
	for !hinted() { // it begins with one
		if ctx.Err() != nil {
			s.Fatal("it does not begin")
		}
	}
	for hinted() {
		continue
	}
	for i := range 3 {
		if err := rt.Lease(ctx, runtime.Holder{Name: "h"}); err != nil {
			s.Fatal(err)
		}
		s.note(rt, "n", fmt.Sprint(i))
	}
	if hinted() {
		s.Error("swage's own notes woke it")
	}
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	if !hinted() {
		s.Error("a project was not hinted at")
	}
	cancel()
	<-ended
}

func (s *suite) adopt(h Hands) {
	instance := h.Foreign(s.T, s.scope)
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	if len(s.observe().Containers) != 0 {
		s.Error("it is ours at once")
	}
	found, err := s.rt.Inspect(s.Context(), instance)
	if err != nil {
		s.Fatal(err)
	}
	if found.ID != "" || found.Project != "" || found.Name != "" || found.Status != runtime.Running || found.Env["FOREIGN"] != "yes" {
		s.Errorf("found %+v", found)
	}
	c := s.container("taken_over", runtime.Running)
	c.Color, c.Env, c.Protected = "e74c3c", found.Env, true
	c.Resources.Processes = runtime.NoLimit // as one that was made by hand
	step := runtime.AdoptContainer{New: c, Instance: instance}
	if changes := runtime.Changes(step.Adopted(found), c); len(changes) != 0 {
		s.Errorf("adopting it would change %v", changes)
	}
	start := h.Start(s.T, s.scope, "")
	for range 2 {
		if d := s.do(step); !d.Addr.IsValid() || !d.Container.Same(c) {
			s.Errorf("done %+v", d)
		}
	}
	s.want(c)
	if now := h.Start(s.T, s.scope, c.ID); start != "" && now != start {
		s.Error("it was started again")
	}
	to := c
	to.Env, to.Name, to.Protected, to.Commit = map[string]string{"A": "1"}, "renamed", false, "c2"
	s.do(runtime.UpdateContainer{From: c, To: to})
	s.want(to)
	s.do(runtime.StopContainer{Target: to})
	to.Status, to.Asked = runtime.Stopped, runtime.Stopped
	s.want(to)
	s.do(runtime.DeleteContainer{Target: to})
	s.want()
}

func (s *suite) adoptMarked(h Hands) {
	instance := h.Foreign(s.T, s.scope)
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.container("mine", runtime.Running)
	s.do(runtime.AdoptContainer{New: c, Instance: instance})
	other := s.scope
	other.Fleet, other.Prefix = runtime.NewID(), "u"+other.Prefix[1:]
	for _, rt := range []runtime.Runtime{s.rt, s.open(s.T, other)} {
		if _, err := rt.Inspect(s.Context(), instance); err == nil {
			s.Error("what is marked was inspected")
		}
	}
	again := s.container("twice", runtime.Running)
	none, _, _ := strings.Cut(instance, "/")
	for _, name := range []string{instance, none + "/no-such-instance", "no-such-project/x", "nonsense"} {
		if _, err := s.rt.Do(s.Context(), runtime.AdoptContainer{New: again, Instance: name}); err == nil {
			s.Errorf("%s was adopted", name)
		}
	}
	a := s.observe()
	if len(a.Containers) != 1 || a.Containers[0].ID != c.ID {
		s.Errorf("observed %+v", a.Containers)
	}
}

// copied makes what a copy of from should be.
func (s *suite) copied(from runtime.Container, name string, status runtime.Status) runtime.Container {
	c := s.container(name, status)
	c.Env, c.Keys, c.Comment = map[string]string{"OWN": "1"}, []string{keyB}, "a copy"
	c.Image, c.Kit = from.Image, from.Kit
	return c
}

func (s *suite) copy(status runtime.Status) {
	from := s.container("source", status)
	from.Keys, from.Kit, from.Color, from.Applied = []string{keyA}, true, "fff", "a1"
	from.Resources.Memory, from.Snapshots.Cron = 256<<20, "@daily"
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "shop"}})
	s.do(runtime.CreateContainer{New: from})
	running := s.copied(from, "running", runtime.Running)
	stopped := s.copied(from, "stopped", runtime.Stopped)
	stopped.Project = "shop"
	for range 2 {
		for _, c := range []runtime.Container{running, stopped} {
			ask := c
			ask.Image, ask.Kit = "", false // those of the source
			if d := s.do(runtime.CopyContainer{New: ask, From: from.ID}); d.Container.ID != c.ID {
				s.Errorf("done %+v", d)
			}
		}
	}
	a := s.want(from, running, stopped)
	if status == runtime.Running && a.Addr[from.ID] == a.Addr[running.ID] {
		s.Errorf("both have the address %v", a.Addr[from.ID])
	}
	drawn := s.copied(from, "drawn", runtime.Stopped)
	drawn.ID = ""
	drawn.ID = s.do(runtime.CopyContainer{New: drawn, From: from.ID}).Container.ID
	s.do(runtime.DeleteContainer{Target: from})
	s.want(running, stopped, drawn)
}

func (s *suite) copySnapshot(h Hands) {
	from := s.made("source", runtime.Running)
	h.Snapshot(s.T, s.scope, from.ID, "monday")
	c := s.copied(from, "copy", runtime.Running)
	s.do(runtime.CopyContainer{New: c, From: from.ID, Snapshot: "monday"})
	a := s.want(from, c)
	if len(a.Snapshots[c.ID]) != 0 || len(a.Snapshots[from.ID]) != 1 {
		s.Errorf("snapshots %v", a.Snapshots)
	}
}

func (s *suite) copyNothing() {
	from := s.made("source", runtime.Stopped)
	c := s.copied(from, "copy", runtime.Stopped)
	for _, step := range []runtime.CopyContainer{{New: c, From: runtime.NewID()}, {New: c, From: from.ID, Snapshot: "tuesday"}} {
		if _, err := s.rt.Do(s.Context(), step); err == nil {
			s.Errorf("%s: no error", step)
		}
	}
	s.want(from)
}

func names(list []runtime.Snapshot) (out []string) {
	for _, x := range list {
		out = append(out, x.Name)
	}
	return out
}

// wantArchive holds what is observed to one archive, of c, with snapshots.
func (s *suite) wantArchive(c runtime.Container, snapshots ...string) runtime.Actual {
	s.Helper()
	a := s.want()
	want := []runtime.Archive{{ID: c.ID, Project: c.Project, Name: c.Name, Image: c.Image, Kit: c.Kit, Realms: c.Realms}}
	if d := cmp.Diff(want, a.Archives, Equal, cmpopts.IgnoreFields(runtime.Archive{}, "Until")); d != "" {
		s.Errorf("archives differ (-want +got):\n%s", d)
	}
	if got := names(a.Snapshots[c.ID]); !slices.Equal(got, snapshots) {
		s.Errorf("snapshots %v, want %v", got, snapshots)
	}
	return a
}

func (s *suite) archive(h Hands) {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.container("web1", runtime.Running)
	c.Keys, c.Kit, c.Snapshots = []string{keyA}, true, runtime.Schedule{Cron: "@yearly", Days: 30}
	c.Realms = []string{"0123456789abcdef01234567"}
	s.do(runtime.CreateContainer{New: c})
	before := time.Now()
	h.Snapshot(s.T, s.scope, c.ID, "one")
	s.do(runtime.TakeSnapshot{Of: c.ID, Snapshot: "two", Expires: before.AddDate(0, 0, 30)})
	s.want(c)
	for range 2 { // it has snapshots, so it becomes one whether or not that is asked
		s.do(runtime.DeleteContainer{Target: c})
	}
	a := s.wantArchive(c, "one", "two")
	for _, x := range a.Snapshots[c.ID] {
		if x.Taken.Before(before.Add(-time.Second)) || x.Taken.After(time.Now().Add(time.Second)) {
			s.Errorf("it was taken at %v", x.Taken)
		}
		if days := x.Expires.Sub(x.Taken).Hours() / 24; x.Name == "two" && (days < 29.5 || days > 30.5) {
			s.Errorf("it expires after %v days", days)
		}
		if x.Name == "one" && !x.Expires.IsZero() {
			s.Errorf("what a person took expires at %v", x.Expires)
		}
	}
	for _, step := range []runtime.Step{
		runtime.StartContainer{Target: c},
		runtime.UpdateContainer{From: c, To: c},
		runtime.DeleteProject{Project: runtime.Project{Name: "web"}},
		runtime.CreateContainer{New: c},
	} {
		if _, err := s.rt.Do(s.Context(), step); err == nil {
			s.Errorf("%s, of an archive: no error", step)
		}
	}
	s.wantArchive(c, "one", "two")
	for range 2 {
		s.do(runtime.DeleteArchive{Archive: a.Archives[0]})
	}
	if a := s.want(); len(a.Archives)+len(a.Snapshots) != 0 {
		s.Errorf("left: %v %v", a.Archives, a.Snapshots)
	}
	s.do(runtime.DeleteProject{Project: runtime.Project{Name: "web"}})
}

// restore: a container comes back from its archive as it is asked for, whatever
// it was, and with its snapshots.
func (s *suite) restore(h Hands) {
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	c := s.container("web1", runtime.Running)
	c.Keys, c.Kit, c.Ramdisk, c.Protected, c.Firewall = []string{keyA}, true, !slices.Contains(s.without, "Ramdisk"), true, []runtime.Rule{{Direction: "egress", Action: "drop"}}
	s.do(runtime.CreateContainer{New: c})
	h.Snapshot(s.T, s.scope, c.ID, "one")
	const keep = 48 * time.Hour
	before := time.Now()
	for range 2 {
		s.do(runtime.DeleteContainer{Target: c, Archives: true, Keep: keep})
	}
	a := s.wantArchive(c, "one")
	if until := a.Archives[0].Until.Sub(before); until < keep-2*time.Second || until > keep+time.Minute {
		s.Errorf("it is kept for %v", until)
	}
	if a.Addr[c.ID].IsValid() {
		s.Errorf("it has the address %v", a.Addr[c.ID])
	}
	back := c
	back.Name, back.Env, back.Keys, back.Comment, back.Applied = "web2", map[string]string{"NEW": "1"}, []string{keyB}, "back again", "a1"
	back.Ramdisk, back.Protected, back.Firewall = false, false, nil
	for range 2 {
		if d := s.do(runtime.RestoreContainer{New: back}); d.Container.ID != c.ID || !d.Addr.IsValid() {
			s.Errorf("done %+v", d)
		}
	}
	a = s.want(back)
	if got := names(a.Snapshots[c.ID]); len(a.Archives) != 0 || !slices.Equal(got, []string{"one"}) {
		s.Errorf("archives %v, snapshots %v", a.Archives, got)
	}
	s.do(runtime.DeleteContainer{Target: back, Archives: true, Keep: keep})
	back.Status, back.Asked = runtime.Stopped, runtime.Stopped
	s.do(runtime.RestoreContainer{New: back})
	s.want(back)
	s.do(runtime.StartContainer{Target: back})
	for _, gone := range []runtime.ID{runtime.NewID(), ""} {
		if _, err := s.rt.Do(s.Context(), runtime.RestoreContainer{New: runtime.Container{ID: gone, Project: "web", Name: "none"}}); err == nil {
			s.Errorf("restored from an archive that is not there")
		}
	}
}

func (s *suite) copyArchive() {
	from := s.made("web1", runtime.Running)
	s.do(runtime.DeleteContainer{Target: from, Archives: true, Keep: time.Hour})
	one, two := s.copied(from, "one", runtime.Running), s.copied(from, "two", runtime.Stopped)
	s.do(runtime.CopyContainer{New: one, From: from.ID})
	s.do(runtime.CopyContainer{New: two, From: from.ID})
	a := s.want(one, two)
	if len(a.Archives) != 1 {
		s.Errorf("archives %v", a.Archives)
	}
}

func (s *suite) copyFromPeer(h Hands) {
	scope := s.scope
	scope.Server, scope.Prefix = "there", "u"+scope.Prefix[1:]
	there := &suite{T: s.T, image: s.image, scope: scope, open: s.open, rt: s.open(s.T, scope)}
	s.Cleanup(there.clean)
	from, gone := there.made("web1", runtime.Running), there.container("gone", runtime.Stopped)
	there.do(runtime.CreateContainer{New: gone})
	h.Snapshot(s.T, scope, from.ID, "monday")
	there.do(runtime.DeleteContainer{Target: gone, Archives: true, Keep: time.Hour})

	origin := func(container, snapshot string, archive runtime.ID) *runtime.Origin {
		return &runtime.Origin{Peer: runtime.Peer{Server: "there", Daemon: h.Daemon}, Container: container, Archive: archive, Snapshot: snapshot}
	}
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	var all []runtime.Container
	for name, o := range map[string]*runtime.Origin{
		"as-it-is":   origin("web/web1", "", ""),
		"a-snapshot": origin("web/web1", "monday", ""),
		"an-archive": origin("", "", gone.ID),
	} {
		found, err := s.rt.Seek(s.Context(), *o)
		if err != nil || found.Image != from.Image || found.Kit != from.Kit {
			s.Errorf("%s: found %+v, %v", o.Name(), found, err)
		}
		c := s.copied(from, name, runtime.Running)
		for range 2 {
			if d := s.do(runtime.CopyContainer{New: c, Of: o.Name(), Origin: o}); d.Container.ID != c.ID || !d.Addr.IsValid() {
				s.Errorf("done %+v", d)
			}
		}
		all = append(all, c)
	}
	s.want(all...)
	for _, o := range []*runtime.Origin{origin("web/none", "", ""), origin("web/web1", "tuesday", ""), origin("", "", from.ID)} {
		if _, err := s.rt.Seek(s.Context(), *o); err == nil {
			s.Errorf("%+v was found", o)
		}
		if _, err := s.rt.Do(s.Context(), runtime.CopyContainer{New: s.container("none", runtime.Stopped), Origin: o}); err == nil {
			s.Errorf("%+v was copied", o)
		}
	}
	s.want(all...)
	there.want(from)
}

func (s *suite) deleteSnapshot(h Hands) {
	c := s.made("web1", runtime.Running)
	h.Snapshot(s.T, s.scope, c.ID, "one")
	h.Snapshot(s.T, s.scope, c.ID, "two")
	if got := names(s.observe().Snapshots[c.ID]); !slices.Equal(got, []string{"one", "two"}) {
		s.Errorf("snapshots %v", got)
	}
	remove := func(name string) {
		for range 2 {
			s.do(runtime.DeleteSnapshot{Of: c.ID, Ref: c.Ref(), Snapshot: name})
		}
	}
	remove("one")
	if got := names(s.want(c).Snapshots[c.ID]); !slices.Equal(got, []string{"two"}) {
		s.Errorf("snapshots %v", got)
	}
	s.do(runtime.DeleteContainer{Target: c, Archives: true})
	remove("two")
	s.wantArchive(c)
	s.do(runtime.DeleteSnapshot{Of: runtime.NewID(), Ref: "web/gone", Snapshot: "x"})
}

func (s *suite) takeSnapshot() {
	c := s.made("web1", runtime.Running)
	end := time.Now().AddDate(0, 0, 3).Truncate(time.Second)
	for range 2 {
		s.do(runtime.TakeSnapshot{Of: c.ID, Ref: c.Ref(), Snapshot: "one", Expires: end})
	}
	s.do(runtime.TakeSnapshot{Of: c.ID, Ref: c.Ref(), Snapshot: "two"})
	ends := func(one, two time.Time) {
		s.Helper()
		list := s.want(c).Snapshots[c.ID]
		if len(list) != 2 || !list[0].Expires.Equal(one) || !list[1].Expires.Equal(two) {
			s.Errorf("snapshots %+v, want ends %v and %v", list, one, two)
		}
	}
	ends(end, time.Time{})
	later := end.AddDate(0, 0, 1)
	for range 2 {
		s.do(runtime.ExpireSnapshot{Of: c.ID, Ref: c.Ref(), Snapshot: "one"})
		s.do(runtime.ExpireSnapshot{Of: c.ID, Ref: c.Ref(), Snapshot: "two", Expires: later})
	}
	ends(time.Time{}, later)
	if _, err := s.rt.Do(s.Context(), runtime.TakeSnapshot{Of: runtime.NewID(), Snapshot: "x"}); err == nil {
		s.Error("a snapshot of what is not there was taken")
	}
}

// spared makes project web with a spare.
func (s *suite) spared() runtime.Spare {
	s.Helper()
	s.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	return s.do(runtime.CreateSpare{Spare: runtime.Spare{Project: "web", Image: s.image, Kit: true}}).Spare
}

func (s *suite) spare() {
	one := s.spared()
	two := s.do(runtime.CreateSpare{Spare: one.Kind()}).Spare
	if one.ID == two.ID || len(one.ID) != 24 || one.Kind() != two.Kind() {
		s.Errorf("made %v and %v", one, two)
	}
	want := runtime.State{Spares: []runtime.Spare{one, two}}
	want.Sort()
	if a := s.want(); !slices.Equal(a.Spares, want.Spares) {
		s.Errorf("spares %v, want %v", a.Spares, want.Spares)
	}
	c := s.container("web1", runtime.Running)
	c.ID = one.ID
	if _, err := s.rt.Do(s.Context(), runtime.StopContainer{Target: c}); err == nil {
		s.Error("a spare was stopped as if it were a container")
	}
	s.do(runtime.DeleteContainer{Target: c})
	if _, err := s.rt.Do(s.Context(), runtime.DeleteProject{Project: runtime.Project{Name: "web"}}); err == nil {
		s.Error("a project with spares was deleted")
	}
	for range 2 {
		s.do(runtime.DeleteSpare{Spare: one})
	}
	if a := s.want(); !slices.Equal(a.Spares, []runtime.Spare{two}) {
		s.Errorf("spares %v, want %v", a.Spares, two)
	}
}

func (s *suite) claim(h Hands) {
	spare := s.spared()
	c := s.container("web_1", runtime.Running)
	c.Kit, c.Keys, c.Color, c.Comment = true, []string{keyA}, "fff", "of the pool"
	c.Env["EMPTY"], c.Applied = "", "a1"
	c.Resources.Memory, c.Resources.CPU, c.Snapshots.Cron = 256<<20, 1, "@daily"
	start := h.Start(s.T, s.scope, spare.ID)
	var addr [2]string
	for i := range 2 {
		d := s.do(runtime.ClaimContainer{New: c, Spare: spare})
		if !d.Container.Same(c) {
			s.Errorf("done %+v", d)
		}
		addr[i] = d.Addr.String()
	}
	a := s.want(c)
	if len(a.Spares) != 0 || addr[0] != addr[1] || addr[0] != a.Addr[c.ID].String() {
		s.Errorf("spares %v, addresses %v and %v", a.Spares, addr, a.Addr)
	}
	if now := h.Start(s.T, s.scope, c.ID); now != start {
		s.Errorf("it was started again: %q, then %q", start, now)
	}
	s.do(runtime.DeleteSpare{Spare: spare}) // gone, so there is nothing to do
	s.want(c)
	to := c
	to.Env, to.Name = map[string]string{"NEW": "1"}, "web2"
	s.do(runtime.UpdateContainer{From: c, To: to})
	s.want(to)
}

func (s *suite) claimAtOnce() {
	spare := s.spared()
	const many = 4
	errs := make([]error, many)
	all := make([]runtime.Container, many)
	var wait sync.WaitGroup
	for i := range many {
		all[i] = s.container(fmt.Sprint("web", i), runtime.Running)
		all[i].Kit, all[i].Keys = true, []string{keyA}
		rt := s.open(s.T, s.scope)
		wait.Go(func() { _, errs[i] = rt.Do(s.Context(), runtime.ClaimContainer{New: all[i], Spare: spare}) })
	}
	wait.Wait()
	var won []runtime.Container
	for i, err := range errs {
		if err == nil {
			won = append(won, all[i])
		}
	}
	if len(won) != 1 {
		s.Errorf("%d have it: %v", len(won), errs)
	}
	s.want(won...)
}
