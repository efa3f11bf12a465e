package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// Bounds on an object that this process reads, in bytes, and on the names of
// one tree. Whoever can push decides what an object says of itself, so each is
// compared before anything of the object is inflated.
const (
	maxCommit = 1 << 20 // a tag, too
	// maxParents of one commit: a chain of commits that each name the one before
	// thousands of times is small in a pack, and long to walk.
	maxParents = 100
	maxTree    = 6 << 20 // 20,000 names of 255 bytes
	maxBlob    = 64 << 20
	maxNames   = 20000 // files, and folders, of a snapshot: see Local.Names
)

// Bounds on what a delta leads to. A small object may be a delta of a large
// one, and that of another: all of them are inflated to get at it.
const (
	maxBase   = 16 << 20 // bytes of an object that another one is a delta of; that of a larger one may be as large
	maxDeltas = 32 << 20 // bytes of all deltas of one object
	maxChain  = 4096     // deltas of one object; git makes 50, and 4095 at most
	// maxBases bounds the bytes of objects kept because others may be deltas of them.
	maxBases = 16 << 20
)

// objects reads the objects of a repository. It differs from go-git's storage
// in that it knows the size of an object, and of all that the object is a delta
// of, before it inflates any of them, and in that it does not read whole
// indexes into memory. Any number of goroutines may use it.
type objects struct {
	dirs  []string // folders of objects: a quarantine, the repository's, its alternates
	names int      // that a tree may have

	mu     sync.Mutex
	listed bool
	packs  []*pack
	bases  map[place]plain
	held   int // bytes of bases
}

// place is where an object of a pack begins.
type place struct {
	pack   *pack
	offset int64
}

// plain is an object that is inflated.
type plain struct {
	kind plumbing.ObjectType
	text []byte
}

// found is an object of which nothing but its headers was read.
type found struct {
	kind   plumbing.ObjectType
	size   int64
	loose  string   // file; empty: in a pack
	deltas []packed // the object's own first
	base   packed   // that is no delta, or of which known is the object
	known  []byte
}

// objectsIn reads the objects of folders and of what they name as alternates.
func objectsIn(names int, dirs ...string) *objects {
	if names == 0 {
		names = maxNames
	}
	o := &objects{names: names, bases: map[place]plain{}}
	for i := 0; i < len(dirs) && i < maxAlternates; i++ {
		o.dirs = append(o.dirs, dirs[i])
		text, err := readSmall(filepath.Join(dirs[i], "info", "alternates"))
		if err != nil {
			continue // none
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || line[0] == '#':
				continue
			case !filepath.IsAbs(line): // to the folder of objects
				line = filepath.Join(dirs[i], line)
			}
			dirs = append(dirs, line)
		}
	}
	return o
}

const maxAlternates = 16

// readSmall reads a file of git's own that is never long.
func readSmall(name string) (string, error) {
	f, err := openPlain(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(text), err
}

// EncodedObject is the object of a hash. One that is larger than its kind may
// be is an error, and is not read.
func (o *objects) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	f, err := o.find(h)
	if err != nil {
		return nil, err
	}
	if t != plumbing.AnyObject && f.kind != t {
		return nil, plumbing.ErrObjectNotFound
	}
	if err := fits(f.kind, h, f.size); err != nil {
		return nil, err
	}
	text, err := o.read(f)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", f.kind, h, err)
	}
	if f.kind == plumbing.TreeObject {
		if n := countNames(text, o.names); n > o.names {
			return nil, fmt.Errorf("tree %s has more than %d names in one folder", h, o.names)
		}
	}
	if f.kind == plumbing.CommitObject && manyParents(text) {
		return nil, fmt.Errorf("commit %s has more than %d parents", h, maxParents)
	}
	out := &plumbing.MemoryObject{}
	out.SetType(f.kind)
	_, err = out.Write(text)
	return out, err
}

// fits says why an object is too large to be read.
func fits(kind plumbing.ObjectType, h plumbing.Hash, size int64) error {
	most := int64(maxCommit)
	switch kind {
	case plumbing.TreeObject:
		most = maxTree
	case plumbing.BlobObject:
		most = maxBlob
	}
	if size > most {
		return &tooLarge{kind, h.String(), size, most}
	}
	return nil
}

// tooLarge is that an object has more bytes than one of its kind may have.
type tooLarge struct {
	kind       plumbing.ObjectType
	which      string // hash, or where it is
	size, most int64
}

func (e *tooLarge) Error() string {
	return fmt.Sprintf("%s %s has %d bytes; a %s may have %d", e.kind, e.which, e.size, e.kind, e.most)
}

