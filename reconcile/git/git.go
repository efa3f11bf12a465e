// Package git is a reconcile.Source over a Git repository. Files are read
// from Git objects: there is no checkout that could be half-written.
package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"

	"swage/reconcile"
)

// Local follows one branch of a repository on this machine. It holds nothing
// open between calls, so that the repository may be repacked, replaced or
// absent at any time.
type Local struct {
	Path   string // of the repository, bare or not
	Branch string
	Folder string // of the repository that holds the fleet; empty: its root
	// Names bounds the files of a snapshot, and its folders, and the names in
	// each tree that is read; 0: 20,000.
	Names int

	known *trees // of the snapshots before; nil remembers nothing
}

// Follow is a Local that remembers what one snapshot has in common with the
// next.
func Follow(path, branch, folder string) Local {
	return Local{Path: path, Branch: branch, Folder: folder, known: &trees{}}
}

// Latest is the tip of the branch.
func (l Local) Latest(ctx context.Context) (reconcile.Snapshot, error) {
	repo, all, err := open(l.Path, l.Names)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("open repository %s: %w", l.Path, err)
	}
	ref, err := repo.Reference(plumbing.NewBranchReferenceName(l.Branch), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return reconcile.Snapshot{}, fmt.Errorf("repository %s has no branch %q; push one", l.Path, l.Branch)
	}
	if errors.Is(err, dotgit.ErrEmptyRefFile) {
		return reconcile.Snapshot{}, l.errEmptyBranch()
	}
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("read branch %q of %s: %w", l.Branch, l.Path, err)
	}
	return l.snapshotOf(all, ref.Hash())
}

// errEmptyBranch says the way out of a branch whose file a crash has emptied.
func (l Local) errEmptyBranch() error {
	return fmt.Errorf("branch %q of repository %s is an empty file; lead it to a commit again (git --git-dir %s update-ref refs/heads/%s COMMIT), or, if it is the agent's own, restart the agent", l.Branch, l.Path, l.Path, l.Branch)
}

// At is any commit of the repository.
func (l Local) At(ctx context.Context, commit string) (reconcile.Snapshot, error) {
	_, all, err := open(l.Path, l.Names)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("open repository %s: %w", l.Path, err)
	}
	return l.snapshotOf(all, plumbing.NewHash(commit))
}

func (l Local) snapshotOf(all *objects, hash plumbing.Hash) (reconcile.Snapshot, error) {
	commit, err := object.GetCommit(all, hash)
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	root, err := commit.Tree()
	if err != nil {
		return reconcile.Snapshot{}, fmt.Errorf("read the tree of commit %s: %w", hash, err)
	}
	if folder := path.Clean(l.Folder); folder != "." {
		if root, err = root.Tree(folder); err != nil {
			return reconcile.Snapshot{}, fmt.Errorf("folder %s of commit %s: %w", folder, hash, notExist(err))
		}
	}
	return reconcile.Snapshot{Commit: hash.String(), Tree: newTree(all, l.known, root)}, nil
}

// recheck is how often the watched folders are compared with those at the
// path now.
var recheck = time.Second

// Watch tells of changes to the branch, through the folders that Git renames
// its refs into. They are watched anew when others take their place: a watch
// stays with the folder that it was set on, wherever that goes.
func (l Local) Watch(ctx context.Context, changed chan<- struct{}) error {
	for {
		if err := l.follow(ctx, changed); err != nil {
			return err
		}
	}
}

// follow watches until one of the folders comes, goes or is replaced.
func (l Local) follow(ctx context.Context, changed chan<- struct{}) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	dir := filepath.Clean(l.Path)
	if info, err := os.Stat(filepath.Join(dir, ".git")); err == nil && info.IsDir() {
		dir = filepath.Join(dir, ".git")
	}
	ref := filepath.Join(dir, "refs", "heads", filepath.FromSlash(l.Branch))
	packed := filepath.Join(dir, "packed-refs")
	// Git makes and removes the folders of branch names with a slash.
	var folders []string
	for d := filepath.Dir(ref); d != filepath.Dir(dir) && d != "/"; d = filepath.Dir(d) {
		folders = append(folders, d)
	}
	now := identify(folders)
	for i, d := range folders {
		if now[i] == nil {
			continue
		}
		if err := w.Add(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", d, err)
		}
	}
	hint(changed) // of what came before the watch
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-w.Events:
			if e.Name == ref || e.Name == packed {
				hint(changed)
			} else if slices.Contains(folders, e.Name) && !slices.EqualFunc(now, identify(folders), same) {
				return nil
			}
		case <-w.Errors: // an overflow: something was missed
			hint(changed)
		case <-tick.C: // a folder above the repository may have been renamed
			if !slices.EqualFunc(now, identify(folders), same) {
				return nil
			}
		}
	}
}

// identify says which folders these are, nil for one that is not there.
func identify(folders []string) []os.FileInfo {
	out := make([]os.FileInfo, len(folders))
	for i, d := range folders {
		out[i], _ = os.Stat(d) // what cannot be read cannot be watched either
	}
	return out
}

// same compares as os.SameFile does, to which two that are not there differ.
func same(a, b os.FileInfo) bool { return a == nil && b == nil || os.SameFile(a, b) }

func hint(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
