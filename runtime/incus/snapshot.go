package incus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sync/errgroup"

	"swage/runtime"
)

// Incus has no list of all snapshots, but one of all volumes of a pool, in
// which they stand without the time that they expire at. So an instance is
// asked only when its snapshots are not those it had when it was last asked.
type seenSnapshots struct {
	volumes string // names and times
	list    []runtime.Snapshot
}

// askAtOnce bounds the queries that one Observe has under way.
const askAtOnce = 8

// snapshots of the instances, by their ids.
func (r *Runtime) snapshots(ctx context.Context, instances []*api.Instance) (map[runtime.ID][]runtime.Snapshot, error) {
	var pools []string
	for _, in := range instances {
		if pool := rootPool(in); pool != "" && !slices.Contains(pools, pool) {
			pools = append(pools, pool)
		}
	}
	volumes := map[string]string{}
	for _, pool := range pools {
		var all []api.StorageVolume
		path := "/1.0/storage-pools/" + url.PathEscape(pool) + "/volumes/container?recursion=1&all-projects=true"
		resp, _, err := r.in(ctx, "").RawQuery(http.MethodGet, path, nil, "")
		if err == nil {
			err = resp.MetadataAsStruct(&all)
		}
		if err != nil {
			return nil, fmt.Errorf("list the snapshots of pool %s: %w", pool, err)
		}
		for _, v := range all {
			if name, snapshot, ok := strings.Cut(v.Name, "/"); ok {
				volumes[v.Project+"/"+name] += snapshot + " " + v.CreatedAt.Format(time.RFC3339Nano) + "\n"
			}
		}
	}
	next := map[string]seenSnapshots{}
	var mu sync.Mutex
	r.mu.Lock()
	known := r.seen
	r.mu.Unlock()
	out := map[runtime.ID][]runtime.Snapshot{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askAtOnce)
	for _, in := range instances {
		at := in.Project + "/" + in.Name
		if volumes[at] == "" {
			continue
		}
		group.Go(func() error {
			have := known[at]
			if have.volumes != volumes[at] {
				list, err := r.snapshotsOf(ctx, in.Project, in.Name)
				if err != nil {
					return err
				}
				have = seenSnapshots{volumes[at], list}
			}
			mu.Lock()
			defer mu.Unlock()
			next[at] = have
			if len(have.list) > 0 {
				out[runtime.ID(in.Config[keyID])] = slices.Clone(have.list)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.seen = next
	r.mu.Unlock()
	return out, nil
}

// snapshotsOf an instance, the oldest first.
func (r *Runtime) snapshotsOf(ctx context.Context, project, instance string) ([]runtime.Snapshot, error) {
	all, err := r.in(ctx, project).GetInstanceSnapshots(instance)
	if err != nil {
		return nil, fmt.Errorf("snapshots of instance %s: %w", instance, err)
	}
	out := make([]runtime.Snapshot, 0, len(all))
	for _, s := range all {
		out = append(out, runtime.Snapshot{Name: s.Name, Taken: s.CreatedAt, Expires: s.ExpiresAt})
	}
	slices.SortStableFunc(out, func(a, b runtime.Snapshot) int { return a.Taken.Compare(b.Taken) })
	return out, nil
}

// takeSnapshot keeps what is there under a name.
func (r *Runtime) takeSnapshot(ctx context.Context, at place, name string, expires *time.Time) error {
	runtime.Phase(ctx, "taking a snapshot")
	c := r.in(ctx, at.project)
	op, err := c.CreateInstanceSnapshot(at.name, api.InstanceSnapshotsPost{Name: name, ExpiresAt: expires})
	if err := finish(c, op, err); err != nil {
		return fmt.Errorf("take the snapshot %s: %w", name, err)
	}
	return nil
}

func (r *Runtime) snapshot(ctx context.Context, s runtime.TakeSnapshot) error {
	at, err := r.find(ctx, s.Of)
	if err != nil {
		return err
	}
	taken, err := r.in(ctx, at.project).GetInstanceSnapshotNames(at.name)
	if err != nil || slices.Contains(taken, s.Snapshot) {
		return err
	}
	return r.takeSnapshot(ctx, at, s.Snapshot, &s.Expires) // nil would ask for the default of the instance
}

func (r *Runtime) expireSnapshot(ctx context.Context, s runtime.ExpireSnapshot) error {
	in, _, err := r.seek(ctx, s.Of)
	if err != nil {
		return err
	}
	r.mu.Lock() // the list of volumes does not tell that an end has changed
	delete(r.seen, in.Project+"/"+in.Name)
	r.mu.Unlock()
	c := r.in(ctx, in.Project)
	op, err := c.UpdateInstanceSnapshot(in.Name, s.Snapshot, api.InstanceSnapshotPut{ExpiresAt: s.Expires}, "")
	if err := finish(c, op, err); err != nil && !notFound(err) {
		return err
	}
	return nil
}

func (r *Runtime) deleteSnapshot(ctx context.Context, s runtime.DeleteSnapshot) error {
	in, _, err := r.seek(ctx, s.Of)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	c := r.in(ctx, in.Project)
	op, err := c.DeleteInstanceSnapshot(in.Name, s.Snapshot)
	if err := finish(c, op, err); err != nil && !notFound(err) {
		return err
	}
	return nil
}

func rootPool(in *api.Instance) string {
	for _, d := range in.ExpandedDevices {
		if d["type"] == "disk" && d["path"] == "/" {
			return d["pool"]
		}
	}
	return ""
}
