package reconcile

import (
	"context"
	"io/fs"
)

// Snapshot is one commit of a fleet repository.
type Snapshot struct {
	Commit string // full hash; for a plain folder, "local"
	Tree   fs.FS  // readable until the next call of Latest or At
}

// Source is where commits come from.
type Source interface {
	// Latest is the newest commit. A commit with an error beside it is the
	// newest that is known: nobody can tell whether there is a newer one.
	Latest(ctx context.Context) (Snapshot, error)
	// At is an earlier commit, by its full hash.
	At(ctx context.Context, commit string) (Snapshot, error)
	// Allowances are the commits with a trailer Swage-Allow-Delete of those that
	// lead from one to another, without the first; the newest first. Their trees
	// are readable as that of a Snapshot is.
	Allowances(ctx context.Context, from, to string) ([]Allowance, error)
	// Watch sends to changed, without blocking, when there may be a newer
	// commit, until ctx ends.
	Watch(ctx context.Context, changed chan<- struct{}) error
}

// Local is a Source for a folder without Git.
type Local struct{ Tree fs.FS }

// Folder is the Commit of what has none. Who applies a folder does so by hand,
// whatever stands.
const Folder = "local"

// Latest is the folder as it is.
func (l Local) Latest(context.Context) (Snapshot, error) { return Snapshot{Folder, l.Tree}, nil }

// At is the folder as it is: a folder has no history.
func (l Local) At(context.Context, string) (Snapshot, error) { return Snapshot{Folder, l.Tree}, nil }

// Allowances are none: a folder has no commits.
func (l Local) Allowances(context.Context, string, string) ([]Allowance, error) { return nil, nil }

// Watch never tells of a change.
func (l Local) Watch(ctx context.Context, _ chan<- struct{}) error {
	<-ctx.Done()
	return ctx.Err()
}
