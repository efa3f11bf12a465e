package git

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// branches are the tips that are served.
func branches(dir string) ([]plumbing.Hash, error) {
	refs, err := refsIn(dir)
	if err != nil {
		return nil, err
	}
	var tips []plumbing.Hash
	for name, hash := range refs {
		if name.IsBranch() {
			tips = append(tips, hash)
		}
	}
	return tips, nil
}

// admit refuses a push with objects to which its commit does not lead: nobody
// would ever see them. And it refuses one whose commit leads to, or whose deltas
// are made of, objects that the repository has and no branch leads to: that
// would bring back what was withdrawn, to somebody who knows no more of it than
// its hash. Git itself asks only whether all is there. The tags among refused
// come with the push whether they are taken or not; what they lead to does not
// count.
func (o *objects) admit(quarantine string, tip plumbing.Hash, tips []plumbing.Hash, refused []string) error {
	reached, err := o.quarantined(quarantine)
	if err != nil {
		return err
	}
	for _, text := range refused {
		for h := plumbing.NewHash(text); ; {
			if _, here := reached[h]; !here {
				break
			}
			tag, err := object.GetTag(o, h)
			if errors.Is(err, plumbing.ErrObjectNotFound) { // of another kind
				break
			}
			if err != nil {
				return fmt.Errorf("read tag %s: %w", h, err)
			}
			delete(reached, h)
			h = tag.Target
		}
	}
	elsewhere := map[plumbing.Hash]bool{} // not in the quarantine
	w := walk{o, nil, func(h plumbing.Hash) bool {
		done, here := reached[h]
		if !here {
			elsewhere[h] = true
			return false
		}
		reached[h] = true
		return !done
	}}
	if err := w.from(tip); err != nil {
		return err
	}
	before := objectsIn(o.names, o.dirs...)
	if quarantine != "" {
		before = objectsIn(o.names, o.dirs[1:]...)
	}
	// Git adds what deltas are made of to the pack, and so does not ask whether
	// who pushes has it.
	added, err := o.madeOf(quarantine)
	if err != nil {
		return err
	}
	for h, done := range reached {
		if done && !added[h] {
			continue
		}
		switch missing := before.HasEncodedObject(h) != nil; {
		case !missing:
			elsewhere[h] = true
		case !done:
			return fmt.Errorf("the push brings objects to which its commit does not lead, such as %s; push the branch alone (git push --no-follow-tags), from a fresh clone if that does not help", h)
		}
	}
	seen := map[plumbing.Hash]bool{}
	w = walk{before, nil, func(h plumbing.Hash) bool {
		delete(elsewhere, h)
		if seen[h] || len(elsewhere) == 0 {
			return false
		}
		seen[h] = true
		return true
	}}
	for _, t := range tips {
		if len(elsewhere) == 0 {
			break
		}
		if err := w.from(t); err != nil {
			return err
		}
	}
	for h := range maps.Keys(elsewhere) {
		return fmt.Errorf("the push needs %s, to which no branch leads; fetch, and push again", h)
	}
	return nil
}

// quarantined are the objects of a quarantine, each not reached yet.
func (o *objects) quarantined(quarantine string) (map[plumbing.Hash]bool, error) {
	out := map[plumbing.Hash]bool{}
	if quarantine == "" {
		return out, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.list(); err != nil {
		return nil, err
	}
	for _, p := range o.packsIn(quarantine) {
		for h := range p.all {
			out[h] = false
		}
	}
	loose, _ := filepath.Glob(filepath.Join(escaped(quarantine), "[0-9a-f][0-9a-f]", "*")) // the pattern is good
	for _, name := range loose {
		if h := filepath.Base(filepath.Dir(name)) + filepath.Base(name); plumbing.IsHash(h) {
			out[plumbing.NewHash(h)] = false
		}
	}
	return out, nil
}

// madeOf are the objects that deltas of a quarantine name as what they are made of.
func (o *objects) madeOf(quarantine string) (map[plumbing.Hash]bool, error) {
	out := map[plumbing.Hash]bool{}
	if quarantine == "" {
		return out, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.packsIn(quarantine) {
		some, err := p.madeOf()
		if err != nil {
			return nil, err
		}
		maps.Copy(out, some)
	}
	return out, nil
}

// packsIn are the packs of a quarantine, of those that are open.
func (o *objects) packsIn(quarantine string) (some []*pack) {
	inside := filepath.Clean(quarantine) + string(filepath.Separator)
	for _, p := range o.packs {
		if strings.HasPrefix(p.name, inside) {
			some = append(some, p)
		}
	}
	return some
}

// walk visits what a commit leads to: further from where visit says so.
type walk struct {
	objects *objects
	next    []step
	visit   func(plumbing.Hash) bool
}

type step struct {
	kind plumbing.ObjectType
	hash plumbing.Hash
}

func (w *walk) see(kind plumbing.ObjectType, h plumbing.Hash) {
	if w.visit(h) && kind != plumbing.BlobObject {
		w.next = append(w.next, step{kind, h})
	}
}

func (w *walk) from(commit plumbing.Hash) error {
	w.see(plumbing.CommitObject, commit)
	return w.rest()
}

// rest visits what is still to be visited.
func (w *walk) rest() error {
	for len(w.next) > 0 {
		at := w.next[len(w.next)-1]
		w.next = w.next[:len(w.next)-1]
		if at.kind == plumbing.CommitObject {
			c, err := object.GetCommit(w.objects, at.hash)
			if err != nil {
				return fmt.Errorf("read commit %s: %w", at.hash, err)
			}
			for _, p := range c.ParentHashes {
				w.see(plumbing.CommitObject, p)
			}
			w.see(plumbing.TreeObject, c.TreeHash) // first: most of what is looked for is in the newest
			continue
		}
		t, err := object.GetTree(w.objects, at.hash)
		if err != nil {
			return fmt.Errorf("read tree %s: %w", at.hash, err)
		}
		for _, e := range t.Entries {
			switch e.Mode {
			case filemode.Dir:
				w.see(plumbing.TreeObject, e.Hash)
			case filemode.Submodule:
			default:
				w.see(plumbing.BlobObject, e.Hash)
			}
		}
	}
	return nil
}
