package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Recover puts right what a crash may leave in a repository of the agent's own,
// before anybody uses it, and says what it did: stale locks, refs and objects
// that were cut off, packs without an index, folders and the HEAD that went
// missing. What is broken is moved into the folder "broken" of the repository.
// last is the commit that the agent accepted last; it may be empty.
func Recover(ctx context.Context, dir, branch, last string) (done []string, err error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	r := &recovery{ctx: ctx, dir: dir, branch: plumbing.NewBranchReferenceName(branch)}
	removed, err := unlock(dir, true)
	for _, file := range removed {
		r.say("the stale lock %s was removed", file)
	}
	for _, part := range []func() error{r.skeleton, r.packs, r.loose, r.packedRefs, func() error { return r.refs(last) }} {
		if err != nil {
			break
		}
		err = part()
	}
	if err != nil {
		err = fmt.Errorf("recover the repository %s: %w", dir, err)
	}
	return r.done, err
}

type recovery struct {
	ctx    context.Context
	dir    string
	branch plumbing.ReferenceName
	packed plumbing.Hash // what packed-refs says of the branch
	done   []string
}

func (r *recovery) say(format string, args ...any) {
	r.done = append(r.done, fmt.Sprintf(format, args...))
}

// skeleton makes anew what git wants of a repository: without it there is none.
func (r *recovery) skeleton() error {
	if _, err := os.Stat(filepath.Join(r.dir, "objects")); errors.Is(err, fs.ErrNotExist) {
		if text, err := readSmall(filepath.Join(r.dir, "HEAD")); err != nil || text == "" {
			return nil // it never was one
		}
	}
	for _, d := range []string{"objects", "refs"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			return err
		}
	}
	head := filepath.Join(r.dir, "HEAD")
	text, err := readSmall(head)
	if err == nil && (strings.HasPrefix(text, "ref: refs/") || wholeHash.MatchString(strings.TrimSpace(text))) {
		return nil
	}
	r.say("HEAD was broken, and leads to %s again", r.branch.Short())
	return replaceFile(head, "ref: "+string(r.branch)+"\n")
}

var wholeHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// packs makes the index of packs that have none.
func (r *recovery) packs() error {
	files, _ := filepath.Glob(filepath.Join(escaped(r.dir), "objects", "pack", "pack-*.pack")) // the pattern is good
	for _, file := range files {
		index := strings.TrimSuffix(file, ".pack") + ".idx"
		if info, err := os.Stat(index); err == nil && info.Size() > 0 {
			continue
		}
		if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one
			return err
		}
		if _, err := stock(r.ctx, r.dir, nil, "index-pack", file); err != nil {
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			if err := r.away(file); err != nil {
				return err
			}
			continue
		}
		r.say("the pack %s has an index again", filepath.Base(file))
	}
	return nil
}

// mostLoose bounds the objects that are read at a start. What the agent takes
// stays packed, so that there are few.
const mostLoose = 20000

