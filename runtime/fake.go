package runtime

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
)

// Fake is a runtime in memory: what an Incus daemon is to runtime/incus. It
// passes the same contract suite, so tests that need speed or faults may
// trust it. The zero Fake is empty and ready.
//
// Its containers get addresses from 127.1.0.0/16, so that a test can put a
// server behind one.
type Fake struct {
	// Fault, when set, is asked before and after the effect of every step;
	// an error is what the caller sees, whether or not the effect took place.
	Fault func(s Step, after bool) error
	// Draw, when set, gives the ID of the project or the project/container
	// of a name instead of NewID, so that a test knows it beforehand.
	Draw func(name string) ID

	mu      sync.Mutex
	world   world
	writes  int
	watches []chan<- struct{}
}

// world is all that a Fake holds, as it is saved and loaded.
type world struct {
	Projects   []fakeProject
	Containers []fakeContainer
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

type fakeContainer struct {
	Mark mark
	Container
	Addr netip.Addr
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

func (f *Fake) draw(name string) ID {
	if f.Draw != nil {
		return f.Draw(name)
	}
	return NewID()
}

type fakeView struct {
	*Fake
	mark   mark
	prefix string
}

func (v *fakeView) Observe(ctx context.Context) (Actual, error) {
	if err := ctx.Err(); err != nil {
		return Actual{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	a := Actual{Addr: map[ID]netip.Addr{}}
	for _, p := range v.world.Projects {
		if p.Mark == v.mark {
			a.Projects = append(a.Projects, p.Project)
		}
	}
	for _, c := range v.world.Containers {
		if c.Mark != v.mark {
			continue
		}
		a.Containers = append(a.Containers, c.Container)
		if c.Status == Running {
			a.Addr[c.ID] = c.Addr
		}
	}
	a.Sort()
	return a, nil
}

func (v *fakeView) Do(ctx context.Context, s Step) (Done, error) {
	if err := ctx.Err(); err != nil {
		return Done{}, err
	}
	if v.Fault != nil {
		if err := v.Fault(s, false); err != nil {
			return Done{}, err
		}
	}
	d, err := v.apply(s)
	if err == nil && v.Fault != nil {
		err = v.Fault(s, true)
	}
	if err != nil {
		return Done{}, fmt.Errorf("%s: %w", s, err)
	}
	return d, nil
}

func (v *fakeView) apply(s Step) (Done, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writes++
	for _, w := range v.watches {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	switch s := s.(type) {
	case CreateProject:
		return v.createProject(s.Project)
	case DeleteProject:
		return Done{}, v.deleteProject(s.Project.Name)
	case CreateContainer:
		return v.createContainer(s.New)
	case UpdateContainer:
		return v.change(s.From.ID, func(c *fakeContainer) {
			c.Name, c.Env, c.Protected, c.Commit = s.To.Name, s.To.Env, s.To.Protected, s.To.Commit
			if s.Restarts() {
				c.Status = Running
			}
		})
	case MoveContainer:
		if v.project(s.To.Project) < 0 {
			return Done{}, fmt.Errorf("project %s does not exist", s.To.Project)
		}
		return v.change(s.From.ID, func(c *fakeContainer) {
			c.Project, c.Name, c.Commit = s.To.Project, s.To.Name, s.To.Commit
		})
	case StartContainer:
		return v.change(s.Target.ID, func(c *fakeContainer) { c.Status = Running })
	case StopContainer:
		return v.change(s.Target.ID, func(c *fakeContainer) { c.Status = Stopped })
	case DeleteContainer:
		v.world.Containers = slices.DeleteFunc(v.world.Containers, func(c fakeContainer) bool {
			return c.Mark == v.mark && c.ID == s.Target.ID
		})
		return Done{}, nil
	}
	return Done{}, fmt.Errorf("unknown step %T", s)
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
			return fmt.Errorf("project %s still has containers", name)
		}
	}
	v.world.Projects = slices.Delete(v.world.Projects, i, i+1)
	return nil
}

func (v *fakeView) createContainer(c Container) (Done, error) {
	if v.project(c.Project) < 0 {
		return Done{}, fmt.Errorf("project %s does not exist", c.Project)
	}
	for _, have := range v.world.Containers {
		if c.ID != "" && have.ID == c.ID && have.Mark == v.mark {
			return v.change(c.ID, func(x *fakeContainer) { x.Status = c.Status })
		}
	}
	if c.ID == "" {
		c.ID = v.draw(c.Ref())
	}
	v.world.Containers = append(v.world.Containers, fakeContainer{v.mark, c, v.allocate(c.ID)})
	return v.change(c.ID, func(*fakeContainer) {})
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

func (v *fakeView) change(id ID, f func(*fakeContainer)) (Done, error) {
	for i := range v.world.Containers {
		c := &v.world.Containers[i]
		if c.Mark != v.mark || c.ID != id {
			continue
		}
		f(c)
		d := Done{Container: c.Container}
		if c.Status == Running {
			d.Addr = c.Addr
		}
		return d, nil
	}
	return Done{}, fmt.Errorf("container %s does not exist", id)
}

func (v *fakeView) Watch(ctx context.Context, changed chan<- struct{}) error {
	v.mu.Lock()
	v.watches = append(v.watches, changed)
	v.mu.Unlock()
	<-ctx.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watches = slices.DeleteFunc(v.watches, func(w chan<- struct{}) bool { return w == changed })
	return ctx.Err()
}

// foreign is the error for an object that is in the way and not ours.
func foreign(kind, name string) error {
	return fmt.Errorf("%s %s exists and does not carry the mark of this fleet and server; remove or rename it, or choose another name", kind, name)
}
