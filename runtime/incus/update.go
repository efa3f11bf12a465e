package incus

import (
	"context"
	"maps"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// update changes all fields in one request, after what stands outside of
// Incus' own record: a step that was cut short is seen and done again.
func (r *Runtime) update(ctx context.Context, s runtime.UpdateContainer) (runtime.Done, error) {
	in, err := r.lookup(ctx, s.From.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	at := located(in)
	if err := r.remake(ctx, &at); err != nil {
		return runtime.Done{}, err
	}
	have, to := container(in), s.To
	// The rest is done all the same: it may close what is open.
	small := r.checkDisk(ctx, in, to.Resources.Disk)
	if small != nil {
		to.Resources.Disk, to.Applied = have.Resources.Disk, ""
	}
	if grows(have.Resources.Disk, to.Resources.Disk) { // before what a full disk has no room for
		if err := r.resize(ctx, in, to.Resources.Disk); err != nil {
			return runtime.Done{}, err
		}
		have.Resources.Disk = to.Resources.Disk
	}
	to.ID, to.Image, to.Kit = have.ID, have.Image, have.Kit
	if have.Project != "" { // else the key is lost
		to.Project = have.Project
	}
	keys := unset(config(to), in.Config)
	keys[rawLXC] = guest(to, in.Config[rawLXC])
	// What is written inside comes before a stop: where there is no room for it,
	// the container goes on. A frozen one is stopped first: its init cannot be
	// told of what is new.
	frozen := at.status == api.Frozen
	if !frozen {
		if err := r.writeInside(ctx, in, at, have, to, keys); err != nil {
			return runtime.Done{}, err
		}
	}
	if s.Restarts() {
		if err := r.interrupt(ctx, &at); err != nil {
			return runtime.Done{}, err
		}
		keys[keyBoot], keys[keyApplied] = r.boot, ""
	}
	if frozen {
		if err := r.writeInside(ctx, in, at, have, to, keys); err != nil {
			return runtime.Done{}, err
		}
	}
	to.Unwritten = false
	if to.Resources.Disk != have.Resources.Disk {
		if err := r.resize(ctx, in, to.Resources.Disk); err != nil {
			small, to.Resources.Disk, to.Applied, keys[keyApplied] = err, have.Resources.Disk, "", ""
		}
	}
	// From here on nothing mounts a ramdisk that is not asked for any more.
	at.ramdisk, at.memory, at.comment = to.Ramdisk, to.Resources.Memory, to.Comment
	if err := r.mount(at); err != nil {
		return runtime.Done{}, err
	}
	if !to.Ramdisk { // before the device: once that is gone nobody remembers it
		if err := r.unmountRamdisk(to.ID); err != nil {
			return runtime.Done{}, err
		}
	}
	changed := map[string]device{}
	if to.Ramdisk && !have.Ramdisk {
		changed[ramdisk] = ramdiskDevice(r.scope, to.ID)
	}
	if have.Ramdisk && !to.Ramdisk {
		changed[ramdisk] = noDevice
	}
	err = r.patch(ctx, at, map[string]any{"config": keys, "devices": changed})
	if err != nil {
		return runtime.Done{}, err
	}
	if err := r.guard.change(ctx, to); err != nil {
		return runtime.Done{}, err
	}
	if s.Restarts() {
		if err := r.start(ctx, &at); err != nil {
			return runtime.Done{}, err
		}
		if err := r.applied(ctx, at, to.Applied); err != nil {
			return runtime.Done{}, err
		}
	}
	to.Status = status(at.status, false)
	return done(to, at), small
}

// writeInside writes the files of the container that change, and notes in keys what
// they hold.
func (r *Runtime) writeInside(ctx context.Context, in *api.Instance, at place, have, to runtime.Container, keys map[string]string) error {
	if keys[keyKeys] != in.Config[keyKeys] {
		if err := r.writeKeys(ctx, at, to.Keys); err != nil {
			return err
		}
	}
	if !have.Unwritten && maps.Equal(have.Env, to.Env) {
		return nil
	}
	if err := r.giveEnvironment(ctx, at, to.Env); err != nil {
		return err
	}
	keys[keyEnvironment] = environmentNote(to.Env)
	return nil
}

// interrupt stops a container that is to run again. On a full pool it would
// not: Incus keeps a record of each instance there, and starts none that it
// cannot write. So that is tried first, with what is no longer true from here
// on.
func (r *Runtime) interrupt(ctx context.Context, at *place) error {
	if err := r.remake(ctx, at); err != nil {
		return err
	}
	if at.status != api.Stopped {
		if err := r.applied(ctx, *at, ""); err != nil {
			return err
		}
	}
	return r.stop(ctx, at)
}

// applied notes what was applied, once nothing of it is left to do.
func (r *Runtime) applied(ctx context.Context, at place, digest string) error {
	return r.patch(ctx, at, map[string]any{"config": map[string]string{keyApplied: digest}})
}

// sized is the root disk with another size, or none.
func sized(in *api.Instance, size int64) device {
	out := maps.Clone(in.ExpandedDevices[root])
	delete(out, "size")
	if size != 0 {
		out["size"] = number(size)
	}
	return out
}

func (r *Runtime) move(ctx context.Context, s runtime.MoveContainer) (runtime.Done, error) {
	in, err := r.lookup(ctx, s.From.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	at, have := located(in), container(in)
	if err := r.interrupt(ctx, &at); err != nil { // Incus moves nothing that runs
		return runtime.Done{}, err
	}
	project, err := r.project(ctx, s.To.Project)
	if err != nil {
		return runtime.Done{}, err
	}
	to := at
	to.project = project
	if at.project != project { // else a move that was cut short
		if err := r.mount(at); err != nil {
			return runtime.Done{}, err
		}
		runtime.Phase(ctx, "moving")
		c := r.in(ctx, at.project)
		op, err := c.MigrateInstance(at.name, api.InstancePost{Name: at.name, Migration: true, Project: to.project})
		if err := finish(c, op, err); err != nil {
			return runtime.Done{}, err
		}
		r.remember(s.To.ID, to)
	}
	// On its own: with the move it takes Incus 15 s.
	if !isNameOf(s.To, to.name) {
		if err := r.renameInstance(ctx, &to, s.To); err != nil {
			return runtime.Done{}, err
		}
	}
	have.Project, have.Name, have.Commit, have.Status = s.To.Project, s.To.Name, s.To.Commit, s.From.Status
	err = r.patch(ctx, to, map[string]any{
		"config": map[string]string{
			keyProject: have.Project, keyName: have.Name, keyHost: hostName(have.Name), keyCommit: have.Commit,
			rawLXC: guest(have, in.Config[rawLXC]),
		},
	})
	if err != nil {
		return runtime.Done{}, err
	}
	if err := r.guard.change(ctx, have); err != nil {
		return runtime.Done{}, err
	}
	if err := r.bring(ctx, &to, s.From.Status); err != nil {
		return runtime.Done{}, err
	}
	have.Applied = s.To.Applied
	return done(have, to), r.applied(ctx, to, have.Applied)
}
