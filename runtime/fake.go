package runtime

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Fake is a runtime in memory: what an Incus daemon is to runtime/incus. It
// passes the same contract suite, so tests that need speed or faults may
// trust it. The zero Fake is empty and ready.
//
// Its containers get addresses from 127.1.0.0/16, so that a test can put a
// server behind one.
type Fake struct {
	// Fault, when set, is asked before and after the effect of every call; an
	// error is what the caller sees, whether or not the effect took place. It
	// may also take its time.
	Fault func(Call) error
	// Draw, when set, gives the ID of the project or the project/container
	// of a name instead of NewID, so that a test knows it beforehand.
	Draw func(name string) ID
	// Now is the clock of leases and snapshots; nil: the real one.
	Now func() time.Time

	mu      sync.Mutex
	world   world
	writes  int
	begun   time.Duration // nanoseconds: one for each start
	watches []chan<- struct{}
	guards  []*func(Repair)
}

// Call is a call of a Runtime's method, before or after its effect.
type Call struct {
	Method string // "Observe", "Do", …
	Step   Step   // of Do; else nil
	After  bool
}

// world is all that a Fake holds, as it is saved and loaded.
type world struct {
	Projects   []fakeProject
	Containers []fakeContainer
	Notes      []fakeNote
	Foreign    map[string]Container // by "<incus project>/<instance>"
	Listeners  []Listener           // of the host
	Faults     []string             // of the host
}

type mark struct {
	Fleet  ID
	Server string
}

type fakeProject struct {
	Mark   mark
	Prefix string // part of the project's name for the engine
	Project
}

// fakeContainer is an instance, whatever role it has.
type fakeContainer struct {
	Mark mark
	Role role
	Container
	Addr  netip.Addr
	Used  int64 // of the disk
	Taken []Snapshot
	Until time.Time // of an archive
	// Started is when its init was started last, which is under way while Up.
	Started time.Time
	Up      bool
}

type role string

const (
	inUse    role = ""
	spare    role = "spare"
	archived role = "archive"
)

type fakeNote struct {
	Mark       mark
	Key, Value string
}

// Open returns the view of one scope.
func (f *Fake) Open(s Scope) Runtime {
	return &fakeView{f, mark{s.Fleet, s.Server}, s.Prefix}
}

// Writes is how many changes were made so far; reading makes none.
func (f *Fake) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// MarshalJSON saves everything that the Fake holds.
func (f *Fake) MarshalJSON() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return json.MarshalIndent(f.world, "", "  ")
}

// UnmarshalJSON replaces everything that the Fake holds.
func (f *Fake) UnmarshalJSON(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.world = world{}
	return json.Unmarshal(b, &f.world)
}

// Reboot is a restart of the host: nothing runs after it.
func (f *Fake) Reboot() {
	f.each(func(c *fakeContainer) { c.Status, c.Asleep = Stopped, true })
}

// Meddle changes a container behind swage's back.
func (f *Fake) Meddle(id ID, change func(*Container)) {
	f.each(func(c *fakeContainer) {
		if c.ID == id {
			change(&c.Container)
		}
	})
}

// Listen replaces the sockets of the host that await callers.
func (f *Fake) Listen(all ...Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.world.Listeners = all
}

// Ail replaces the faults of the host.
func (f *Fake) Ail(faults ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.world.Faults = faults
	f.changed()
}

// Fill has a container use so much of its disk.
func (f *Fake) Fill(id ID, used int64) {
	f.each(func(c *fakeContainer) {
		if c.ID == id {
			c.Used = used
		}
	})
}

// TakeSnapshot is what a person does.
func (f *Fake) TakeSnapshot(id ID, name string) {
	f.each(func(c *fakeContainer) {
		if c.ID == id {
			f.snapshot(c, name, time.Time{})
		}
	})
}

// AddForeign puts an instance there that is not ours; see Runtime.Inspect.
func (f *Fake) AddForeign(instance string, c Container) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.world.Foreign == nil {
		f.world.Foreign = map[string]Container{}
	}
	if c.Resources.Processes == 0 { // as an engine makes one of which no more is said
		c.Resources.Processes = NoLimit
	}
	f.world.Foreign[instance] = c
	f.changed()
}

