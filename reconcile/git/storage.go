package git

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// repository is one of go-git's whose objects are read by objects.
type repository struct {
	*filesystem.Storage
	bounded *objects
}

// EncodedObject is the object of a hash, within bounds.
func (r repository) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	return r.bounded.EncodedObject(t, h)
}

// EncodedObjectSize is the size of an object, of which only headers are read.
func (r repository) EncodedObjectSize(h plumbing.Hash) (int64, error) {
	return r.bounded.EncodedObjectSize(h)
}

// HasEncodedObject reports whether an object is there.
func (r repository) HasEncodedObject(h plumbing.Hash) error { return r.bounded.HasEncodedObject(h) }

// open opens a repository as go-git does, with its objects read within bounds.
// A tree of it may have so many names; 0: maxNames.
func open(path string, names int) (*gogit.Repository, *objects, error) {
	repo, all, _, err := openAt(path, names, false)
	return repo, all, err
}

// openAt is open, with the folder of the work tree. To detect is to take the
// nearest work tree upward, which may be a linked one.
func openAt(path string, names int, detect bool) (repo *gogit.Repository, all *objects, work string, err error) {
	dir, work, err := locate(path, detect)
	if err != nil {
		return nil, nil, "", err
	}
	dot, common := plainFiles{osfs.New(dir)}, dir
	if text, err := readSmall(filepath.Join(dir, "commondir")); err == nil { // a linked work tree
		common = against(dir, strings.TrimSpace(text))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, "", err
	}
	var files billy.Filesystem = dot
	if detect && common != dir {
		files = dotgit.NewRepositoryFilesystem(dot, plainFiles{osfs.New(common)})
	}
	all = objectsIn(names, filepath.Join(common, "objects"))
	repo, err = gogit.Open(repository{filesystem.NewStorage(files, cache.NewObjectLRUDefault()), all}, nil)
	return repo, all, work, err
}

// locate finds what git calls the git dir, and the folder that it lies in, which
// is empty for a bare repository.
func locate(path string, detect bool) (dir, work string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	for work = path; ; work = filepath.Dir(work) {
		dir = filepath.Join(work, gogit.GitDirName)
		info, err := os.Stat(dir)
		switch {
		case err == nil && info.IsDir():
			return dir, work, nil
		case err == nil:
			text, err := readSmall(dir)
			line, _, _ := strings.Cut(text, "\n")
			named, ok := strings.CutPrefix(line, "gitdir: ")
			if err == nil && !ok {
				err = fmt.Errorf("%s names no folder of a repository", dir)
			}
			return against(work, strings.TrimSpace(named)), work, err
		case !errors.Is(err, fs.ErrNotExist):
			return "", "", err
		case !detect:
			return path, "", nil
		case work == filepath.Dir(work):
			return "", "", gogit.ErrRepositoryNotExists
		}
	}
}

// against is a path that a file in dir names.
func against(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// NewEncodedObject, and what follows, are there for go-git's interface: nothing
// is written here.
func (o *objects) NewEncodedObject() plumbing.EncodedObject { return &plumbing.MemoryObject{} }

var errReadOnly = errors.New("objects are only read here")

// SetEncodedObject is an error.
func (o *objects) SetEncodedObject(plumbing.EncodedObject) (plumbing.Hash, error) {
	return plumbing.ZeroHash, errReadOnly
}

// IterEncodedObjects is an error.
func (o *objects) IterEncodedObjects(plumbing.ObjectType) (storer.EncodedObjectIter, error) {
	return nil, errReadOnly
}

// AddAlternate is an error.
func (o *objects) AddAlternate(string) error { return errReadOnly }
