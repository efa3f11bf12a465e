package incus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// retire makes an archive of a container, or deletes one that nothing is kept
// of.
//
// Until the last change makes it an archive it is a container in the eyes of
// Observe, and the step is asked for again; each part of it may be done twice.
func (r *Runtime) retire(ctx context.Context, s runtime.DeleteContainer) error {
	at, err := r.find(ctx, s.Target.ID)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if at.partial { // nothing ever ran in it
		return r.delete(ctx, s.Target)
	}
	archives := s.Archives
	if !archives { // one that was taken since the plan was made is kept, too
		taken, err := r.snapshotsOf(ctx, at.project, at.name)
		if err != nil {
			return err
		}
		archives = len(taken) > 0
	}
	if !archives {
		return r.delete(ctx, s.Target)
	}
	if err := r.lift(ctx, at); err != nil {
		return err
	}
	if err := r.stop(ctx, &at); err != nil && !notFound(err) { // what is kept should be whole
		return err
	}
	if err := r.removeFile(ctx, at, keysFile); err != nil {
		return err
	}
	if err := r.writeEnvironment(ctx, at, nil); err != nil { // its values may be secrets
		return err
	}
	return r.archive(ctx, at, s.Target, time.Now().Add(s.Keep))
}

// archive is the last part of retire: one change of the whole instance. What
// is left has its disk, its snapshots and what tells whose it was.
func (r *Runtime) archive(ctx context.Context, at place, c runtime.Container, until time.Time) error {
	client := r.in(ctx, at.project)
	in, etag, err := client.GetInstance(at.name)
	if err != nil {
		return err
	}
	config := keptConfig(in)
	for k, v := range map[string]string{
		keyFleet: string(r.scope.Fleet), keyServer: r.scope.Server, keyRole: roleArchive,
		keyID: string(c.ID), keyProject: r.projectIn(at.project, c.Project), keyName: c.Name,
		keyImage: c.Image, keyKit: yes(c.Kit), keyCommit: c.Commit, keyRealms: strings.Join(c.Realms, " "), keyUntil: until.UTC().Format(time.RFC3339),
		"boot.autostart": "false",
	} {
		config[k] = v
	}
	put := in.Writable()
	put.Config, put.Devices, put.Description = config, disks(in), ""
	put.Profiles = onlyDisks(in)
	op, err := client.UpdateInstance(at.name, put, etag)
	if err := finish(client, op, err); err != nil {
		return fmt.Errorf("make it an archive: %w", err)
	}
	r.mu.Lock()
	delete(r.where, c.ID)
	r.mu.Unlock()
	return r.unmountRamdisk(c.ID)
}

// keptConfig is the part of an instance's configuration that an archive keeps, and
// gives back: Incus allows the loss of no volatile key, but those of devices go
// by themselves.
func keptConfig(in *api.Instance) map[string]string {
	out := map[string]string{}
	for k, v := range in.Config {
		if strings.HasPrefix(k, "volatile.") || strings.HasPrefix(k, "image.") || strings.HasPrefix(k, "security.") {
			out[k] = v
		}
	}
	return out
}

// disks are the devices of an instance that hold data. Its address and its
// ports of the host are free for others.
func disks(in *api.Instance) map[string]device {
	out := map[string]device{}
	for name, d := range in.Devices {
		if d["type"] == "disk" && name != ramdisk {
			out[name] = d
		}
	}
	return out
}

// until is when an archive may go; the zero time where nothing tells.
func until(in *api.Instance) time.Time {
	t, _ := time.Parse(time.RFC3339, in.Config[keyUntil])
	return t
}