// Copy is what a person does who copies an instance with all that it carries.
func (f *Fake) Copy(id ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.world.Containers, func(c fakeContainer) bool { return c.ID == id })
	twin := f.world.Containers[i]
	twin.Status = Stopped
	f.world.Containers = append(f.world.Containers, twin)
	f.changed()
}

// RemoveCopies is what a person does who removes them again.
func (f *Fake) RemoveCopies(id ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := true
	f.world.Containers = slices.DeleteFunc(f.world.Containers, func(c fakeContainer) bool {
		gone := c.ID == id && !first
		first = first && c.ID != id
		return gone
	})
	f.changed()
}

func (f *Fake) each(do func(*fakeContainer)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.world.Containers {
		do(&f.world.Containers[i])
	}
	f.begin()
	f.changed()
}

// begin follows what a change starts and stops. Two starts never have the same
// time, whatever the clock.
func (f *Fake) begin() {
	for i := range f.world.Containers {
		c := &f.world.Containers[i]
		up := c.Status == Running || c.Status == Paused
		if up && !c.Up {
			f.begun++
			c.Started = f.now().Add(f.begun)
		}
		c.Up = up
	}
}

// Restart is what a container does that ends its init and starts another.
func (f *Fake) Restart(id ID) {
	f.each(func(c *fakeContainer) { c.Up = c.Up && c.ID != id })
}

// changed counts a write and hints at it.
func (f *Fake) changed() {
	f.writes++
	for _, w := range f.watches {
		hint(w)
	}
}

func hint(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

func (f *Fake) draw(name string) ID {
	if f.Draw != nil {
		return f.Draw(name)
	}
	return NewID()
}

func (f *Fake) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now().UTC().Round(0)
}

func (f *Fake) snapshot(c *fakeContainer, name string, expires time.Time) {
	if slices.ContainsFunc(c.Taken, func(s Snapshot) bool { return s.Name == name }) {
		return
	}
	c.Taken = append(c.Taken, Snapshot{Name: name, Taken: f.now(), Expires: expires})
}

type fakeView struct {
	*Fake
	mark   mark
	prefix string
}

// call runs one method between its faults.
func (v *fakeView) call(ctx context.Context, c Call, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if v.Fault != nil {
		if err := v.Fault(c); err != nil {
			return err
		}
	}
	v.mu.Lock()
	err := effect()
	v.begin()
	v.mu.Unlock()
	if err == nil && v.Fault != nil {
		c.After = true
		err = v.Fault(c)
	}
	return err
}

func (v *fakeView) Observe(ctx context.Context) (Actual, error) {
	a := Actual{Addr: map[ID]netip.Addr{}, Addr6: map[ID]netip.Addr{}, Started: map[ID]time.Time{}, Notes: map[string]string{}}
	a.Snapshots = map[ID][]Snapshot{}
	err := v.call(ctx, Call{Method: "Observe"}, func() error {
		for _, p := range v.world.Projects {
			if p.Mark == v.mark {
				a.Projects = append(a.Projects, p.Project)
			}
		}
		a.Faults = slices.Clone(v.world.Faults)
		a.Listeners = slices.Clone(v.world.Listeners)
		seen := map[ID]fakeContainer{}
		for _, c := range v.world.Containers {
			if c.Mark != v.mark {
				continue
			}
			if first, ok := seen[c.ID]; ok {
				a.Conflicts = append(a.Conflicts, c.copyOf(first))
				continue
			}
			seen[c.ID] = c
			if len(c.Taken) > 0 {
				a.Snapshots[c.ID] = slices.Clone(c.Taken)
			}
			switch c.Role {
			case spare:
				s := Spare{ID: c.ID, Project: c.Project}
				if c.Status == Running {
					s.Image, s.Kit = c.Image, c.Kit
				}
				a.Spares = append(a.Spares, s)
				continue
			case archived:
				a.Archives = append(a.Archives, Archive{c.ID, c.Project, c.Name, c.Image, c.Kit, c.Realms, c.Until})
				continue
			}
			a.Containers = append(a.Containers, c.Container)
			if !c.Started.IsZero() {
				a.Started[c.ID] = c.Started
			}
			if d := c.done(); d.Addr.IsValid() {
				a.Addr[c.ID], a.Addr6[c.ID] = d.Addr, d.Addr6
			}
		}
		for _, n := range v.world.Notes {
			if n.Mark == v.mark && n.Key != leaseKey {
				a.Notes[n.Key] = n.Value
			}
		}
		return nil
	})
	if err != nil {
		return Actual{}, err
	}
	a.Sort()
	return a, nil
}

