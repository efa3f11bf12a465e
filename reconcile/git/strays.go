package git

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// strays refuses packs in a quarantine that hold objects to which the commit
// does not lead, and which the repository does not have: nobody would ever see
// them. Git itself asks only whether what the commit leads to is there.
func (o *objects) strays(quarantine string, tip plumbing.Hash) error {
	inside := filepath.Clean(quarantine) + string(filepath.Separator)
	o.mu.Lock()
	err := o.list()
	reached := map[plumbing.Hash]bool{} // by objects of the quarantine
	for _, p := range o.packs {
		if strings.HasPrefix(p.name, inside) {
			for h := range p.all {
				reached[h] = false
			}
		}
	}
	o.mu.Unlock()
	if err != nil {
		return err
	}
	type step struct {
		kind plumbing.ObjectType
		hash plumbing.Hash
	}
	next := []step{{plumbing.CommitObject, tip}}
	visit := func(kind plumbing.ObjectType, h plumbing.Hash) {
		if done, here := reached[h]; here && !done {
			reached[h] = true
			if kind != plumbing.BlobObject {
				next = append(next, step{kind, h})
			}
		}
	}
	reached[tip] = true
	for len(next) > 0 {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		if at.kind == plumbing.CommitObject {
			c, err := object.GetCommit(o, at.hash)
			if err != nil {
				return fmt.Errorf("read commit %s: %w", at.hash, err)
			}
			visit(plumbing.TreeObject, c.TreeHash)
			for _, p := range c.ParentHashes {
				visit(plumbing.CommitObject, p)
			}
			continue
		}
		t, err := object.GetTree(o, at.hash)
		if err != nil {
			return fmt.Errorf("read tree %s: %w", at.hash, err)
		}
		for _, e := range t.Entries {
			switch e.Mode {
			case filemode.Dir:
				visit(plumbing.TreeObject, e.Hash)
			case filemode.Submodule:
			default:
				visit(plumbing.BlobObject, e.Hash)
			}
		}
	}
	before := objectsIn(o.names, o.dirs[1:]...)
	for h, done := range reached {
		if !done && before.HasEncodedObject(h) != nil { // a base of a delta is there twice
			return fmt.Errorf("the push brings objects to which its commit does not lead, such as %s; push from a fresh clone", h)
		}
	}
	return nil
}
