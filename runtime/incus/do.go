package incus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// stopSeconds is how long a container may take to stop by itself.
const stopSeconds = 10

// Do performs one step. See runtime.Runtime.
func (r *Runtime) Do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	d, err := r.do(ctx, s)
	if err != nil {
		r.mu.Lock()
		r.unsettled = true
		r.mu.Unlock()
		return runtime.Done{}, fmt.Errorf("%s: %w", s, brief(err))
	}
	return d, nil
}

func (r *Runtime) do(ctx context.Context, s runtime.Step) (runtime.Done, error) {
	switch s := s.(type) {
	case runtime.CreateProject:
		return r.createProject(ctx, s.Project)
	case runtime.DeleteProject:
		return runtime.Done{}, r.deleteProject(ctx, s.Project)
	case runtime.CreateContainer:
		return r.create(ctx, s.New)
	case runtime.UpdateContainer:
		return r.update(ctx, s)
	case runtime.MoveContainer:
		return r.move(ctx, s)
	case runtime.StartContainer:
		return r.onExisting(ctx, s.Target, runtime.Running, r.start)
	case runtime.StopContainer:
		return r.onExisting(ctx, s.Target, runtime.Stopped, r.stop)
	case runtime.DeleteContainer:
		return runtime.Done{}, r.delete(ctx, s.Target)
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

func (r *Runtime) create(ctx context.Context, w runtime.Container) (runtime.Done, error) {
	if w.ID != "" {
		if at, err := r.find(ctx, w.ID); err == nil { // made by a step that was cut short
			return r.resume(ctx, at, w)
		} else if !errors.Is(err, errGone) {
			return runtime.Done{}, err
		}
	} else {
		w.ID = runtime.NewID()
	}
	source, err := r.image(ctx, w.Image)
	if err != nil {
		return runtime.Done{}, err
	}
	subnet, addr, err := r.allocate(ctx, w.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	device, rawLXC := r.device(subnet, addr)
	config := map[string]string{
		keyFleet: string(r.scope.Fleet), keyServer: r.scope.Server,
		keyImage: w.Image, keyMaking: "true", "raw.lxc": rawLXC,
	}
	describe(config, w)
	for k, v := range w.Env {
		config[envPrefix+k] = v
	}
	project, err := r.project(ctx, w.Project)
	if err != nil {
		return runtime.Done{}, err
	}
	at := place{project, instanceName(w), addr, false}
	c := r.in(ctx, at.project)
	op, err := c.CreateInstance(api.InstancesPost{
		Name: at.name, Type: api.InstanceTypeContainer, Source: source,
		InstancePut: api.InstancePut{
			Config:   config,
			Profiles: []string{}, // nothing that others may change
			Devices: map[string]map[string]string{
				"root": {"type": "disk", "path": "/", "pool": r.scope.StoragePool},
				nic:    device,
			},
		},
	})
	if err := finish(c, op, err); err != nil {
		// Incus speaks of its database when a name is taken.
		if other, _, gone := c.GetInstance(at.name); gone == nil && !r.marked(other.Config) {
			return runtime.Done{}, unmarked("instance", at.name)
		}
		return runtime.Done{}, err
	}
	if err := r.patch(ctx, at, map[string]any{"config": map[string]string{keyMaking: ""}}); err != nil {
		return runtime.Done{}, err
	}
	r.remember(w.ID, at)
	return r.resume(ctx, at, w)
}

// remake deletes what Incus was making when it was interrupted, and makes it
// again. It may lack its disk, or half of it, and Incus itself cannot tell.
// Nothing ever ran in it, so nothing is lost.
func (r *Runtime) remake(ctx context.Context, at *place) error {
	if !at.partial {
		return nil
	}
	in, _, err := r.in(ctx, at.project).GetInstance(at.name)
	if err != nil {
		return err
	}
	if in.StatusCode != api.Stopped { // somebody started it, so it is whole
		at.partial = false
		return r.patch(ctx, *at, map[string]any{"config": map[string]string{keyMaking: ""}})
	}
	c := container(in)
	if err := r.delete(ctx, c); err != nil {
		return err
	}
	c.Status = runtime.Stopped
	if _, err := r.create(ctx, c); err != nil {
		return err
	}
	*at, err = r.find(ctx, c.ID)
	return err
}

// resume brings a container that was made, perhaps by a step that was cut
// short, to the asked status. Its other fields are compared again by the next
// plan.
func (r *Runtime) resume(ctx context.Context, at place, w runtime.Container) (runtime.Done, error) {
	step := r.stop
	if w.Status == runtime.Running {
		step = r.start
	}
	if err := step(ctx, &at); err != nil {
		return runtime.Done{}, err
	}
	return done(w, at), nil
}

// image prefers what this server has under that name. Otherwise Incus fetches
// it and keeps a copy.
func (r *Runtime) image(ctx context.Context, name string) (api.InstanceSource, error) {
	_, _, err := r.in(ctx, "default").GetImageAlias(name)
	if err == nil {
		return api.InstanceSource{Type: "image", Alias: name}, nil
	}
	if !notFound(err) {
		return api.InstanceSource{}, fmt.Errorf("image %s: %w", name, err)
	}
	return api.InstanceSource{
		Type: "image", Mode: "pull", Alias: name,
		Server: r.scope.ImageServer, Protocol: "simplestreams",
	}, nil
}

// describe writes the keys that follow a container's names and commit.
func describe(config map[string]string, c runtime.Container) {
	config[keyID], config[keyProject], config[keyName] = string(c.ID), c.Project, c.Name
	config[keyCommit] = c.Commit
	config[keyProtected] = "" // which is absent
	if c.Protected {
		config[keyProtected] = "true"
	}
}

func (r *Runtime) update(ctx context.Context, s runtime.UpdateContainer) (runtime.Done, error) {
	at, err := r.find(ctx, s.From.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	if s.Restarts() {
		if err := r.stop(ctx, &at); err != nil {
			return runtime.Done{}, err
		}
	}
	config := map[string]string{}
	describe(config, s.To)
	for k := range s.From.Env {
		config[envPrefix+k] = "" // takes the key away
	}
	for k, v := range s.To.Env {
		config[envPrefix+k] = v
	}
	if err := r.patch(ctx, at, map[string]any{"config": config}); err != nil {
		return runtime.Done{}, err
	}
	if s.Restarts() {
		if err := r.start(ctx, &at); err != nil {
			return runtime.Done{}, err
		}
	}
	return done(s.To, at), nil
}

// patch changes the keys of an instance that body has and leaves all others
// alone.
func (r *Runtime) patch(ctx context.Context, at place, body map[string]any) error {
	path := api.NewURL().Path("1.0", "instances", at.name).Project(at.project).String()
	_, _, err := r.in(ctx, at.project).RawQuery("PATCH", path, body, "")
	return err
}

func (r *Runtime) move(ctx context.Context, s runtime.MoveContainer) (runtime.Done, error) {
	at, err := r.find(ctx, s.From.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	if err := r.stop(ctx, &at); err != nil { // Incus moves nothing that runs
		return runtime.Done{}, err
	}
	project, err := r.project(ctx, s.To.Project)
	if err != nil {
		return runtime.Done{}, err
	}
	to := at
	if at.project != project { // else a move that was cut short
		to = place{project, instanceName(s.To), at.addr, false}
		c := r.in(ctx, at.project)
		op, err := c.MigrateInstance(at.name, api.InstancePost{Name: to.name, Migration: true, Project: to.project})
		if err := finish(c, op, err); err != nil {
			return runtime.Done{}, err
		}
		r.remember(s.To.ID, to)
	}
	config := map[string]string{}
	describe(config, s.To)
	if err := r.patch(ctx, to, map[string]any{"config": config}); err != nil {
		return runtime.Done{}, err
	}
	if s.To.Status == runtime.Running {
		if err := r.start(ctx, &to); err != nil {
			return runtime.Done{}, err
		}
	}
	return done(s.To, to), nil
}

func (r *Runtime) onExisting(ctx context.Context, c runtime.Container, status runtime.Status, step func(context.Context, *place) error) (runtime.Done, error) {
	at, err := r.find(ctx, c.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	if err := step(ctx, &at); err != nil {
		return runtime.Done{}, err
	}
	c.Status = status
	return done(c, at), nil
}

// start may change the address of at.
func (r *Runtime) start(ctx context.Context, at *place) error {
	if err := r.remake(ctx, at); err != nil {
		return err
	}
	c := r.in(ctx, at.project)
	state, _, err := c.GetInstanceState(at.name)
	if err != nil {
		return err
	}
	action := "start"
	switch state.StatusCode {
	case api.Running:
		return nil
	case api.Frozen:
		action = "unfreeze"
	}
	run := func() error {
		op, err := c.UpdateInstanceState(at.name, api.InstanceStatePut{Action: action, Timeout: -1}, "")
		return finish(c, op, err)
	}
	if err = run(); err == nil {
		return nil
	}
	if again, _ := r.readdress(ctx, at, err); again {
		return run()
	}
	return err
}

// stop asks first and then forces. A frozen container cannot answer and is
// forced at once.
func (r *Runtime) stop(ctx context.Context, at *place) error {
	if err := r.remake(ctx, at); err != nil {
		return err
	}
	c := r.in(ctx, at.project)
	state, _, err := c.GetInstanceState(at.name)
	if err != nil || state.StatusCode == api.Stopped {
		return err
	}
	if state.StatusCode != api.Frozen {
		op, err := c.UpdateInstanceState(at.name, api.InstanceStatePut{Action: "stop", Timeout: stopSeconds}, "")
		if err := finish(c, op, err); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return r.kill(ctx, at)
}

func (r *Runtime) kill(ctx context.Context, at *place) error {
	c := r.in(ctx, at.project)
	op, err := c.UpdateInstanceState(at.name, api.InstanceStatePut{Action: "stop", Timeout: stopSeconds, Force: true}, "")
	if err = finish(c, op, err); err != nil && strings.Contains(err.Error(), "already stopped") {
		return nil
	}
	return err
}

func (r *Runtime) delete(ctx context.Context, target runtime.Container) error {
	at, err := r.find(ctx, target.ID)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.kill(ctx, &at); err != nil && !notFound(err) {
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

// find is where a container is. What was seen is asked for again by name, so
// that a mark that was taken away since is respected.
func (r *Runtime) find(ctx context.Context, id runtime.ID) (place, error) {
	r.mu.Lock()
	at, ok := r.where[id]
	r.mu.Unlock()
	if ok {
		in, _, err := r.in(ctx, at.project).GetInstance(at.name)
		if err == nil && r.marked(in.Config) && in.Config[keyID] == string(id) {
			return located(in), nil
		}
		if err != nil && !notFound(err) {
			return place{}, err
		}
	}
	instances, err := r.in(ctx, "").GetInstancesAllProjectsWithFilter(api.InstanceTypeContainer, []string{"config." + keyID + "=" + string(id)})
	if err != nil {
		return place{}, fmt.Errorf("find container %s: %w", id, err)
	}
	for i := range instances {
		if r.marked(instances[i].Config) {
			at = located(&instances[i])
			r.remember(id, at)
			return at, nil
		}
	}
	return place{}, errGone
}

func (r *Runtime) remember(id runtime.ID, at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.where[id] = at
}

// done says where a container is after a step.
func done(c runtime.Container, at place) runtime.Done {
	d := runtime.Done{Container: c}
	if c.Status == runtime.Running {
		d.Addr = at.addr
	}
	return d
}
