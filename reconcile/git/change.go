package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"swage/reconcile"
)

// Change is what a push would make of the branch.
type Change struct {
	Before, After reconcile.Snapshot
	// Forward says that nothing of the branch is taken back.
	Forward bool
	// Files are the paths that differ, in any way, below Folder; what is
	// outside of it begins with "../".
	Files []string
}

// Change compares two commits, the second of which may still be in the
// quarantine of a push.
func (l Local) Change(ctx context.Context, quarantine, before, after string) (Change, error) {
	var c Change
	objects, err := l.incoming(quarantine)
	if err != nil {
		return c, err
	}
	plain := Local{Folder: l.Folder}
	if c.Before, err = plain.snapshotOf(objects, plumbing.NewHash(before)); err != nil {
		return c, err
	}
	if c.After, err = plain.snapshotOf(objects, plumbing.NewHash(after)); err != nil {
		return c, err
	}
	old, err := object.GetCommit(objects, plumbing.NewHash(before))
	if err != nil {
		return c, err
	}
	tip, err := object.GetCommit(objects, plumbing.NewHash(after))
	if err != nil {
		return c, err
	}
	if c.Forward, err = old.IsAncestor(tip); err != nil {
		return c, fmt.Errorf("walk from commit %s: %w", after, err)
	}
	d := comparison{ctx: ctx, objects: objects, most: 2 * objects.names}
	if err := d.trees("", old.TreeHash, tip.TreeHash); err != nil {
		return c, err
	}
	for i, name := range d.files {
		if folder := path.Clean(l.Folder); folder != "." {
			inside, ok := strings.CutPrefix(name, folder+"/")
			if d.files[i] = inside; !ok {
				d.files[i] = "../" + name
			}
		}
	}
	slices.Sort(d.files)
	c.Files = d.files
	return c, nil
}

// comparison finds the files that differ between two trees, in content or in
// kind.
type comparison struct {
	ctx     context.Context
	objects *objects
	files   []string
	most    int // names of folders that differ
	seen    int
}

func (d *comparison) trees(dir string, before, after plumbing.Hash) error {
	if before == after {
		return d.ctx.Err()
	}
	was, err := d.list(before)
	if err != nil {
		return err
	}
	is, err := d.list(after)
	if err != nil {
		return err
	}
	if d.seen += len(was) + len(is); d.seen > d.most {
		return fmt.Errorf("more than %d names stand in folders that it changes; push it in parts, or with a token that is held to no realm", d.most)
	}
	for name := range is {
		if _, ok := was[name]; !ok {
			was[name] = object.TreeEntry{}
		}
	}
	for name, a := range was {
		b, full := is[name], strings.TrimPrefix(dir+"/"+name, "/")
		if a.Hash == b.Hash && a.Mode == b.Mode {
			continue
		}
		var sub [2]plumbing.Hash // zero: nothing
		for i, e := range []object.TreeEntry{a, b} {
			if e.Mode == filemode.Dir {
				sub[i] = e.Hash
			}
		}
		if err := d.trees(full, sub[0], sub[1]); err != nil {
			return err
		}
		if a.Mode != filemode.Dir && a.Mode != filemode.Empty || b.Mode != filemode.Dir && b.Mode != filemode.Empty {
			d.files = append(d.files, full)
		}
	}
	return nil
}

func (d *comparison) list(hash plumbing.Hash) (map[string]object.TreeEntry, error) {
	out := map[string]object.TreeEntry{}
	if hash.IsZero() {
		return out, nil
	}
	tree, err := object.GetTree(d.objects, hash)
	if err != nil {
		return nil, fmt.Errorf("read tree %s: %w", hash, err)
	}
	for _, e := range tree.Entries {
		if _, twice := out[e.Name]; twice || e.Mode == filemode.Empty || !fs.ValidPath(e.Name) || e.Name == "." {
			return nil, errors.New("a tree is broken")
		}
		out[e.Name] = e
	}
	return out, nil
}
