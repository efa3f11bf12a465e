package incus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// retire deletes a container, or makes an archive of it if it has snapshots.
//
// Until the last change makes it an archive it is a container in the eyes of
// Observe, and the step is asked for again; each part of it may be done twice.
// Snapshots are only ever added.
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
	stop := r.kill
	if s.Snapshot != "" {
		stop = r.stop // what is kept should be whole
	}
	if err := stop(ctx, &at); err != nil && !notFound(err) {
		return err
	}
	// From here on it is stopped, and Incus takes no snapshots by schedule.
	taken, err := r.snapshotsOf(ctx, at.project, at.name)
	if err != nil {
		return err
	}
	if s.Snapshot != "" && !slices.ContainsFunc(taken, func(x runtime.Snapshot) bool { return x.Name == s.Snapshot }) {
		if err := r.takeSnapshot(ctx, at, s.Snapshot, nil); err != nil {
			return err
		}
		if taken, err = r.snapshotsOf(ctx, at.project, at.name); err != nil {
			return err
		}
	}
	if len(taken) == 0 {
		return r.delete(ctx, s.Target)
	}
	newest, err := r.restorable(ctx, &at, s.Target.ID, taken[len(taken)-1])
	if err != nil {
		return err
	}
	runtime.Phase(ctx, "going back to snapshot "+newest)
	if err := r.mount(at); err != nil { // or Incus takes no configuration that has it
		return err
	}
	c := r.in(ctx, at.project)
	op, err := c.UpdateInstance(at.name, api.InstancePut{Restore: newest}, "")
	if err := finish(c, op, err); err != nil {
		return fmt.Errorf("go back to snapshot %s: %w", newest, err)
	}
	if err := r.removeFile(ctx, at, keysFile); err != nil {
		return err
	}
	return r.archive(ctx, at, s.Target)
}

// restorable is the newest snapshot. Going back to one brings its mark back
// too; one from before the container was ours, or was this one, would take it
// away from us. Then what there is now becomes the newest, for as long.
func (r *Runtime) restorable(ctx context.Context, at *place, id runtime.ID, newest runtime.Snapshot) (string, error) {
	c := r.in(ctx, at.project)
	s, _, err := c.GetInstanceSnapshot(at.name, newest.Name)
	if err != nil {
		return "", fmt.Errorf("snapshot %s: %w", newest.Name, err)
	}
	if r.marked(s.Config) && s.Config[keyID] == string(id) && s.Config[keyRole] == "" {
		at.ramdisk = at.ramdisk || s.Devices[ramdisk]["type"] == "disk"
		return newest.Name, nil
	}
	var expires *time.Time
	if !newest.Expires.IsZero() {
		expires = &newest.Expires
	}
	name := "deleted-" + time.Now().UTC().Format("20060102-150405")
	return name, r.takeSnapshot(ctx, *at, name, expires)
}

// archive is the last part of retire: one change of the whole instance. What
// is left has its disk, its snapshots and what tells whose it was.
func (r *Runtime) archive(ctx context.Context, at place, c runtime.Container) error {
	client := r.in(ctx, at.project)
	in, etag, err := client.GetInstance(at.name)
	if err != nil {
		return err
	}
	config := map[string]string{
		keyFleet: string(r.scope.Fleet), keyServer: r.scope.Server, keyRole: roleArchive,
		keyID: string(c.ID), keyProject: r.projectIn(at.project, c.Project), keyName: c.Name,
		keyImage: c.Image, keyKit: yes(c.Kit), keyCommit: c.Commit,
		"boot.autostart": "false",
	}
	for k, v := range in.Config {
		// Of a volatile key Incus allows no loss; those of devices go by
		// themselves.
		if strings.HasPrefix(k, "volatile.") || strings.HasPrefix(k, "image.") || strings.HasPrefix(k, "security.") {
			config[k] = v
		}
	}
	devices := map[string]device{}
	for name, d := range in.Devices {
		// Its address and its host ports are free for others.
		if d["type"] == "disk" && name != ramdisk {
			devices[name] = d
		}
	}
	put := in.Writable()
	put.Config, put.Devices, put.Description = config, devices, ""
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
