package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"golang.org/x/sys/unix"
)

// rlimits bound a process of the stock git, and those that it starts
// (setrlimit(2)). There is no bound on the number of processes: that one counts
// all processes of a user, and none of root's.
type rlimits struct {
	data uint64 // bytes of memory of its own; packs that it maps do not count
	cpu  uint64 // seconds
	file uint64 // bytes of each file that it writes
}

// set holds a process to them. Limits that are closer already stay.
func (l rlimits) set(pid int) error {
	for _, r := range []struct {
		resource int
		most     uint64
	}{
		{unix.RLIMIT_DATA, l.data}, {unix.RLIMIT_CPU, l.cpu}, {unix.RLIMIT_FSIZE, l.file}, {unix.RLIMIT_CORE, 0},
	} {
		var old unix.Rlimit
		err := unix.Prlimit(pid, r.resource, nil, &old)
		if err == nil {
			most := min(r.most, old.Max)
			err = unix.Prlimit(pid, r.resource, &unix.Rlimit{Cur: most, Max: most}, nil)
		}
		switch {
		case errors.Is(err, unix.ESRCH): // it has ended
			return nil
		case err != nil:
			return fmt.Errorf("limit the resources of git: %w", err)
		}
	}
	return nil
}

// packLimits bound a pack that somebody sends. They are compared while it comes
// in, with what each object says of itself, so before git has the whole of it.
type packLimits struct {
	objects  int
	tree     int64 // bytes of each, as for those that follow
	blob     int64
	inflated int64 // of all objects and deltas
	results  int64 // of all objects, once deltas are applied
}

var (
	pushLimits   = packLimits{objects: 250_000, tree: maxTree, blob: maxBlob, inflated: 1 << 30, results: 4 << 30}
	mirrorLimits = packLimits{objects: 2_000_000, tree: 16 << 20, blob: 1 << 30, inflated: 8 << 30, results: 32 << 30}
)

// bounded ends with an error, not as if all of it had come, after so many
// bytes.
func bounded(r io.Reader, most int64) io.Reader { return &boundedReader{r, most, most} }

type boundedReader struct {
	r          io.Reader
	left, most int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if int64(n) > b.left {
		return int(b.left), fmt.Errorf("it has more than %d bytes", b.most)
	}
	b.left -= int64(n)
	return n, err
}

// errBrokenPack is that a pack is not what its header says.
var errBrokenPack = errors.New("the pack is broken")

// check reads a pack to its end. It holds 11 bytes for each object.
func (l packLimits) check(r io.Reader) error {
	s := packfile.NewScanner(r)
	_, count, err := s.Header()
	switch {
	case errors.Is(err, packfile.ErrEmptyPackfile):
		return nil // of an update that needs none
	case err != nil:
		return brokenOr(err)
	case int64(count) > int64(l.objects):
		return fmt.Errorf("the pack has %d objects; it may have %d", count, l.objects)
	}
	var offsets []int64 // of the objects so far
	var kinds []plumbing.ObjectType
	var depths []uint16
	var inflated, results int64
	for range count {
		h, err := s.NextObjectHeader()
		if err != nil {
			return brokenOr(err)
		}
		kind, size, depth := h.Type, h.Length, uint16(0)
		head := &beginning{}
		if kind.IsDelta() {
			kind, depth = plumbing.InvalidObject, 1
			if h.Type == plumbing.OFSDeltaObject {
				i, ok := slices.BinarySearch(offsets, h.OffsetReference)
				if !ok {
					return errBrokenPack
				}
				kind, depth = kinds[i], depths[i]+1
			}
			if depth > maxChain {
				return fmt.Errorf("the pack has chains of more than %d deltas", maxChain)
			}
			size = min(h.Length, l.blob) // until its result is known
			if h.Length > l.blob {
				return &tooLarge{plumbing.BlobObject, where(h), h.Length, l.blob}
			}
		} else if err := l.fits(kind, size, h); err != nil {
			return err
		}
		if inflated += h.Length; inflated > l.inflated {
			return fmt.Errorf("the pack has more than %d MiB when it is inflated", l.inflated>>20)
		}
		text := &commitHead{}
		n, _, err := s.NextObject(io.MultiWriter(head, text))
		if err != nil || n != h.Length {
			return brokenOr(err)
		}
		if kind == plumbing.CommitObject && !h.Type.IsDelta() && manyParents(text.b) { // of a delta once it is applied
			return fmt.Errorf("a commit %s has more than %d parents", where(h), maxParents)
		}
		if h.Type.IsDelta() {
			if size, err = head.result(); err != nil {
				return errBrokenPack
			}
			if err := l.fits(kind, size, h); err != nil {
				return err
			}
		}
		if results += size; results > l.results {
			return fmt.Errorf("the objects of the pack have more than %d MiB together", l.results>>20)
		}
		offsets, kinds, depths = append(offsets, h.Offset), append(kinds, kind), append(depths, depth)
	}
	if _, err := s.Checksum(); err != nil {
		return brokenOr(err)
	}
	return nil
}

