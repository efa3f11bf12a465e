// Package git is a reconcile.Source over a Git repository. Files are read
// from Git objects: there is no checkout that could be half-written.
package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"swage/reconcile"
)

// Local follows one branch of a repository on this machine. It holds nothing
// open between calls, so that the repository may be repacked, replaced or
// absent at any time.
type Local struct {
	Path   string // of the repository, bare or not
	Branch string
}

// Latest is the tip of the branch.
func (l Local) Latest(ctx context.Context) (reconcile.Snapshot, error) {
	repo, err := gogit.PlainOpen(l.Path)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("open repository %s: %w", l.Path, err)
	}
	ref, err := repo.Reference(plumbing.NewBranchReferenceName(l.Branch), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return reconcile.Snapshot{}, fmt.Errorf("repository %s has no branch %q; push one", l.Path, l.Branch)
	}
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("read branch %q of %s: %w", l.Branch, l.Path, err)
	}
	return snapshot(repo, ref.Hash())
}

// At is any commit of the repository.
func (l Local) At(ctx context.Context, commit string) (reconcile.Snapshot, error) {
	repo, err := gogit.PlainOpen(l.Path)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("open repository %s: %w", l.Path, err)
	}
	return snapshot(repo, plumbing.NewHash(commit))
}

func snapshot(repo *gogit.Repository, hash plumbing.Hash) (reconcile.Snapshot, error) {
	commit, err := repo.CommitObject(hash)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	root, err := commit.Tree()
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("read the tree of commit %s: %w", hash, err)
	}
	return reconcile.Snapshot{Commit: hash.String(), Tree: newTree(root)}, nil
}

// Watch tells of changes to the branch, through the folders that Git renames
// its refs into.
func (l Local) Watch(ctx context.Context, changed chan<- struct{}) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	dir := l.Path
	if info, err := os.Stat(filepath.Join(dir, ".git")); err == nil && info.IsDir() {
		dir = filepath.Join(dir, ".git")
	}
	ref := filepath.Join(dir, "refs", "heads", filepath.FromSlash(l.Branch))
	// The root for packed-refs; every folder on the way to the ref, since
	// Git makes and removes those of branch names with a slash.
	for _, d := range []string{dir, filepath.Join(dir, "refs", "heads"), filepath.Dir(ref)} {
		if err := w.Add(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", d, err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("the watcher of " + dir + " closed")
			}
			if e.Has(fsnotify.Create) && e.Name == filepath.Dir(ref) {
				w.Add(e.Name) // the ref may be there already: hence the hint below
			} else if e.Name != ref && e.Name != filepath.Join(dir, "packed-refs") {
				continue
			}
			hint(changed)
		case <-w.Errors: // an overflow: something was missed
			hint(changed)
		}
	}
}

func hint(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
