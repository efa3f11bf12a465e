package incus

import (
	"context"
	"errors"
	"fmt"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// Do performs one step. See runtime.Runtime.
func (r *Runtime) Do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	d, err := r.do(ctx, s)
	if err == nil {
		err = r.address(ctx, &d)
	}
	if err == nil {
		err = r.unguard(ctx, s)
	}
	if err != nil {
		r.mu.Lock()
		r.unsettled = true
		r.mu.Unlock()
		return runtime.Done{}, fmt.Errorf("%s: %w", s, brief(err))
	}
	return d, nil
}

// unguard follows steps that give an address back.
func (r *Runtime) unguard(ctx context.Context, s runtime.Step) error {
	switch s := s.(type) {
	case runtime.DeleteContainer:
		return r.guard.forget(ctx, s.Target.ID)
	case runtime.DeleteSpare:
		return r.guard.forget(ctx, s.Spare.ID)
	}
	return nil
}

func (r *Runtime) do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	switch s := s.(type) {
	case runtime.CreateProject:
		return r.createProject(ctx, s.Project)
	case runtime.DeleteProject:
		return runtime.Done{}, r.deleteProject(ctx, s.Project)
	case runtime.CreateContainer:
		return r.create(ctx, s.New, s.Fresh)
	case runtime.UpdateContainer:
		return r.update(ctx, s)
	case runtime.MoveContainer:
		return r.move(ctx, s)
	case runtime.StartContainer:
		return r.turn(ctx, s.Target, runtime.Running, anyhow, r.start)
	case runtime.StopContainer:
		return r.turn(ctx, s.Target, runtime.Stopped, anyhow, r.stop)
	case runtime.PauseContainer:
		return r.turn(ctx, s.Target, runtime.Paused, awake, r.pause)
	case runtime.ResumeContainer:
		return r.turn(ctx, s.Target, runtime.Running, awake, r.start)
	case runtime.DeleteContainer:
		return runtime.Done{}, r.retire(ctx, s)
	case runtime.CopyContainer:
		return r.copy(ctx, s)
	case runtime.ClaimContainer:
		return r.claim(ctx, s)
	case runtime.AdoptContainer:
		return r.adopt(ctx, s)
	case runtime.RestoreContainer:
		return r.restore(ctx, s.New)
	case runtime.DeleteArchive:
		return runtime.Done{}, r.discard(ctx, s.Archive.ID, roleArchive)
	case runtime.TakeSnapshot:
		return runtime.Done{}, r.snapshot(ctx, s)
	case runtime.ExpireSnapshot:
		return runtime.Done{}, r.expireSnapshot(ctx, s)
	case runtime.DeleteSnapshot:
		return runtime.Done{}, r.deleteSnapshot(ctx, s)
	case runtime.CreateSpare:
		return r.createSpare(ctx, s.Spare)
	case runtime.DeleteSpare:
		return runtime.Done{}, r.discard(ctx, s.Spare.ID, roleSpare)
	}
	return runtime.Done{}, fmt.Errorf("unknown step %T", s)
}

func (r *Runtime) createProject(ctx context.Context, p runtime.Project) (runtime.Done, error) {
	c := r.in(ctx, "")
	name, err := r.project(ctx, p.Name)
	if err != nil {
		return runtime.Done{}, err
	}
	have, _, err := c.GetProject(name)
	if err == nil {
		if !r.marked(have.Config) {
			return runtime.Done{}, unmarked("project", name)
		}
		if have.Config[keyProject] == "" || have.Config[keyID] == "" {
			return runtime.Done{}, errors.New(lostProject(*have).Why)
		}
		p.ID = runtime.ID(have.Config[keyID])
		return runtime.Done{Project: p}, nil
	}
	if !notFound(err) {
		return runtime.Done{}, err
	}
	if p.ID == "" {
		p.ID = runtime.NewID()
	}
	err = c.CreateProject(api.ProjectsPost{
		Name: name,
		ProjectPut: api.ProjectPut{Config: map[string]string{
			// The images, pool and bridge of the default project serve all.
			"features.images": "false", "features.profiles": "false",
			"features.networks": "false", "features.storage.volumes": "false",
			keyFleet: string(r.scope.Fleet), keyServer: r.scope.Server,
			keyProject: p.Name, keyID: string(p.ID),
		}},
	})
	if err != nil {
		return runtime.Done{}, err
	}
	r.mu.Lock()
	r.projects[p.Name] = name
	r.mu.Unlock()
	return runtime.Done{Project: p}, nil
}

func (r *Runtime) deleteProject(ctx context.Context, p runtime.Project) error {
	c := r.in(ctx, "")
	name, err := r.project(ctx, p.Name)
	if err != nil {
		return err
	}
	have, _, err := c.GetProject(name)
	switch {
	case notFound(err):
		return nil
	case err != nil:
		return err
	case !r.marked(have.Config):
		return unmarked("project", name)
	}
	if err := c.DeleteProject(name); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.projects, p.Name)
	r.mu.Unlock()
	return nil
}

func (r *Runtime) delete(ctx context.Context, target runtime.Container) error {
	at, err := r.find(ctx, target.ID)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.lift(ctx, at); err != nil {
		return err
	}
	if err := r.kill(ctx, &at); err != nil && !notFound(err) {
		return err
	}
	if err := r.dropRamdisk(ctx, at); err != nil {
		return err
	}
	c := r.in(ctx, at.project)
	op, err := c.DeleteInstance(at.name)
	if err := finish(c, op, err); err != nil && !notFound(err) {
		return err
	}
	r.mu.Lock()
	delete(r.where, target.ID)
	r.mu.Unlock()
	return nil
}

var errGone = errors.New("no Incus instance of this fleet and server has the container's id")

// patch changes the keys of an instance that body has and leaves all others
// alone.
func (r *Runtime) patch(ctx context.Context, at place, body map[string]any) error {
	if err := r.mount(at); err != nil { // Incus looks at all devices each time
		return err
	}
	return r.patchIf(ctx, at, "", body)
}

// find is where a container is.
func (r *Runtime) find(ctx context.Context, id runtime.ID) (place, error) {
	in, err := r.lookup(ctx, id)
	if err != nil {
		return place{}, err
	}
	return located(in), nil
}

// lookup finds the instance of a container, which a spare or an archive is
// not. A mark that was taken away since it was seen is respected.
func (r *Runtime) lookup(ctx context.Context, id runtime.ID) (*api.Instance, error) {
	in, _, err := r.seek(ctx, id)
	if err != nil {
		return nil, err
	}
	if in.Config[keyRole] != "" {
		return nil, errGone
	}
	r.remember(id, located(in))
	return in, nil
}

func (r *Runtime) remember(id runtime.ID, at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.where[id] = at
}

// done says where a container is after a step.
func done(c runtime.Container, at place) runtime.Done {
	d := runtime.Done{Container: c}
	if c.Status == runtime.Running || c.Status == runtime.Paused {
		d.Addr, d.Addr6 = at.addr, at.addr6
	}
	return d
}
