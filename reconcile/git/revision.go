package git

import (
	"fmt"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"

	"swage/reconcile"
)

// Revision is the folder dir of a work tree as it was at a revision, such as
// HEAD~1, origin/main or a hash.
func Revision(dir, revision string) (reconcile.Snapshot, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return reconcile.Snapshot{}, err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return reconcile.Snapshot{}, err
	}
	repo, all, work, err := openAt(abs, 0, true)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("%s is in no Git repository: %w", dir, err)
	}
	hash, err := repo.ResolveRevision(plumbing.Revision(revision))
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("revision %q: %w; in CI, fetch it first", revision, err)
	}
	sub, err := filepath.Rel(work, abs)
	if err != nil {
		return reconcile.Snapshot{}, err
	}
	return Local{Folder: filepath.ToSlash(sub)}.snapshotOf(all, *hash)
}