func where(h *packfile.ObjectHeader) string { return fmt.Sprintf("at byte %d of the pack", h.Offset) }

// fits says why an object is too large. The kind of a delta may be unknown.
func (l packLimits) fits(kind plumbing.ObjectType, size int64, h *packfile.ObjectHeader) error {
	most := int64(maxCommit)
	switch kind {
	case plumbing.TreeObject:
		most = l.tree
	case plumbing.BlobObject:
		most = l.blob
	case plumbing.InvalidObject:
		kind, most = plumbing.BlobObject, l.blob
	case plumbing.CommitObject, plumbing.TagObject:
	default:
		return errBrokenPack
	}
	if size > most || size < 0 {
		return &tooLarge{kind, where(h), size, most}
	}
	return nil
}

// brokenOr keeps errors of the connection, and calls all else a broken pack.
func brokenOr(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, packfile.ErrMalformedPackFile) {
		return errBrokenPack
	}
	return fmt.Errorf("%w: %w", errBrokenPack, err)
}

// beginning keeps the first bytes that are written to it: of a delta they are
// the sizes of what it applies to and of its result.
type beginning struct {
	b [20]byte
	n int
}

func (b *beginning) Write(p []byte) (int, error) {
	b.n += copy(b.b[b.n:], p)
	return len(p), nil
}

// commitHead keeps as much of a commit as tells whether it has too many parents.
type commitHead struct{ b []byte }

func (c *commitHead) Write(p []byte) (int, error) {
	c.b = append(c.b, p[:min(len(p), maxParents*64-len(c.b))]...)
	return len(p), nil
}

// manyParents reports whether a commit has more parents than one may have.
func manyParents(commit []byte) bool {
	head, _, _ := bytes.Cut(commit, []byte("\n\n"))
	return bytes.Count(head, []byte("\nparent ")) > maxParents
}

func (b *beginning) result() (int64, error) {
	in := bytes.NewReader(b.b[:b.n])
	if _, err := leb128(in); err != nil {
		return 0, err
	}
	return leb128(in)
}

// Bounds on what comes before the pack of a push. Its hook takes one update.
const (
	mostUpdates = 16   // of branches, and of push options
	mostTags    = 1000 // and other refs: none is taken, and git push --follow-tags names all of them each time
	mostLines   = 4096 // of a section; those of a shallow clone name where it ends
	longestRef  = 255  // bytes
)

// checkPush reads what a client sends to git-receive-pack (gitprotocol-pack(5))
// to its end, and says why it is refused.
func checkPush(r io.Reader) error {
	updates, others, options, atomic := 0, 0, false, false
	for i := 0; ; i++ {
		text, err := packet(r)
		switch {
		case errors.Is(err, io.EOF) && i == 0:
			return nil // somebody only looked
		case err != nil:
			return errNoPush
		case i > mostLines:
			return errors.New("the push has too many lines before its pack")
		}
		if text == nil {
			break
		}
		command, capabilities, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), "\x00")
		options = options || slices.Contains(strings.Fields(capabilities), "push-options")
		atomic = atomic || slices.Contains(strings.Fields(capabilities), "atomic")
		if strings.HasPrefix(command, "shallow ") {
			continue
		}
		u, err := parseUpdate(command)
		switch {
		case err == nil && !u.OfBranch():
			if others++; others > mostTags {
				return fmt.Errorf("the push names more than %d tags or other refs, and only a branch is taken; push it alone (git push --no-follow-tags)", mostTags)
			}
		default:
			if updates++; updates > mostUpdates {
				return fmt.Errorf("the push changes more than %d refs; push one branch at a time", mostUpdates)
			}
		}
		if err == nil && len(u.Ref) > longestRef {
			return fmt.Errorf("the name of a ref has %d bytes; it may have %d", len(u.Ref), longestRef)
		}
	}
	if atomic && updates > 0 && others > 0 {
		return errors.New("the push is atomic and has tags, of which none is taken; push the branch alone (git push --no-follow-tags)")
	}
	for i := 0; options; i++ {
		text, err := packet(r)
		if err != nil {
			return errNoPush
		}
		if i > mostUpdates {
			return errors.New("the push has too many options")
		}
		options = text != nil
	}
	return pushLimits.check(r)
}

var errNoPush = errors.New("this is no push of git, or it broke off")
