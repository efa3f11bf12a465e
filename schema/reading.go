package schema

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// reading brings every file of a tree to the point where it is plain data or
// has problems.
type reading struct {
	ctx    context.Context
	tree   fs.FS
	limits Limits
	turn   func(context.Context) error // may be nil

	files  []entry
	units  []*unit // by file; nil: it has to be parsed
	loaded int64   // weight of all units
	lib    string  // digest of lib/; empty: not known before its files are read
}

// read returns a unit for each file. Those of files that did not change are
// taken from known. What is left is parsed here if it is little and holds no
// expressions; else the evaluating process takes it.
func (r *reading) read(known map[string]*unit) ([]*unit, error) {
	r.units = make([]*unit, len(r.files))
	if err := r.recall(known); err != nil {
		return nil, err
	}
	todo, size := r.todo()
	if size <= inProcess {
		var err error
		if todo, err = r.parse(todo); err != nil {
			return nil, err
		}
	}
	if err := r.evaluate(todo); err != nil {
		return nil, err
	}
	r.lib = r.libDigest()
	for _, u := range r.units {
		if u.expression && u.context == "" && u.hash != "" {
			u.context = r.lib
		}
		if r.loaded += u.weight(); r.loaded > r.limits.LoadedBytes {
			return nil, Problems{tooHeavy(u.name, r.limits.LoadedBytes)}
		}
	}
	return r.units, nil
}

// recall finds the files that are known.
func (r *reading) recall(known map[string]*unit) error {
	for i, f := range r.files {
		if f.size > r.limits.FileBytes {
			u := &unit{name: f.name, size: f.size}
			r.units[i] = u.refused("has %d bytes; a file may have %d", f.size, r.limits.FileBytes)
			continue
		}
		u, digest := known[f.name], f.digest()
		if u == nil || u.hash == "" {
			continue
		}
		if digest == "" && len(u.hash) == 2*sha256.Size { // as of a folder
			src, err := r.source(i)
			if err != nil {
				return err
			}
			digest = contentDigest(src)
		}
		if digest == u.hash {
			r.units[i] = u
		}
	}
	r.lib = r.libDigest()
	for i, u := range r.units {
		if u != nil && u.expression && (r.lib == "" || u.context != r.lib) {
			r.units[i] = nil
		}
	}
	return nil
}

// libDigest is that of all that files may import; empty if some of it was not
// read yet.
func (r *reading) libDigest() string {
	sum := sha256.New()
	for i, f := range r.files {
		if !isLib(f.name) {
			continue
		}
		digest := f.digest()
		if u := r.units[i]; u != nil && digest == "" {
			digest = u.hash
		}
		if digest == "" {
			return ""
		}
		fmt.Fprintf(sum, "%s %s\n", f.name, digest)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func (r *reading) todo() (todo []int, size int64) {
	for i, u := range r.units {
		if u == nil {
			todo = append(todo, i)
			size += r.files[i].size
		}
	}
	return todo, size
}

// parse takes what needs no evaluation, and returns what is left.
func (r *reading) parse(todo []int) (left []int, err error) {
	broken := false // in lib/, whose files may have any place among the others
	for _, u := range r.units {
		broken = broken || u != nil && isLib(u.name) && len(u.problems) > 0
	}
	for _, i := range todo {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		src, err := r.source(i)
		if err != nil {
			return nil, err
		}
		u := r.unit(i, src)
		a := parseFile(u.name, src)
		broken = broken || isLib(u.name) && len(a.problems) > 0
		if a.expression {
			left = append(left, i)
			continue
		}
		r.units[i] = u.take(a)
	}
	if !broken {
		return left, nil
	}
	for _, i := range left {
		u := &unit{name: r.files[i].name, size: r.files[i].size} // no hash: it is read again
		r.units[i] = u.take(answer{expression: true, deferred: true})
	}
	return nil, nil
}

// unit is a new one for a file with that content.
func (r *reading) unit(i int, src []byte) *unit {
	u := &unit{name: r.files[i].name, size: int64(len(src)), hash: r.files[i].digest()}
	if u.hash == "" {
		u.hash = contentDigest(src)
	}
	return u
}

// source reads a file, of which no more counts than the size that it was listed
// with: it may have grown, or its size may have been a lie.
func (r *reading) source(i int) ([]byte, error) {
	f := r.files[i]
	src, err := readPlain(r.tree, f.name, f.size)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.name, err)
	}
	if int64(len(src)) > f.size {
		return nil, Problems{tell(Pos{File: f.name}, "", "has more than the %d bytes that it was listed with; if it is being written, try again", f.size)}
	}
	return src, nil
}

// readPlain reads a plain file to the limit and one byte more.
func readPlain(tree fs.FS, name string, limit int64) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no plain file any more")
	}
	src := make([]byte, 0, min(info.Size(), limit)+1)
	for {
		n, err := f.Read(src[len(src):cap(src)])
		src = src[:len(src)+n]
		if err == io.EOF || err == nil && int64(len(src)) > limit {
			return src, nil
		}
		if err != nil {
			return nil, err
		}
		if len(src) == cap(src) {
			src = append(src, 0)[:len(src)]
		}
	}
}

func contentDigest(src []byte) string { return fmt.Sprintf("%x", sha256.Sum256(src)) }
