// Package schema defines the shape of a fleet repository in CUE and reads one
// into Go types. It is the only place that knows CUE.
package schema

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Load reads the fleet repository at tree: whole, or an error. The error of a
// repository that can be read is Problems, of every file. It is called by two
// goroutines of one Load at most, one after the other.
func Load(ctx context.Context, tree fs.FS) (*Fleet, error) {
	return new(Loader).Load(ctx, tree)
}

// Loader reads a repository again and again. It remembers what it made of
// each file of the tree it read last, by the file's content, so that a reload
// costs little more than what changed; what it remembers is bounded by
// Limits.LoadedBytes. Its zero value is ready for use; it may be used by
// several goroutines.
type Loader struct {
	Limits Limits

	mu    sync.Mutex
	units map[string]*unit // by name, of the last Load
}

// Load is the function Load, with the Loader's memory and limits.
func (l *Loader) Load(ctx context.Context, tree fs.FS) (*Fleet, error) {
	fleet, units, err := l.load(ctx, tree, nil)
	if units != nil {
		l.mu.Lock()
		l.units = units
		l.mu.Unlock()
	}
	return fleet, err
}

// Trial is Load of a tree that may never be in force: it uses what is
// remembered, and what is remembered stays as it is. If the evaluating process
// was needed, turn is called before what it made is taken into memory; its
// error ends the Trial. It may be nil.
func (l *Loader) Trial(ctx context.Context, tree fs.FS, turn func(context.Context) error) (*Fleet, error) {
	fleet, _, err := l.load(ctx, tree, turn)
	return fleet, err
}

func (l *Loader) load(ctx context.Context, tree fs.FS, turn func(context.Context) error) (*Fleet, map[string]*unit, error) {
	shapes, err := shapes()
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	known := l.units
	l.mu.Unlock()
	r := &reading{ctx: ctx, tree: tree, limits: l.Limits.orDefault(), turn: turn}
	files, problems, err := list(ctx, tree, known, r.limits)
	if err != nil {
		return nil, nil, err
	}
	r.files = files
	units, err := r.read(known)
	if err != nil {
		return nil, nil, err
	}
	var told atomic.Int64
	if err := parallel(ctx, len(units), func(i int) error {
		units[i].check(shapes, &told)
		return nil
	}); err != nil {
		return nil, nil, err
	}
	remember := make(map[string]*unit, len(units))
	for _, u := range units {
		remember[u.name] = u
	}
	res := newResolver(shapes)
	res.maxMerged = maxMerged(r.limits.LoadedBytes, r.loaded)
	res.problems = problems
	res.unread = len(problems) > 0
	for _, u := range units {
		res.take(u)
	}
	fleet := res.fleet()
	if len(res.problems) > 0 {
		return nil, remember, res.problems.shown()
	}
	fleet.Warnings = res.warnings.shown()
	return fleet, remember, nil
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
