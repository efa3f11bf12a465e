package git

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Purge removes what no branch leads to from a repository of the agent's: that
// of pushes, or the mirror of a remote. It gives the tips that were kept until
// then. Nothing can be rolled back to them afterwards. A push that goes on
// meanwhile may fail, and can be made again.
func Purge(ctx context.Context, dir string) (tips []string, err error) {
	m := mirror{dir: dir}
	repo, err := m.open()
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	refs, err := refsIn(dir)
	if err != nil {
		return nil, err
	}
	var names []plumbing.ReferenceName
	for name, hash := range refs {
		if !name.IsBranch() {
			names = append(names, name)
			tips = append(tips, hash.String())
		}
	}
	for _, n := range names {
		if err := repo.Storer.RemoveReference(n); err != nil {
			return nil, fmt.Errorf("remove %s: %w", n, err)
		}
	}
	for _, c := range [][]string{
		{"reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all"},
		{"repack", "-a", "-d", "-q", "--no-write-bitmap-index"},
		{"prune", "--expire=now"},
	} {
		if _, err := stock(ctx, dir, nil, c...); err != nil {
			return nil, err
		}
	}
	sweep(dir, time.Now().Add(-servedFor-time.Minute))
	m.sweep()
	return tips, nil
}

// Repositories are those that an agent may have in its folder.
func Repositories(state string) []string {
	return []string{filepath.Join(state, "fleet.git"), filepath.Join(state, "mirror")}
}
