package incus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// What swage remembers of the whole server stands on Incus projects of its own,
// in which nothing is ever made: the notes on one, the lease on another, so
// that an event tells which of the two has changed.
//
// Incus looks at the ETag of a project well before it writes, so that of two
// writers at once both succeed; but it never makes two projects of one name.
// So a record is not changed: its successor is made, under the next number,
// and the one with the highest number counts. The last one stays also when it
// holds nothing: without it the numbers would begin again, and who is late
// would take an old one for new.
const (
	notes = "notes"
	lease = "lease"

	keyNote  = "user.swage.note." // and the key of the note
	keyLease = "user.swage.lease"
)

// recordPrefix begins the names of the projects that hold a kind of record. A
// project of a fleet has no dot in its name; see legal.
func (r *Runtime) recordPrefix(kind string) string {
	sum := sha256.Sum256([]byte(string(r.scope.Fleet) + "/" + r.scope.Server))
	return fmt.Sprintf("swage.%s-%x.", kind, sum[:8])
}

// record is what is remembered; the zero record is the one before the first.
type record struct {
	number int
	config map[string]string
}

// newest returns the number of the record that counts, and the names of those
// that do not.
func (r *Runtime) newest(ctx context.Context, kind string) (number int, older []string, err error) {
	names, err := r.in(ctx, "").GetProjectNames()
	if err != nil {
		return 0, nil, fmt.Errorf("list projects: %w", err)
	}
	prefix := r.recordPrefix(kind)
	for _, name := range names {
		n, ok := numbered(name, prefix)
		switch {
		case !ok:
		case n > number:
			if number > 0 {
				older = append(older, prefix+strconv.Itoa(number))
			}
			number = n
		default:
			older = append(older, name)
		}
	}
	return number, older, nil
}

func numbered(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0
}

// replace makes the record of a kind what change makes of it. Change may be
// called several times; if it returns nil, the record stays as it is.
func (r *Runtime) replace(ctx context.Context, kind string, change func(config map[string]string) (map[string]string, error)) error {
	for {
		have, err := r.recall(ctx, kind)
		if err != nil {
			return err
		}
		config, err := change(maps.Clone(have.config))
		if err != nil || config == nil {
			return err
		}
		if done, err := r.succeed(ctx, kind, have.number, config); done || err != nil {
			return err
		}
	}
}

func (r *Runtime) recall(ctx context.Context, kind string) (record, error) {
	for {
		n, _, err := r.newest(ctx, kind)
		if err != nil || n == 0 {
			return record{config: map[string]string{}}, err
		}
		p, _, err := r.in(ctx, "").GetProject(r.recordPrefix(kind) + strconv.Itoa(n))
		if notFound(err) { // it has a successor by now
			continue
		}
		if err != nil {
			return record{}, err
		}
		if !r.marked(p.Config) {
			return record{}, unmarked("project", p.Name)
		}
		return record{n, p.Config}, nil
	}
}

// succeed makes the successor of a record. It reports false when another was
// quicker.
func (r *Runtime) succeed(ctx context.Context, kind string, number int, config map[string]string) (bool, error) {
	c := r.in(ctx, "")
	name := r.recordPrefix(kind) + strconv.Itoa(number+1)
	maps.Copy(config, map[string]string{
		"features.images": "false", "features.profiles": "false",
		"features.networks": "false", "features.storage.volumes": "false",
		keyFleet: string(r.scope.Fleet), keyServer: r.scope.Server, keyRole: kind,
	})
	err := c.CreateProject(api.ProjectsPost{Name: name, ProjectPut: api.ProjectPut{
		Config:      config,
		Description: fmt.Sprintf("what swage remembers of server %s (%s); nothing is made here", r.scope.Server, kind),
	}})
	if err != nil {
		// The other's may have a successor by now, and be gone.
		if newest, _, e := r.newest(ctx, kind); e == nil && newest > number {
			return false, nil
		}
		return false, err
	}
	newest, older, err := r.newest(ctx, kind)
	if err != nil {
		return false, err
	}
	if newest != number+1 {
		// Others went on while this one slept: its number had been in use.
		older = []string{name}
	}
	for _, name := range older {
		_ = c.DeleteProject(name) // what is left counts for nothing, and the next one removes it
	}
	return newest == number+1, nil
}

// noted are the notes among all projects.
func (r *Runtime) noted(projects []api.Project) map[string]string {
	newest, out := 0, map[string]string{}
	for _, p := range projects {
		n, ok := numbered(p.Name, r.recordPrefix(notes))
		if !ok || n < newest || !r.marked(p.Config) {
			continue
		}
		newest, out = n, map[string]string{}
		for k, v := range p.Config {
			if key, ok := strings.CutPrefix(k, keyNote); ok {
				out[key] = v
			}
		}
	}
	return out
}

// Note keeps a value. See runtime.Runtime.
func (r *Runtime) Note(ctx context.Context, key, value string) error {
	err := r.replace(ctx, notes, func(config map[string]string) (map[string]string, error) {
		if config[keyNote+key] == value {
			return nil, nil
		}
		config[keyNote+key] = value
		if value == "" {
			delete(config, keyNote+key)
		}
		return config, nil
	})
	if err != nil {
		return fmt.Errorf("note %s: %w", key, brief(err))
	}
	return nil
}

// Lease takes or renews the lease. See runtime.Runtime.
func (r *Runtime) Lease(ctx context.Context, h runtime.Holder) error {
	err := r.replace(ctx, lease, func(config map[string]string) (map[string]string, error) {
		granted, err := runtime.Grant(config[keyLease], h, time.Now())
		config[keyLease] = granted
		return config, err
	})
	var taken *runtime.Taken
	if err != nil && !errors.As(err, &taken) {
		return fmt.Errorf("take the lease: %w", brief(err))
	}
	if err == nil {
		r.guard.start()
	}
	return err
}

// Release gives up the lease. See runtime.Runtime.
func (r *Runtime) Release(ctx context.Context, h runtime.Holder) error {
	r.guard.stop()
	err := r.replace(ctx, lease, func(config map[string]string) (map[string]string, error) {
		if !runtime.Held(config[keyLease], h) {
			return nil, nil
		}
		delete(config, keyLease)
		return config, nil
	})
	if err != nil {
		return fmt.Errorf("release the lease: %w", brief(err))
	}
	return nil
}
