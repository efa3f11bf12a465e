package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
)

const (
	manyPacks = 50
	// mostReplaced bounds the tips that force-pushes replaced and that stay
	// readable: what is kept running may be declared by one of them.
	mostReplaced = 20
	replacedRefs = "refs/swage/replaced/"
	farthestHave = 64
)

// mirror is a bare repository that holds one branch of another.
type mirror struct {
	dir    string
	branch string
}

// makeMirror begins an empty one in the place of whatever is there.
func makeMirror(dir, branch, origin string) (mirror, error) {
	m := mirror{dir, branch}
	if err := os.RemoveAll(dir); err != nil {
		return m, err
	}
	if err := closed(dir); err != nil {
		return m, err
	}
	repo, err := gogit.PlainInit(dir, true)
	if err != nil {
		return m, fmt.Errorf("make a mirror in %s: %w", dir, err)
	}
	_, err = repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{origin}})
	return m, err
}

// of reports whether it is a mirror of that repository.
func (m mirror) of(origin string) bool {
	repo, err := m.open()
	if err != nil {
		return false
	}
	r, err := repo.Remote("origin")
	return err == nil && slices.Equal(r.Config().URLs, []string{origin})
}

func (m mirror) ref() plumbing.ReferenceName { return plumbing.NewBranchReferenceName(m.branch) }

func (m mirror) open() (*gogit.Repository, error) {
	repo, _, err := open(m.dir, 0)
	return repo, err
}

// tip is the commit that the mirror has; zero if it has none.
func (m mirror) tip() (plumbing.Hash, error) {
	repo, err := m.open()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	ref, err := repo.Reference(m.ref(), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, err
	}
	_, err = repo.CommitObject(ref.Hash())
	return ref.Hash(), err
}

// haves are commits that the mirror has whole: its tip and those that it came
// from, each twice as far back as the one before, so that a server that has
// thrown the newest ones away still finds one that it knows. To go back farther
// would cost every fetch what all sent anew costs once.
func (m mirror) haves() []plumbing.Hash {
	repo, err := m.open()
	if err != nil {
		return nil
	}
	ref, err := repo.Reference(m.ref(), true)
	if err != nil {
		return nil
	}
	var out []plumbing.Hash
	at := ref.Hash()
	for i, next := 0, 0; i <= farthestHave; i++ {
		c, err := repo.CommitObject(at)
		if err != nil {
			break
		}
		if i == next {
			out = append(out, at)
			next = max(1, 2*i)
		}
		if len(c.ParentHashes) == 0 {
			break
		}
		at = c.ParentHashes[0]
	}
	return out
}

// receive takes a pack, of at most max bytes, and moves the branch to tip when
// all that leads to it is there.
func (m mirror) receive(ctx context.Context, tip plumbing.Hash, max int64, pack func(io.Writer) error) error {
	defer m.sweep()
	if max <= 0 {
		return errTooLarge
	}
	refused := make(chan error, 1)
	_, err := stock(ctx, m.dir, func(to io.Writer) error {
		// What is compared goes to git at the same time, which has limits of
		// its own.
		in, checked := io.Pipe()
		go func() {
			err := mirrorLimits.check(in)
			if err == nil {
				_, err = io.Copy(io.Discard, in)
			}
			in.CloseWithError(err)
			refused <- err
		}()
		err := pack(io.MultiWriter(checked, to))
		checked.CloseWithError(err)
		if e := <-refused; e != nil && err == nil {
			err = e
		}
		return err
	}, "index-pack", "--stdin", "--fix-thin", fmt.Sprintf("--max-input-size=%d", max))
	if err != nil {
		if e, ok := errors.AsType[*stockError](err); ok && strings.Contains(e.said, "maximum allowed size") {
			return errTooLarge
		}
		return err
	}
	if _, err := stock(ctx, m.dir, nil, "rev-list", "--objects", "--quiet", tip.String(), "--not", "--all"); err != nil {
		return fmt.Errorf("the pack does not hold all of commit %s: %w", tip, err)
	}
	return m.move(ctx, tip)
}

// errTooLarge is that a repository does not fit into its mirror.
var errTooLarge = errors.New("the repository is larger than what is mirrored")

// move sets the branch, and keeps what a force-push replaces.
func (m mirror) move(ctx context.Context, tip plumbing.Hash) error {
	repo, err := m.open()
	if err != nil {
		return err
	}
	if old, err := repo.Reference(m.ref(), true); err == nil {
		if err := m.keep(ctx, old.Hash(), tip); err != nil {
			return err
		}
	}
	return repo.Storer.SetReference(plumbing.NewHashReference(m.ref(), tip))
}

// keep gives a tip a name of its own when the one that takes its place does not
// lead to it.
func (m mirror) keep(ctx context.Context, old, tip plumbing.Hash) error {
	repo, err := m.open()
	if err != nil || old == tip || follows(repo, tip, old) {
		return err
	}
	if _, err := stock(ctx, m.dir, nil, "merge-base", "--is-ancestor", old.String(), tip.String()); err == nil {
		return nil
	}
	name := fmt.Sprintf("%s%020d", replacedRefs, time.Now().UnixNano())
	if err := repo.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), old)); err != nil {
		return err
	}
	return m.forget(repo)
}

// follows reports whether a commit is right on top of another.
func follows(repo *gogit.Repository, tip, old plumbing.Hash) bool {
	c, err := repo.CommitObject(tip)
	return err == nil && slices.Contains(c.ParentHashes, old)
}

// forget drops the oldest of the tips that were replaced.
func (m mirror) forget(repo *gogit.Repository) error {
	refs, err := refsIn(m.dir)
	if err != nil {
		return err
	}
	var names []string
	for name := range refs {
		if strings.HasPrefix(string(name), replacedRefs) {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	for len(names) > mostReplaced && err == nil {
		err = repo.Storer.RemoveReference(plumbing.ReferenceName(names[0]))
		names = names[1:]
	}
	return err
}

// packs are the names of its packs, without their endings.
func (m mirror) packs() []string {
	files, _ := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "pack-*.pack"))
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, ".pack")
	}
	return files
}

// repack makes many packs one, and names those that it makes superfluous. They
// stay for who reads them.
func (m mirror) repack(ctx context.Context) (superfluous []string, err error) {
	before := m.packs()
	if _, err := stock(ctx, m.dir, nil, "repack", "-a", "-q"); err != nil {
		return nil, err
	}
	for _, p := range m.packs() {
		if !slices.Contains(before, p) {
			return before, nil
		}
	}
	return nil, nil // one of them was all of it
}

// sweep removes what a git that died left.
func (m mirror) sweep() {
	files, _ := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "tmp_*"))
	more, _ := filepath.Glob(filepath.Join(m.dir, "objects", "pack", ".tmp-*"))
	for _, f := range append(files, more...) {
		os.Remove(f)
	}
}

// size is what its files take, in bytes.
func (m mirror) size() int64 {
	var n int64
	_ = filepath.WalkDir(m.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