// countNames counts the names of a tree, and stops when there are too many.
func countNames(tree []byte, most int) (n int) {
	for len(tree) > 0 && n <= most {
		end := bytes.IndexByte(tree, 0)
		if end < 0 || len(tree) < end+21 {
			return n // the decoder says that it is broken
		}
		tree = tree[end+21:]
		n++
	}
	return n
}

// EncodedObjectSize is the size of an object, of which only headers are read.
func (o *objects) EncodedObjectSize(h plumbing.Hash) (int64, error) {
	f, err := o.find(h)
	return f.size, err
}

// HasEncodedObject reports whether an object is there.
func (o *objects) HasEncodedObject(h plumbing.Hash) error {
	_, err := o.find(h)
	return err
}

// find reads the headers of an object. What is not there is looked for once
// more in what is there then: git may have made other packs of these.
func (o *objects) find(h plumbing.Hash) (found, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for again := false; ; again = true {
		if !o.listed {
			if err := o.list(); err != nil {
				return found{}, err
			}
			again = true
		}
		for _, p := range o.packs {
			offset, ok := p.find(h)
			if !ok {
				continue
			}
			return o.follow(p, offset)
		}
		for _, dir := range o.dirs {
			name := h.String()
			name = filepath.Join(dir, name[:2], name[2:])
			f, err := looseHeader(name)
			if !errors.Is(err, fs.ErrNotExist) {
				return f, err
			}
		}
		if again {
			return found{}, plumbing.ErrObjectNotFound
		}
		o.listed = false // it costs a look at the folders
	}
}

// list opens the packs. One that goes away meanwhile is not one of them.
func (o *objects) list() error {
	known := map[string]*pack{}
	for _, p := range o.packs {
		known[p.name] = p
	}
	o.packs = nil
	for _, dir := range o.dirs {
		names, _ := filepath.Glob(filepath.Join(escaped(dir), "pack", "pack-*.idx")) // the pattern is good
		for _, name := range names {
			p := known[name]
			if p == nil {
				var err error
				if p, err = openPack(name); errors.Is(err, fs.ErrNotExist) {
					continue
				} else if err != nil {
					return fmt.Errorf("read %s: %w", name, err)
				}
			}
			o.packs = append(o.packs, p)
		}
	}
	o.listed = true
	return nil
}

// escaped is a path as a pattern that means it.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// follow reads the headers of an object of a pack and of all that it is a
// delta of.
func (o *objects) follow(p *pack, offset int64) (found, error) {
	f := found{size: -1}
	var deltas, largest int64
	for {
		e, err := p.entry(offset)
		if err != nil {
			return f, err
		}
		if f.size < 0 {
			f.size = e.size
		}
		if largest = max(largest, e.size); largest > max(maxBase, f.size) {
			return f, fmt.Errorf("it is a delta of an object with %d bytes; repack the repository (git repack -adF --window=0)", e.size)
		}
		base, known := o.bases[place{p, offset}]
		switch {
		case known:
			f.kind, f.base, f.known = base.kind, e, base.text
			return f, nil
		case !e.delta():
			f.kind, f.base = e.kind, e
			return f, nil
		}
		f.deltas = append(f.deltas, e)
		if deltas += e.length; deltas > maxDeltas || len(f.deltas) > maxChain {
			return f, errors.New("it is a delta of too many others; repack the repository (git repack -adf)")
		}
		if offset, err = p.baseOf(e); err != nil {
			return f, err
		}
	}
}

// read inflates an object that fits.
func (o *objects) read(f found) ([]byte, error) {
	if f.loose != "" {
		return readLoose(f)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	text := f.known
	if text == nil {
		var err error
		if text, err = f.base.inflate(); err != nil {
			return nil, err
		}
		if len(f.deltas) > 0 {
			o.keep(place{f.base.pack, f.base.offset}, plain{f.kind, text})
		}
	}
	for i := len(f.deltas) - 1; i >= 0; i-- {
		e := f.deltas[i]
		delta, err := e.inflate()
		if err != nil {
			return nil, err
		}
		if text, err = packfile.PatchDelta(text, delta); err != nil {
			return nil, err
		}
		if int64(len(text)) != e.size {
			return nil, errBroken
		}
		o.keep(place{e.pack, e.offset}, plain{f.kind, text})
	}
	return text, nil
}

// keep remembers an object that another may be a delta of. When there are too
// many bytes of them, all are forgotten.
func (o *objects) keep(at place, p plain) {
	if len(p.text) == 0 || len(p.text) > maxBases/4 {
		return
	}
	if o.held+len(p.text) > maxBases {
		clear(o.bases)
		o.held = 0
	}
	if _, known := o.bases[at]; !known {
		o.bases[at] = p
		o.held += len(p.text)
	}
}
