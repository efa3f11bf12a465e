package incus

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

func (r *Runtime) create(ctx context.Context, w runtime.Container, fresh bool) (runtime.Done, error) {
	if w.ID != "" {
		if at, err := r.find(ctx, w.ID); err == nil { // made by a step that was cut short
			return r.resume(ctx, at, w)
		} else if !errors.Is(err, errGone) {
			return runtime.Done{}, err
		}
	} else {
		w.ID = runtime.NewID()
	}
	source, err := r.image(ctx, w.Image, fresh)
	if err != nil {
		return runtime.Done{}, err
	}
	a, err := r.allocate(ctx, w.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	project, err := r.project(ctx, w.Project)
	if err != nil {
		return runtime.Done{}, err
	}
	keys := config(w)
	maps.Copy(keys, r.mark())
	keys[keyMaking], keys[rawLXC] = "true", guest(w, a.raw(""))
	at := place{
		project: project, name: instanceName(w), addr: a.addr, addr6: a.addr6(),
		status: api.Stopped, id: w.ID, ramdisk: w.Ramdisk, memory: w.Resources.Memory,
	}
	if err := r.mount(at); err != nil {
		return runtime.Done{}, err
	}
	c := r.in(ctx, at.project)
	op, err := c.CreateInstance(api.InstancesPost{
		Name: at.name, Type: api.InstanceTypeContainer, Source: source,
		InstancePut: api.InstancePut{
			Config:   keys,
			Profiles: []string{}, // nothing that others may change
			Devices:  devices(w, r.scope, a.device()),
		},
	})
	if err := finish(c, op, err); err != nil {
		// Incus speaks of its database when a name is taken.
		if other, _, gone := c.GetInstance(at.name); gone == nil && !r.marked(other.Config) {
			return runtime.Done{}, unmarked("instance", at.name)
		}
		return runtime.Done{}, err
	}
	if err := r.nameInside(ctx, at); err != nil {
		return runtime.Done{}, err
	}
	if len(w.Keys) > 0 {
		if err := r.writeKeys(ctx, at, w.Keys); err != nil {
			return runtime.Done{}, err
		}
	}
	// Incus forgets the description of what it makes of an image.
	if err := r.patch(ctx, at, map[string]any{"description": w.Comment, "config": map[string]string{keyMaking: ""}}); err != nil {
		return runtime.Done{}, err
	}
	r.remember(w.ID, at)
	return r.resume(ctx, at, w)
}

// mark is what makes an object one of this scope; see keyBoot too.
func (r *Runtime) mark() map[string]string {
	return map[string]string{keyFleet: string(r.scope.Fleet), keyServer: r.scope.Server, keyBoot: r.boot}
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
	if _, err := r.create(ctx, c, false); err != nil {
		return err
	}
	*at, err = r.find(ctx, c.ID)
	return err
}

// resume brings a container that was made, perhaps by a step that was cut
// short, to the asked status. Its other fields are compared again by the next
// plan.
func (r *Runtime) resume(ctx context.Context, at place, w runtime.Container) (runtime.Done, error) {
	if err := r.bring(ctx, &at, w.Status); err != nil {
		return runtime.Done{}, err
	}
	return done(w, at), nil
}

// image prefers what this server has under that name. Otherwise, and for a
// fresh one, Incus fetches it and keeps a copy.
func (r *Runtime) image(ctx context.Context, name string, fresh bool) (api.InstanceSource, error) {
	if !fresh {
		_, _, err := r.in(ctx, "default").GetImageAlias(name)
		if err == nil {
			runtime.Phase(ctx, "unpacking the image")
			return api.InstanceSource{Type: "image", Alias: name}, nil
		}
		if !notFound(err) {
			return api.InstanceSource{}, fmt.Errorf("image %s: %w", name, err)
		}
	}
	runtime.Phase(ctx, "fetching the image")
	return api.InstanceSource{
		Type: "image", Mode: "pull", Alias: name,
		Server: r.scope.ImageServer, Protocol: "simplestreams",
	}, nil
}
