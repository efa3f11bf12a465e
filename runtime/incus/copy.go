package incus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// copying begins keyMaking of a copy; the id of the source and the name of the
// snapshot follow.
const copying = "copy "

func (r *Runtime) copy(ctx context.Context, s runtime.CopyContainer) (runtime.Done, error) {
	w := s.New
	if at, ok, err := r.made(ctx, &w.ID); err != nil {
		return runtime.Done{}, err
	} else if ok {
		return r.resume(ctx, at, w)
	}
	runtime.Phase(ctx, "copying")
	how := recipe{making: copying + string(s.From) + " " + s.Snapshot}
	var err error
	if s.Origin != nil {
		how, err = r.pull(ctx, *s.Origin, &w)
	} else {
		how.source, err = r.origin(ctx, how.making, &w)
	}
	if err != nil {
		return runtime.Done{}, err
	}
	at, err := r.build(ctx, w, how)
	if err != nil {
		return runtime.Done{}, err
	}
	return r.complete(ctx, at, w)
}

// origin is the source that keyMaking tells. Image and Kit of a copy are those
// of its source.
func (r *Runtime) origin(ctx context.Context, making string, w *runtime.Container) (api.InstanceSource, error) {
	rest, ok := strings.CutPrefix(making, copying)
	if !ok {
		return r.image(ctx, w.Image, false)
	}
	from, snapshot, _ := strings.Cut(rest, " ")
	in, _, err := r.seek(ctx, runtime.ID(from))
	switch {
	case errors.Is(err, errGone), err == nil && in.Config[keyRole] == roleSpare:
		return api.InstanceSource{}, fmt.Errorf("copy from %s: no container and no archive of this server has this id", from)
	case err != nil:
		return api.InstanceSource{}, fmt.Errorf("copy from %s: %w", from, err)
	case halfMade(in.Config):
		return api.InstanceSource{}, fmt.Errorf("copy from %s: it is not yet made to its end", from)
	}
	// Of a snapshot nothing tells how much it holds; Incus refuses what is too much.
	if snapshot == "" {
		if err := r.checkDisk(ctx, in, w.Resources.Disk); err != nil {
			return api.InstanceSource{}, err
		}
	}
	name := in.Name
	if snapshot != "" {
		if _, _, err := r.in(ctx, in.Project).GetInstanceSnapshot(in.Name, snapshot); notFound(err) {
			return api.InstanceSource{}, fmt.Errorf("copy from %s: it has no snapshot %s", from, snapshot)
		} else if err != nil {
			return api.InstanceSource{}, fmt.Errorf("copy from %s: %w", from, err)
		}
		name += "/" + snapshot
	}
	w.Image, w.Kit = in.Config[keyImage], in.Config[keyKit] == "true"
	return api.InstanceSource{Type: "copy", Source: name, Project: in.Project, InstanceOnly: true}, nil
}

// own makes of a copy an instance of its own. Incus adds to what was asked for
// all that the source has besides: other environment, other devices.
func (r *Runtime) own(ctx context.Context, at place, asked api.InstancePut) error {
	c := r.in(ctx, at.project)
	in, etag, err := c.GetInstance(at.name)
	if err != nil {
		return err
	}
	put := in.Writable()
	put.Config = api.ConfigMap{}
	for k, v := range in.Config {
		if strings.HasPrefix(k, "volatile.") || strings.HasPrefix(k, "image.") {
			put.Config[k] = v
		}
	}
	for k, v := range asked.Config {
		if v != "" {
			put.Config[k] = v
		}
	}
	maps.DeleteFunc(asked.Devices, func(_ string, d device) bool { return d["type"] == noDevice["type"] })
	put.Devices, put.Description, put.Profiles = asked.Devices, asked.Description, asked.Profiles
	op, err := c.UpdateInstance(at.name, put, etag)
	if err := finish(c, op, err); err != nil {
		return err
	}
	// Who has the source's keys has no business here.
	if err := r.removeFile(ctx, at, keysFile); err != nil {
		return err
	}
	return r.newIdentity(ctx, at)
}