// loose moves away objects that are cut off: git may then take them anew, from
// a pack or a push.
func (r *recovery) loose() error {
	files, _ := filepath.Glob(filepath.Join(escaped(r.dir), "objects", "[0-9a-f][0-9a-f]", "*"))
	for _, file := range files[:min(len(files), mostLoose)] {
		f, err := looseHeader(file)
		if err == nil && fits(f.kind, plumbing.ZeroHash, f.size) == nil {
			_, err = readLoose(f)
		}
		if errors.Is(err, errBroken) {
			err = r.away(file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.ctx.Err()
}

// away moves a broken file of the repository out of the way.
func (r *recovery) away(file string) error {
	inside, err := filepath.Rel(r.dir, file)
	if err != nil {
		return err
	}
	to := filepath.Join(r.dir, "broken", fmt.Sprintf("%s.%d", strings.ReplaceAll(inside, "/", "-"), time.Now().UnixNano()))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if err := os.Rename(file, to); err != nil {
		return err
	}
	r.say("%s was broken, and is %s now", inside, to)
	return nil
}

var packedRef = regexp.MustCompile(`^(#.*|\^[0-9a-f]{40}|[0-9a-f]{40} refs/\S+)$`)

// packedRefs keeps the lines of packed-refs that can be read.
func (r *recovery) packedRefs() error {
	file := filepath.Join(r.dir, "packed-refs")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // none
	}
	var good strings.Builder
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if !packedRef.MatchString(line) {
			continue
		}
		good.WriteString(line + "\n")
		if hash, name, ok := strings.Cut(line, " "); ok && name == string(r.branch) {
			r.packed = plumbing.NewHash(hash)
		}
	}
	if good.Len() == len(text) {
		return nil
	}
	if err := r.away(file); err != nil {
		return err
	}
	return replaceFile(file, good.String())
}

// refs moves refs away that name no commit, and makes the branch lead to the
// newest commit that can be read.
func (r *recovery) refs(last string) error {
	_, all, err := open(r.dir, 0)
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		return nil
	}
	if err != nil {
		return err
	}
	file := filepath.Join(r.dir, filepath.FromSlash(string(r.branch)))
	text, err := readSmall(file)
	loose := err == nil
	was := r.packed
	switch text = strings.TrimSpace(text); {
	case strings.HasPrefix(text, "ref: refs/"):
		return nil // somebody's own doing
	case loose:
		was = plumbing.ZeroHash
		if wholeHash.MatchString(text) {
			was = plumbing.NewHash(text)
		}
	}
	replaced, err := r.others(all, file)
	if err != nil || !loose && was.IsZero() {
		return err
	}
	candidates := append(r.candidates(all, was), plumbing.NewHash(last), r.packed)
	for _, h := range append(candidates, replaced...) {
		switch {
		case h.IsZero() || leads(all, h) != nil:
			continue
		case h == was:
			return nil
		}
		r.say("branch %s could not be read, and leads to %s again; if a newer commit was pushed, push it once more", r.branch.Short(), h)
		return errors.Join(replaceFile(file, h.String()+"\n"), r.ctx.Err())
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if loose {
		if err := r.away(file); err != nil {
			return err
		}
	}
	if !r.packed.IsZero() {
		if _, err := stock(r.ctx, r.dir, nil, "update-ref", "-d", string(r.branch)); err != nil {
			return err
		}
	}
	r.say("branch %s leads to no commit that can be read, and was taken away; push it again", r.branch.Short())
	return nil
}

// others moves the other refs away that name nothing, and returns the tips that
// pushes replaced, newest first.
func (r *recovery) others(all *objects, branch string) (replaced []plumbing.Hash, err error) {
	err = filepath.WalkDir(filepath.Join(r.dir, "refs"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || file == branch || strings.HasSuffix(file, ".lock") || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		text, err := readSmall(file)
		if err != nil {
			return err
		}
		text = strings.TrimSpace(text)
		switch hash := plumbing.NewHash(text); {
		case strings.HasPrefix(text, "ref: refs/"):
		case !wholeHash.MatchString(text) || all.HasEncodedObject(hash) != nil:
			return r.away(file)
		case strings.HasPrefix(file, filepath.Join(r.dir, filepath.FromSlash(replacedRefs))):
			replaced = append(replaced, hash)
		}
		return nil
	})
	slices.Reverse(replaced) // their names are times
	return replaced, err
}

// replaceFile writes a small file of a repository, whole or not at all.
func replaceFile(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".swage-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// mostBack is how many commits are looked at for one that can be read.
const mostBack = 100

// candidates are what the branch was, and what that was made on top of.
func (r *recovery) candidates(all *objects, was plumbing.Hash) (out []plumbing.Hash) {
	for at := was; !at.IsZero() && len(out) < mostBack; {
		out = append(out, at)
		c, err := object.GetCommit(all, at)
		if err != nil || len(c.ParentHashes) == 0 {
			break
		}
		at = c.ParentHashes[0]
	}
	return out
}

// leads says why not all is there that a commit leads to, but for the commits
// before it.
func leads(all *objects, commit plumbing.Hash) error {
	c, err := object.GetCommit(all, commit)
	if err != nil {
		return err
	}
	seen := map[plumbing.Hash]bool{}
	w := walk{all, nil, func(h plumbing.Hash) bool {
		if seen[h] {
			return false
		}
		seen[h] = true
		return true
	}}
	w.see(plumbing.TreeObject, c.TreeHash)
	if err := w.rest(); err != nil {
		return err
	}
	for h := range seen {
		if err := all.HasEncodedObject(h); err != nil {
			return fmt.Errorf("object %s: %w", h, err)
		}
	}
	return nil
}