// copyOf is the conflict of a copy that somebody made by hand.
func (c fakeContainer) copyOf(first fakeContainer) Conflict {
	return Conflict{
		ID: c.ID, Project: c.Project, Name: c.Name, Object: "copy of " + first.Ref(),
		Why: "it is a copy of " + first.Ref() + "; remove its mark, or delete it",
	}
}

// turn makes c do something else, as target was asked to.
func (c *fakeContainer) turn(target Container, status Status) {
	c.Status, c.Asked, c.Asleep = status, status, false
	c.Commit, c.Applied = target.Commit, target.Applied
}

// done is what a step on c left behind.
func (c *fakeContainer) done() Done {
	d := Done{Container: c.Container}
	if c.Status == Running || c.Status == Paused {
		b := c.Addr.As4()
		d.Addr = c.Addr
		d.Addr6 = netip.AddrFrom16([16]byte{0: 0xfd, 13: b[1], 14: b[2], 15: b[3]})
	}
	return d
}

func (v *fakeView) Inspect(ctx context.Context, instance string) (Container, error) {
	var out Container
	err := v.call(ctx, Call{Method: "Inspect"}, func() error {
		c, ok := v.world.Foreign[instance]
		if !ok {
			return fmt.Errorf("there is no instance %s that is nobody's", instance)
		}
		out = c
		return nil
	})
	return out, err
}

func (v *fakeView) Seek(ctx context.Context, o Origin) (Container, error) {
	var out Container
	err := v.call(ctx, Call{Method: "Seek"}, func() error {
		c, err := v.elsewhere(o)
		out = c.Container
		return err
	})
	return out, err
}

// elsewhere finds what another server has: the engine is that of all.
func (v *fakeView) elsewhere(o Origin) (fakeContainer, error) {
	peer := fakeView{v.Fake, mark{v.mark.Fleet, o.Peer.Server}, v.prefix}
	for _, c := range v.world.Containers {
		named := c.Role == inUse && c.Ref() == o.Container
		if o.Archive != "" {
			named = c.Role == archived && c.ID == o.Archive
		}
		if c.Mark == peer.mark && named {
			return peer.original(c.ID, o.Snapshot)
		}
	}
	return fakeContainer{}, fmt.Errorf("there is no %s", o.Name())
}

func (v *fakeView) Do(ctx context.Context, s Step) (Done, error) {
	var d Done
	err := v.call(ctx, Call{Method: "Do", Step: s}, func() (err error) {
		v.changed()
		d, err = v.apply(s)
		return err
	})
	if err != nil {
		return Done{}, fmt.Errorf("%s: %w", s, err)
	}
	return d, nil
}

