package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// mostHistory bounds the commits that are walked to find one.
const mostHistory = 200_000

// errNotLedTo is that a commit is no ancestor of another one.
var errNotLedTo = errors.New("its history does not lead to it")

// errHistoryEnds is that a history is not all there.
var errHistoryEnds = errors.New("its history is not all there")

// follows reports that a commit is old, or has it among its ancestors, by
// whichever parent.
func (o *objects) follows(ctx context.Context, old, commit plumbing.Hash) error {
	if old == commit {
		return nil
	}
	seen := map[plumbing.Hash]bool{commit: true}
	next := []plumbing.Hash{commit}
	missing := false
	for len(next) > 0 {
		at := next[0]
		next = next[1:]
		c, err := object.GetCommit(o, at)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, plumbing.ErrObjectNotFound):
			missing = true
			continue
		case err != nil:
			return err
		}
		for _, p := range c.ParentHashes {
			if p == old {
				return nil
			}
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
		if len(seen) > mostHistory {
			return fmt.Errorf("its history has more than %d commits", mostHistory)
		}
	}
	if missing {
		return errHistoryEnds
	}
	return errNotLedTo
}

// Follows says why a commit is not one that was made on top of last, or last
// itself. The error is for people.
func (l Local) Follows(ctx context.Context, commit, last string) error {
	return l.FollowsIncoming(ctx, "", commit, last)
}

// FollowsIncoming is Follows of a commit of a push, whose objects are still in
// quarantine.
func (l Local) FollowsIncoming(ctx context.Context, quarantine, commit, last string) error {
	all, err := l.incoming(quarantine)
	if err != nil {
		return err
	}
	err = all.follows(ctx, plumbing.NewHash(last), plumbing.NewHash(commit))
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, errHistoryEnds) && all.shallow():
		return fmt.Errorf("the repository is a shallow clone, so nobody can tell whether commit %s was made on top of %s; fetch the whole history (git fetch --unshallow)", commit, last)
	case all.HasEncodedObject(plumbing.NewHash(last)) != nil:
		return fmt.Errorf("commit %s was not made on top of %s, which the repository does not have", commit, last)
	}
	return fmt.Errorf("commit %s was not made on top of %s: %w", commit, last, err)
}

// shallow reports whether history was left out of the repository.
func (o *objects) shallow() bool {
	for _, dir := range o.dirs {
		if info, err := os.Stat(filepath.Join(filepath.Dir(dir), "shallow")); err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}