// restore makes an archive a container again by one change of the whole
// instance. Keys and environment come after it, into what is surely ours; until
// they are recorded the container lacks them in the eyes of Observe.
func (r *Runtime) restore(ctx context.Context, w runtime.Container) (runtime.Done, error) {
	in, etag, err := r.seek(ctx, w.ID)
	switch {
	case errors.Is(err, errGone):
		return runtime.Done{}, fmt.Errorf("there is no archive %s any more", w.ID)
	case err != nil:
		return runtime.Done{}, err
	case in.Config[keyRole] == "":
		return r.resume(ctx, located(in), w)
	case in.Config[keyRole] != roleArchive:
		return runtime.Done{}, fmt.Errorf("the id %s is that of a %s", w.ID, in.Config[keyRole])
	}
	a, err := r.allocate(ctx, w.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	if err := r.checkDisk(ctx, in, w.Resources.Disk); err != nil {
		return runtime.Done{}, err
	}
	w.Image, w.Kit = in.Config[keyImage], in.Config[keyKit] == "true"
	at := place{
		project: in.Project, name: in.Name, addr: a.addr, addr6: a.addr6(), mac: a.hwaddr(), fixed: true,
		status: api.Stopped, id: w.ID, ramdisk: w.Ramdisk, memory: w.Resources.Memory, comment: w.Comment,
	}
	if err := r.mount(at); err != nil {
		return runtime.Done{}, err
	}
	put := in.Writable()
	put.Config, put.Devices, put.Description = keptConfig(in), disks(in), w.Comment
	maps.Copy(put.Config, config(w))
	maps.Copy(put.Config, r.mark())
	put.Config[keyKeys], put.Config[keyApplied], put.Config[rawLXC] = "", "", guest(w, a.raw(""))
	maps.DeleteFunc(put.Config, func(_, v string) bool { return v == "" })
	put.Devices[nic] = a.device()
	put.Devices[root] = sized(in, w.Resources.Disk)
	if w.Ramdisk {
		put.Devices[ramdisk] = ramdiskDevice(r.scope, w.ID)
	}
	if err := r.guard.set(ctx, w.ID, member(w, addresses{addr: at.addr, addr6: at.addr6, mac: at.mac})); err != nil {
		return runtime.Done{}, err
	}
	client := r.in(ctx, at.project)
	op, err := client.UpdateInstance(at.name, put, etag)
	if err := finish(client, op, err); err != nil {
		return runtime.Done{}, fmt.Errorf("restore it from its archive: %w", err)
	}
	r.remember(w.ID, at)
	last := map[string]string{}
	if len(w.Keys) > 0 {
		if err := r.writeKeys(ctx, at, w.Keys); err != nil {
			return runtime.Done{}, err
		}
		last[keyKeys] = config(w)[keyKeys]
	}
	if len(w.Env) > 0 {
		if err := r.writeEnvironment(ctx, at, w.Env); err != nil {
			return runtime.Done{}, err
		}
		last[keyEnvironment] = environmentNote(w.Env)
	}
	if len(last) > 0 {
		if err := r.patch(ctx, at, map[string]any{"config": last}); err != nil {
			return runtime.Done{}, err
		}
	}
	return r.complete(ctx, at, w)
}

// onlyDisks: the profiles of an instance that was adopted stay if it has its
// disk from them.
func onlyDisks(in *api.Instance) []string {
	for _, d := range in.Devices {
		if d["type"] == "disk" && d["path"] == "/" {
			return []string{}
		}
	}
	return in.Profiles
}

// projectIn is the project of the fleet that an Incus project is, or the one
// given if it is none.
func (r *Runtime) projectIn(name, otherwise string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for project, known := range r.projects {
		if known == name {
			return project
		}
	}
	return otherwise
}

// discard removes an instance in a role other than a container's.
func (r *Runtime) discard(ctx context.Context, id runtime.ID, role string) error {
	in, _, err := r.seek(ctx, id)
	if errors.Is(err, errGone) || err == nil && in.Config[keyRole] != role {
		return nil
	}
	if err != nil {
		return err
	}
	at := located(in)
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
	delete(r.where, id)
	r.mu.Unlock()
	return nil
}