func (v *fakeView) apply(s Step) (Done, error) {
	switch s := s.(type) {
	case CreateProject:
		return v.createProject(s.Project)
	case DeleteProject:
		return Done{}, v.deleteProject(s.Project.Name)
	case CreateContainer:
		return v.createContainer(s.New)
	case CopyContainer:
		return v.copyContainer(s)
	case ClaimContainer:
		return v.claim(s)
	case AdoptContainer:
		return v.adopt(s)
	case UpdateContainer:
		var small error
		d, err := v.change(s.From.ID, func(c *fakeContainer) {
			status := c.Status
			if s.Restarts() {
				status, c.Up = Running, false
			}
			to := s.To
			if small = CheckDisk(c.Resources.Disk, to.Resources.Disk, c.Used); small != nil {
				to.Resources.Disk, to.Applied = c.Resources.Disk, ""
			}
			to.Unwritten = false
			to.ID, to.Project, to.Image, to.Kit, to.Status, to.Asleep = c.ID, c.Project, c.Image, c.Kit, status, c.Asleep && status == Stopped
			c.Container = to
		})
		return d, cmp.Or(err, small)
	case MoveContainer:
		if v.project(s.To.Project) < 0 {
			return Done{}, fmt.Errorf("project %s does not exist", s.To.Project)
		}
		return v.change(s.From.ID, func(c *fakeContainer) {
			c.Project, c.Name, c.Commit, c.Applied = s.To.Project, s.To.Name, s.To.Commit, s.To.Applied
			c.Status = s.From.Status
		})
	case StartContainer:
		return v.change(s.Target.ID, func(c *fakeContainer) { c.turn(s.Target, Running) })
	case StopContainer:
		return v.change(s.Target.ID, func(c *fakeContainer) { c.turn(s.Target, Stopped) })
	case PauseContainer:
		return v.awake(s.Target, Paused)
	case ResumeContainer:
		return v.awake(s.Target, Running)
	case DeleteContainer:
		return Done{}, v.deleteContainer(s)
	case RestoreContainer:
		return v.restore(s.New)
	case DeleteArchive:
		return Done{}, v.remove(s.Archive.ID, archived)
	case TakeSnapshot:
		i := v.find(s.Of)
		if i < 0 {
			return Done{}, fmt.Errorf("container %s does not exist", s.Of)
		}
		v.snapshot(&v.world.Containers[i], s.Snapshot, s.Expires)
		return Done{}, nil
	case ExpireSnapshot:
		if i := v.find(s.Of); i >= 0 {
			for n, x := range v.world.Containers[i].Taken {
				if x.Name == s.Snapshot {
					v.world.Containers[i].Taken[n].Expires = s.Expires
				}
			}
		}
		return Done{}, nil
	case DeleteSnapshot:
		if i := v.find(s.Of); i >= 0 {
			c := &v.world.Containers[i]
			c.Taken = slices.DeleteFunc(c.Taken, func(x Snapshot) bool { return x.Name == s.Snapshot })
		}
		return Done{}, nil
	case CreateSpare:
		return v.createSpare(s.Spare)
	case DeleteSpare:
		return Done{}, v.remove(s.Spare.ID, spare)
	}
	return Done{}, fmt.Errorf("unknown step %T", s)
}

// awake is turn for what a stopped container cannot do.
func (v *fakeView) awake(target Container, status Status) (Done, error) {
	if i := v.find(target.ID); i >= 0 && v.world.Containers[i].Status == Stopped {
		return Done{}, fmt.Errorf("the container is stopped")
	}
	return v.change(target.ID, func(c *fakeContainer) { c.turn(target, status) })
}

// project finds our own by name, whatever prefix it was made with, else what
// has the engine's name for it.
func (v *fakeView) project(name string) int {
	own := slices.IndexFunc(v.world.Projects, func(p fakeProject) bool {
		return p.Mark == v.mark && p.Name == name
	})
	if own >= 0 {
		return own
	}
	return slices.IndexFunc(v.world.Projects, func(p fakeProject) bool {
		return p.Prefix == v.prefix && p.Name == name
	})
}

func (v *fakeView) createProject(p Project) (Done, error) {
	if i := v.project(p.Name); i >= 0 {
		have := v.world.Projects[i]
		if have.Mark != v.mark {
			return Done{}, foreign("project", p.Name)
		}
		return Done{Project: have.Project}, nil
	}
	if p.ID == "" {
		p.ID = v.draw(p.Name)
	}
	v.world.Projects = append(v.world.Projects, fakeProject{v.mark, v.prefix, p})
	return Done{Project: p}, nil
}

func (v *fakeView) deleteProject(name string) error {
	i := v.project(name)
	if i < 0 {
		return nil
	}
	if v.world.Projects[i].Mark != v.mark {
		return foreign("project", name)
	}
	for _, c := range v.world.Containers {
		if c.Mark == v.mark && c.Project == name {
			return fmt.Errorf("project %s is not empty", name)
		}
	}
	v.world.Projects = slices.Delete(v.world.Projects, i, i+1)
	return nil
}

// made is what was made earlier by a step that was cut short.
func (v *fakeView) made(c Container) (Done, bool) {
	if i := v.find(c.ID); c.ID == "" || i < 0 || v.world.Containers[i].Role != inUse {
		return Done{}, false
	}
	d, _ := v.change(c.ID, func(x *fakeContainer) { x.Status = c.Status })
	return d, true
}

func (v *fakeView) createContainer(c Container) (Done, error) {
	if d, ok := v.made(c); ok {
		return d, nil
	}
	return v.add(c, inUse)
}

