// Package schema defines the shape of a fleet repository in CUE and reads one
// into Go types. It is the only place that knows CUE.
package schema

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Load reads the fleet repository at tree: whole, or an error. The error of a
// repository that can be read is Problems, with every problem in it. Files of
// the tree are read by several goroutines at once.
func Load(ctx context.Context, tree fs.FS) (*Fleet, error) {
	return new(Loader).Load(ctx, tree)
}

// Loader reads a repository again and again. It remembers what it made of
// each file of the tree it read last, by the file's content, so that a reload
// costs little more than what changed. Its zero value is ready for use; it
// may be used by several goroutines.
type Loader struct {
	Limits Limits

	mu    sync.Mutex
	units map[string]*unit // by name, of the last Load
}

// Load is the function Load, with the Loader's memory and limits.
func (l *Loader) Load(ctx context.Context, tree fs.FS) (*Fleet, error) {
	shapes, err := shapes()
	if err != nil {
		return nil, err
	}
	limits := l.Limits.orDefault()
	files, problems, err := list(ctx, tree, limits)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	known := l.units
	l.mu.Unlock()
	units, err := read(ctx, tree, files, known, limits)
	if err != nil {
		return nil, err
	}
	if err := evaluateUnits(ctx, units, limits); err != nil {
		return nil, err
	}
	if err := parallel(ctx, len(units), func(i int) error {
		units[i].check(shapes)
		return nil
	}); err != nil {
		return nil, err
	}
	l.remember(units)

	r := newResolver(shapes)
	r.problems = problems
	r.unread = len(problems) > 0
	for _, u := range units {
		r.take(u)
	}
	fleet := r.fleet()
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	fleet.Warnings = r.warnings.sorted()
	return fleet, nil
}

func (l *Loader) remember(units []*unit) {
	known := make(map[string]*unit, len(units))
	for _, u := range units {
		known[u.name] = u
	}
	l.mu.Lock()
	l.units = known
	l.mu.Unlock()
}

// read brings every file to the point where it is plain data, has problems or
// needs evaluation. Units of files that did not change are taken from known.
func read(ctx context.Context, tree fs.FS, files []entry, known map[string]*unit, limits Limits) ([]*unit, error) {
	units := make([]*unit, len(files))
	err := parallel(ctx, len(files), func(i int) (err error) {
		units[i], err = readUnit(tree, files[i], known[files[i].name], limits)
		return err
	})
	if err != nil {
		return nil, err
	}
	var bytes int64
	for _, u := range units {
		if bytes += u.size; bytes > limits.TreeBytes {
			u = u.refused("the repository has more than %d bytes; the limit can be raised in the node file", limits.TreeBytes)
			return []*unit{u}, nil
		}
	}
	return units, nil
}

func readUnit(tree fs.FS, file entry, known *unit, limits Limits) (*unit, error) {
	hash := ""
	if h, ok := file.DirEntry.(Hashed); ok {
		hash = h.Hash()
		if known != nil && hash != "" && known.hash == hash {
			return known, nil
		}
	}
	info, err := file.Info()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file.name, err)
	}
	u := &unit{name: file.name, size: info.Size()}
	if u.size > limits.FileBytes {
		return u.refused("has %d bytes; a file may have %d", u.size, limits.FileBytes), nil
	}
	src, err := fs.ReadFile(tree, file.name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file.name, err)
	}
	if int64(len(src)) > limits.FileBytes { // it grew, or its size was a lie
		return u.refused("has more than %d bytes", limits.FileBytes), nil
	}
	u.size = int64(len(src))
	if u.hash = hash; hash == "" {
		u.hash = fmt.Sprintf("%x", sha256.Sum256(src))
		if known != nil && known.hash == u.hash {
			return known, nil
		}
	}
	u.parse(src)
	return u, nil
}

// parallel does n things on a few goroutines. It stops at the first error.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	const stretch = 32 // enough work to be worth a goroutine
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	for from := 0; from < n; from += stretch {
		g.Go(func() error {
			for i := from; i < min(from+stretch, n); i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// IsProblems reports whether err is about the author's files rather than
// about reading them.
func IsProblems(err error) bool {
	var ps Problems
	return errors.As(err, &ps)
}

// isLib reports whether a file is only there for others to import.
func isLib(name string) bool {
	return strings.HasPrefix(name, "lib/") || strings.HasPrefix(name, "cue.mod/")
}
