package incus

import (
	"context"
	"errors"
	"fmt"
	"maps"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

func (r *Runtime) create(ctx context.Context, w runtime.Container, fresh bool) (runtime.Done, error) {
	if at, ok, err := r.made(ctx, &w.ID); err != nil {
		return runtime.Done{}, err
	} else if ok {
		return r.resume(ctx, at, w)
	}
	source, err := r.image(ctx, w.Image, fresh)
	if err != nil {
		return runtime.Done{}, err
	}
	how := recipe{source: source, making: "true"}
	at, err := r.build(ctx, w, how)
	if err != nil {
		return runtime.Done{}, err
	}
	if simple(w, how) {
		return r.resume(ctx, at, w)
	}
	return r.complete(ctx, at, w)
}

// made finds what an earlier step that was cut short has made under an id,
// which it draws if there is none.
func (r *Runtime) made(ctx context.Context, id *runtime.ID) (place, bool, error) {
	if *id == "" {
		*id = runtime.NewID()
		return place{}, false, nil
	}
	in, _, err := r.seek(ctx, *id)
	switch {
	case errors.Is(err, errGone):
		return place{}, false, nil
	case err != nil:
		return place{}, false, err
	case in.Config[keyRole] != "":
		return place{}, false, fmt.Errorf("the id %s is that of an archive; choose another id, with copy_from: {archive: %q} to have its data, or delete the archive", *id, *id)
	}
	return located(in), true, nil
}

// recipe is how an instance is made.
type recipe struct {
	source api.InstanceSource
	making string // of keyMaking meanwhile: how to make it again
	role   string
	arch   string // of a copy from another server
}

func (how recipe) copy() bool { return how.source.Type != "image" }

// build makes an instance that is whole, and stopped.
func (r *Runtime) build(ctx context.Context, w runtime.Container, how recipe) (place, error) {
	a, err := r.allocate(ctx, w.ID)
	if err != nil {
		return place{}, err
	}
	project, err := r.project(ctx, w.Project)
	if err != nil {
		return place{}, err
	}
	keys := config(w)
	if !simple(w, how) {
		keys[keyApplied] = ""
	}
	maps.Copy(keys, r.mark())
	keys[keyMaking], keys[keyRole], keys[rawLXC] = how.making, how.role, guest(w, a.raw(""))
	at := place{
		project: project, name: instanceName(w, 0), addr: a.addr, addr6: a.addr6(), mac: a.hwaddr(), fixed: true,
		status: api.Stopped, id: w.ID, ramdisk: w.Ramdisk, memory: w.Resources.Memory,
		comment: w.Comment,
	}
	if err := r.mount(at); err != nil {
		return place{}, err
	}
	put := api.InstancePut{
		Config:       keys,
		Architecture: how.arch,
		Description:  w.Comment,
		Profiles:     []string{}, // nothing that others may change
		Devices:      devices(w, r.scope, a.device()),
	}
	if how.copy() && !w.Ramdisk {
		// Else Incus would look for that of the source; see own.
		put.Devices[ramdisk] = noDevice
	}
	c := r.in(ctx, at.project)
	target := c
	if r.scope.Placement != "" {
		target = c.UseTarget(r.scope.Placement).(*incus.ProtocolIncus)
	}
	// Beside the making: it must be guarded before it starts.
	guarded := make(chan error, 1)
	go func() {
		guarded <- r.guard.set(ctx, w.ID, member(w, addresses{addr: at.addr, addr6: at.addr6, mac: at.mac, given: at.fixed}))
	}()
	for n := range maxNames {
		at.name = instanceName(w, n)
		op, refused := target.CreateInstance(api.InstancesPost{
			Name: at.name, Type: api.InstanceTypeContainer, Source: how.source, InstancePut: put,
		})
		if err = finish(c, op, refused); err != nil {
			err = r.nameTaken(ctx, at.project, at.name, w.ID, err)
		}
		if !errors.Is(err, errNameTaken) {
			break
		}
	}
	if err != nil {
		return place{}, err
	}
	if err := <-guarded; err != nil {
		return place{}, err
	}
	if how.copy() {
		if err := r.own(ctx, at, put); err != nil {
			return place{}, err
		}
	}
	if err := r.nameFrom(ctx, at, how.source.Fingerprint); err != nil {
		return place{}, err
	}
	if len(w.Keys) > 0 {
		if err := r.writeKeys(ctx, at, w.Keys); err != nil {
			return place{}, err
		}
	}
	// The first program has it from its first start. A copy has that of its source.
	if len(w.Env) > 0 || how.copy() {
		if err := r.writeEnvironment(ctx, at, w.Env); err != nil {
			return place{}, err
		}
	}
	whole := map[string]string{keyMaking: "", keyEnvironment: environmentNote(w.Env)}
	if err := r.patch(ctx, at, map[string]any{"config": whole}); err != nil {
		return place{}, err
	}
	r.remember(w.ID, at)
	return at, nil
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
	if in.Config[keyMaking] == pulling {
		return errors.Join(fmt.Errorf("the copy of %s from another server was cut short; it begins anew", c.Ref()), r.delete(ctx, c))
	}
	source, err := r.origin(ctx, in.Config[keyMaking], &c)
	if err != nil {
		return err
	}
	if err := r.delete(ctx, c); err != nil {
		return err
	}
	*at, err = r.build(ctx, c, recipe{source: source, making: in.Config[keyMaking]})
	return err
}

// simple: all that is applied is there when it has started; see begun.
func simple(w runtime.Container, how recipe) bool {
	return w.Status == runtime.Running && !how.copy()
}

// complete is the end of making a container that is not simple.
func (r *Runtime) complete(ctx context.Context, at place, w runtime.Container) (runtime.Done, error) {
	d, err := r.resume(ctx, at, w)
	if err != nil || w.Applied == "" {
		return d, err
	}
	return d, r.applied(ctx, at, w.Applied)
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
		alias, _, err := r.in(ctx, "default").GetImageAlias(name)
		if err == nil {
			runtime.Phase(ctx, "unpacking the image")
			return api.InstanceSource{Type: "image", Fingerprint: alias.Target}, nil
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