func (v *fakeView) add(c Container, r role) (Done, error) {
	if v.project(c.Project) < 0 {
		return Done{}, fmt.Errorf("project %s does not exist", c.Project)
	}
	if c.ID == "" {
		c.ID = v.draw(c.Ref())
	}
	if v.find(c.ID) >= 0 {
		return Done{}, fmt.Errorf("the id %s is in use", c.ID)
	}
	made := fakeContainer{Mark: v.mark, Role: r, Container: c, Addr: v.allocate(c.ID)}
	v.world.Containers = append(v.world.Containers, made)
	return made.done(), nil
}

func (v *fakeView) copyContainer(s CopyContainer) (Done, error) {
	if d, ok := v.made(s.New); ok {
		return d, nil
	}
	var from fakeContainer
	var err error
	if s.Origin != nil {
		from, err = v.elsewhere(*s.Origin)
	} else {
		from, err = v.original(s.From, s.Snapshot)
	}
	if err != nil {
		return Done{}, err
	}
	c := s.New
	c.Image, c.Kit = from.Image, from.Kit
	if err := CheckDisk(0, c.Resources.Disk, from.Used); err != nil {
		return Done{}, err
	}
	return v.add(c, inUse)
}

// original is what can be copied.
func (v *fakeView) original(id ID, snapshot string) (fakeContainer, error) {
	i := v.find(id)
	if i < 0 {
		return fakeContainer{}, fmt.Errorf("container %s does not exist", id)
	}
	from := v.world.Containers[i]
	if from.Role == spare {
		return from, fmt.Errorf("%s has nothing to copy", id)
	}
	if snapshot != "" && !slices.ContainsFunc(from.Taken, func(x Snapshot) bool { return x.Name == snapshot }) {
		return from, fmt.Errorf("%s has no snapshot %s", from.Ref(), snapshot)
	}
	return from, nil
}

func (v *fakeView) claim(s ClaimContainer) (Done, error) {
	if d, ok := v.made(s.New); ok {
		return d, nil
	}
	i := v.find(s.Spare.ID)
	if i < 0 || v.world.Containers[i].Role != spare {
		return Done{}, fmt.Errorf("the spare is gone")
	}
	c := s.New
	if err := CheckDisk(0, c.Resources.Disk, v.world.Containers[i].Used); err != nil {
		return Done{}, err
	}
	if c.ID == "" {
		c.ID = v.draw(c.Ref())
	}
	if v.find(c.ID) >= 0 {
		return Done{}, fmt.Errorf("the id %s is in use", c.ID)
	}
	c.Image, c.Kit = v.world.Containers[i].Image, v.world.Containers[i].Kit
	v.world.Containers[i].Role, v.world.Containers[i].Container = inUse, c
	return v.change(c.ID, func(*fakeContainer) {})
}

func (v *fakeView) adopt(s AdoptContainer) (Done, error) {
	if d, ok := v.made(s.New); ok {
		return d, nil
	}
	c, ok := v.world.Foreign[s.Instance]
	if !ok {
		return Done{}, fmt.Errorf("there is no instance %s that is nobody's", s.Instance)
	}
	d, err := v.add(s.Adopted(c), inUse)
	if err == nil {
		delete(v.world.Foreign, s.Instance)
	}
	return d, err
}

func (v *fakeView) createSpare(s Spare) (Done, error) {
	d, err := v.add(Container{Project: s.Project, Name: "spare", Image: s.Image, Kit: s.Kit, Status: Running}, spare)
	s.ID = d.Container.ID
	return Done{Spare: s}, err
}

func (v *fakeView) deleteContainer(s DeleteContainer) error {
	i := v.find(s.Target.ID)
	if i < 0 || v.world.Containers[i].Role != inUse {
		return nil
	}
	c := &v.world.Containers[i]
	if !s.Archives && len(c.Taken) == 0 {
		return v.remove(c.ID, inUse)
	}
	c.Role, c.Status, c.Env, c.Keys = archived, Stopped, nil, nil
	c.Until = v.now().Add(s.Keep).Truncate(time.Second)
	return nil
}

func (v *fakeView) restore(c Container) (Done, error) {
	if d, ok := v.made(c); ok {
		return d, nil
	}
	i := v.find(c.ID)
	if i < 0 || v.world.Containers[i].Role != archived {
		return Done{}, fmt.Errorf("there is no archive %s", c.ID)
	}
	x := &v.world.Containers[i]
	if err := CheckDisk(0, c.Resources.Disk, x.Used); err != nil {
		return Done{}, err
	}
	c.Image, c.Kit = x.Image, x.Kit
	x.Role, x.Container, x.Addr, x.Until = inUse, c, netip.Addr{}, time.Time{}
	x.Addr = v.allocate(c.ID)
	return x.done(), nil
}

