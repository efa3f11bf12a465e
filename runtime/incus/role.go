package incus

import (
	"context"
	"fmt"
	"slices"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// keyRole says what an object with the mark is for. It is absent on containers
// and on the projects of the fleet; for those that notes and leases stand on,
// see note.go.
const (
	keyRole     = "user.swage.role"
	roleSpare   = "spare"
	roleArchive = "archive"
)

// seek finds what has the mark and the id, in whatever role. Its ETag lets a
// change take place only if nobody was quicker: Incus checks that of an
// instance under the lock that it writes under.
func (r *Runtime) seek(ctx context.Context, id runtime.ID) (*api.Instance, string, error) {
	r.mu.Lock()
	at, known := r.where[id]
	r.mu.Unlock()
	if known { // what was seen is asked for again by name
		in, etag, err := r.in(ctx, at.project).GetInstance(at.name)
		if err == nil && r.marked(in.Config) && in.Config[keyID] == string(id) {
			return in, etag, nil
		}
		if err != nil && !notFound(err) {
			return nil, "", err
		}
	}
	instances, err := r.in(ctx, "").GetInstancesAllProjectsWithFilter(api.InstanceTypeContainer, []string{"config." + keyID + "=" + string(id)})
	if err != nil {
		return nil, "", fmt.Errorf("find %s: %w", id, err)
	}
	slices.SortFunc(instances, byAge) // a copy by hand carries the id, too
	for i := range instances {
		if !r.marked(instances[i].Config) {
			continue
		}
		in, etag, err := r.in(ctx, instances[i].Project).GetInstance(instances[i].Name)
		if err == nil && r.marked(in.Config) && in.Config[keyID] == string(id) {
			return in, etag, nil
		}
		if err != nil && !notFound(err) {
			return nil, "", err
		}
	}
	return nil, "", errGone
}
