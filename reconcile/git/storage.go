package git

import (
	"errors"
	"path/filepath"
	"strings"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
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
	return openWith(path, names, &gogit.PlainOpenOptions{})
}

func openWith(path string, names int, o *gogit.PlainOpenOptions) (*gogit.Repository, *objects, error) {
	repo, err := gogit.PlainOpenWithOptions(path, o)
	if err != nil {
		return nil, nil, err
	}
	storage, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, nil, errors.New("the repository is not on disk")
	}
	dir := storage.Filesystem().Root()
	if text, err := readSmall(filepath.Join(dir, "commondir")); err == nil { // a linked work tree
		if common := strings.TrimSpace(text); filepath.IsAbs(common) {
			dir = common
		} else {
			dir = filepath.Join(dir, common)
		}
	}
	all := objectsIn(names, filepath.Join(dir, "objects"))
	bounded, err := gogit.Open(repository{storage, all}, nil)
	return bounded, all, err
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