func (v *fakeView) remove(id ID, r role) error {
	if i := v.find(id); i >= 0 && v.world.Containers[i].Role == r {
		v.world.Containers = slices.Delete(v.world.Containers, i, i+1)
	}
	return nil
}

// allocate finds a free address, the same one for the same ID wherever it can.
func (v *fakeView) allocate(id ID) netip.Addr {
	taken := map[netip.Addr]bool{}
	for _, c := range v.world.Containers {
		taken[c.Addr] = true
	}
	h := fnv.New32a()
	h.Write([]byte(id))
	for n := h.Sum32(); ; n++ {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 127<<24|1<<16|n%65535+1)
		if a := netip.AddrFrom4(b); !taken[a] {
			return a
		}
	}
}

// find is the oldest with the ID: a copy by hand comes behind it.
func (v *fakeView) find(id ID) int {
	return slices.IndexFunc(v.world.Containers, func(c fakeContainer) bool {
		return c.Mark == v.mark && c.ID == id
	})
}

func (v *fakeView) change(id ID, f func(*fakeContainer)) (Done, error) {
	i := v.find(id)
	if i < 0 || v.world.Containers[i].Role != inUse {
		return Done{}, fmt.Errorf("container %s does not exist", id)
	}
	f(&v.world.Containers[i])
	return v.world.Containers[i].done(), nil
}

func (v *fakeView) Watch(ctx context.Context, changed chan<- struct{}) error {
	v.mu.Lock()
	v.watches = append(v.watches, changed)
	v.mu.Unlock()
	hint(changed) // of what happened before it listened
	<-ctx.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watches = slices.DeleteFunc(v.watches, func(w chan<- struct{}) bool { return w == changed })
	return ctx.Err()
}

// Guard ends with its context: nothing of a host belongs to the engine in memory
// but what a test says with Repaired.
func (v *fakeView) Guard(ctx context.Context, tell func(Repair)) error {
	v.mu.Lock()
	id := new(func(Repair))
	*id = tell
	v.guards = append(v.guards, id)
	v.mu.Unlock()
	<-ctx.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.guards = slices.DeleteFunc(v.guards, func(g *func(Repair)) bool { return g == id })
	return ctx.Err()
}

// Repaired has everybody who guards tell of a repair, and says how many did.
func (f *Fake) Repaired(r Repair) int {
	f.mu.Lock()
	guards := slices.Clone(f.guards)
	f.mu.Unlock()
	for _, tell := range guards {
		(*tell)(r)
	}
	return len(guards)
}

// leaseKey is the note that holds the lease.
const leaseKey = "lease"

func (v *fakeView) note(key string) *fakeNote {
	for i := range v.world.Notes {
		if n := &v.world.Notes[i]; n.Mark == v.mark && n.Key == key {
			return n
		}
	}
	v.world.Notes = append(v.world.Notes, fakeNote{Mark: v.mark, Key: key})
	return &v.world.Notes[len(v.world.Notes)-1]
}

func (v *fakeView) Note(ctx context.Context, key, value string) error {
	return v.call(ctx, Call{Method: "Note"}, func() error {
		if n := v.note(key); n.Value != value {
			n.Value = value
			v.writes++ // it wakes nobody
		}
		v.world.Notes = slices.DeleteFunc(v.world.Notes, func(n fakeNote) bool { return n.Value == "" })
		return nil
	})
}

func (v *fakeView) Lease(ctx context.Context, h Holder) error {
	return v.call(ctx, Call{Method: "Lease"}, func() error {
		n := v.note(leaseKey)
		record, err := Grant(n.Value, h, v.now())
		if err == nil {
			n.Value = record
		}
		return err
	})
}

func (v *fakeView) Release(ctx context.Context, h Holder) error {
	return v.call(ctx, Call{Method: "Release"}, func() error {
		if n := v.note(leaseKey); Held(n.Value, h) {
			n.Value = ""
		}
		return nil
	})
}

// foreign is the error for an object that is in the way and not ours.
func foreign(kind, name string) error {
	return fmt.Errorf("%s %s exists and does not carry the mark of this fleet and server; remove or rename it, or choose another name", kind, name)
}
