package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// tree is a Git tree as a file system, for any number of goroutines. Symbolic
// links and submodules show as what they are; they are never followed.
type tree struct {
	objects *objects
	*trees
	read *sync.Once
	dirs map[string]*object.Tree // by path
	seen *names
}

// names counts the files and the folders of a snapshot as they are come upon.
// A tree may hold another one many times, so that few objects have more paths
// than anybody can walk.
type names struct{ files, folders int }

// add counts the names of one folder.
func (n *names) add(t *object.Tree, most int) error {
	for _, e := range t.Entries {
		if e.Mode == filemode.Dir {
			n.folders++
		} else {
			n.files++
		}
	}
	if n.files > most || n.folders > most {
		return fmt.Errorf("the repository has more than %d files or folders; the limit (limits.files) can be raised in the node file", most)
	}
	return nil
}

// trees are the decoded trees of a snapshot and of the one before it: of two
// commits most are the same, and none need be decoded twice.
type trees struct {
	mu       sync.Mutex // held around every use of a tree, which caches as it is read
	now, old map[plumbing.Hash]*object.Tree
}

func (t *trees) get(objects *objects, hash plumbing.Hash) (*object.Tree, error) {
	d, ok := t.now[hash]
	if !ok {
		d, ok = t.old[hash]
	}
	if !ok {
		var err error
		if d, err = object.GetTree(objects, hash); err != nil {
			return nil, err
		}
	}
	t.now[hash] = d
	return d, nil
}

// begin makes the trees that were read last the old ones.
func (t *trees) begin() { t.now, t.old = map[plumbing.Hash]*object.Tree{}, t.now }

// newTree is a snapshot; known may be nil. Many are asked for only to see
// their commit, so it counts as one from its first read on.
func newTree(objects *objects, known *trees, root *object.Tree) tree {
	if known == nil {
		known = &trees{}
	}
	return tree{objects, known, new(sync.Once), map[string]*object.Tree{".": root}, &names{}}
}

func (t tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read.Do(t.begin)
	f, err := t.open(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: notExist(err)}
	}
	return f, nil
}

func (t tree) open(name string) (fs.File, error) {
	if name == "." {
		return &dir{entry: entry{mode: fs.ModeDir, name: "."}, of: t, tree: t.dirs["."]}, nil
	}
	parent, err := t.dir(path.Dir(name))
	if err != nil {
		return nil, err
	}
	e, err := parent.FindEntry(path.Base(name))
	if err != nil {
		return nil, err
	}
	here := entry{name: path.Base(name), mode: mode(e.Mode)}
	if e.Mode == filemode.Dir {
		sub, err := t.dir(name)
		return &dir{entry: here, of: t, tree: sub}, err
	}
	if e.Mode == filemode.Submodule {
		return nil, errors.New("is a submodule")
	}
	blob, err := object.GetBlob(t.objects, e.Hash) // within its bounds
	if err != nil {
		return nil, err
	}
	here.size = blob.Size
	r, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return &file{here, bytes.NewReader(text)}, err
}

// dir is the tree of a folder.
func (t tree) dir(name string) (*object.Tree, error) {
	if d, ok := t.dirs[name]; ok {
		return d, nil
	}
	parent, err := t.dir(path.Dir(name))
	if err != nil {
		return nil, err
	}
	e, err := parent.FindEntry(path.Base(name))
	if err != nil {
		return nil, err
	}
	if e.Mode != filemode.Dir {
		return nil, object.ErrDirectoryNotFound
	}
	d, err := t.get(t.objects, e.Hash)
	if err != nil {
		return nil, err
	}
	if err := t.seen.add(d, t.objects.names); err != nil {
		return nil, err
	}
	t.dirs[name] = d
	return d, nil
}

func notExist(err error) error {
	if errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound) || errors.Is(err, object.ErrFileNotFound) {
		return fs.ErrNotExist
	}
	return err
}

func mode(m filemode.FileMode) fs.FileMode {
	switch m {
	case filemode.Dir:
		return fs.ModeDir
	case filemode.Symlink:
		return fs.ModeSymlink
	case filemode.Submodule:
		return fs.ModeIrregular
	}
	return 0
}

// entry is both fs.FileInfo and fs.DirEntry.
type entry struct {
	name string
	size int64
	mode fs.FileMode
	hash string // of the content; empty when the entry is no plain file
	// sized reads the size of a file that was only listed.
	sized func() (int64, error)
}

func (e entry) Name() string       { return e.name }
func (e entry) Size() int64        { return e.size }
func (e entry) Mode() fs.FileMode  { return e.mode | 0o444 }
func (e entry) Type() fs.FileMode  { return e.mode.Type() }
func (e entry) ModTime() time.Time { return time.Time{} }
func (e entry) IsDir() bool        { return e.mode.IsDir() }
func (e entry) Sys() any           { return nil }

// Hash lets a reader that has seen this content pass it over.
func (e entry) Hash() string { return e.hash }

func (e entry) Info() (fs.FileInfo, error) {
	if e.sized == nil {
		return e, nil
	}
	size, err := e.sized()
	e.size = size
	return e, err
}

type file struct {
	entry
	*bytes.Reader
}

func (f *file) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *file) Size() int64                { return f.entry.size }
func (f *file) Close() error               { return nil }

type dir struct {
	entry
	of   tree
	tree *object.Tree
	next int
}

func (d *dir) Stat() (fs.FileInfo, error) { return d.entry, nil }
func (d *dir) Close() error               { return nil }

func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

// ReadDir follows fs.ReadDirFile.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	for ; d.next < len(d.tree.Entries) && (n <= 0 || len(out) < n); d.next++ {
		e := d.tree.Entries[d.next]
		listed := entry{name: e.Name, mode: mode(e.Mode)}
		if listed.mode.IsRegular() {
			hash := e.Hash
			listed.hash = hash.String()
			listed.sized = func() (int64, error) {
				d.of.mu.Lock()
				defer d.of.mu.Unlock()
				return d.of.objects.EncodedObjectSize(hash)
			}
		}
		out = append(out, listed)
	}
	if n > 0 && len(out) == 0 {
		return nil, io.EOF
	}
	return out, nil
}
