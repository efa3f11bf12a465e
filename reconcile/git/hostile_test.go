package git

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// hostilePack writes packs that no git makes. Large objects are streams, so
// that making them takes no memory.
type hostilePack struct {
	t     testing.TB
	file  *os.File
	at    int64
	count uint32
	z     *zlib.Writer
}

func newPack(t testing.TB) *hostilePack {
	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := &hostilePack{t: t, file: f}
	p.write([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00"))
	return p
}

func (p *hostilePack) write(b []byte) {
	n, err := p.file.Write(b)
	if p.at += int64(n); err != nil {
		p.t.Fatal(err)
	}
}

// raw writes an object that says it has size bytes, whatever it has.
func (p *hostilePack) raw(kind plumbing.ObjectType, size int64, link []byte, content io.Reader) (offset int64) {
	offset = p.at
	p.count++
	b := []byte{byte(kind)<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		b[len(b)-1] |= 0x80
		b = append(b, byte(size&0x7f))
	}
	p.write(append(b, link...))
	if p.z == nil {
		p.z, _ = zlib.NewWriterLevel(counting{p}, zlib.BestSpeed) // the level is one
	}
	p.z.Reset(counting{p})
	if _, err := io.Copy(p.z, content); err != nil {
		p.t.Fatal(err)
	}
	if err := p.z.Close(); err != nil {
		p.t.Fatal(err)
	}
	return offset
}

type counting struct{ p *hostilePack }

func (c counting) Write(b []byte) (int, error) { c.p.write(b); return len(b), nil }

// object writes one that is what it says, and gives its hash.
func (p *hostilePack) object(kind plumbing.ObjectType, size int64, content io.Reader) plumbing.Hash {
	h := hasher(kind, size)
	p.raw(kind, size, nil, io.TeeReader(content, h))
	return plumbing.Hash(h.Sum(nil))
}

func hasher(kind plumbing.ObjectType, size int64) hash.Hash {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	return h
}

func (p *hostilePack) small(kind plumbing.ObjectType, text string) plumbing.Hash {
	return p.object(kind, int64(len(text)), strings.NewReader(text))
}

// ofsDelta writes a delta of an object before it.
func (p *hostilePack) ofsDelta(base int64, delta []byte) int64 {
	back := p.at - base
	link := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		link = append([]byte{0x80 | byte(back&0x7f)}, link...)
	}
	return p.raw(plumbing.OFSDeltaObject, int64(len(delta)), link, bytes.NewReader(delta))
}

func (p *hostilePack) refDelta(base plumbing.Hash, delta []byte) int64 {
	return p.raw(plumbing.REFDeltaObject, int64(len(delta)), base[:], bytes.NewReader(delta))
}

// done closes the pack. A count above zero is a lie about its objects.
func (p *hostilePack) done(count uint32) *os.File {
	if count == 0 {
		count = p.count
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], count)
	if _, err := p.file.WriteAt(b[:], 8); err != nil {
		p.t.Fatal(err)
	}
	h := sha1.New()
	if _, err := io.Copy(h, io.NewSectionReader(p.file, 0, p.at)); err != nil {
		p.t.Fatal(err)
	}
	p.write(h.Sum(nil))
	return p.file
}

// tree writes a tree of entries "mode name hash".
func treeOf(entries ...treeEntry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\x00%s", e.mode, e.name, e.hash[:])
	}
	return b.String()
}

type treeEntry struct {
	mode, name string
	hash       plumbing.Hash
}

func commitOf(tree, parent plumbing.Hash, message string) string {
	return fmt.Sprintf("tree %s\nparent %s\nauthor a <a@example.com> 1700000000 +0000\ncommitter a <a@example.com> 1700000000 +0000\n\n%s", tree, parent, message)
}

// withCommit puts a commit on top of parent whose tree is the entries.
func (p *hostilePack) withCommit(parent plumbing.Hash, entries ...treeEntry) plumbing.Hash {
	tree := p.small(plumbing.TreeObject, treeOf(entries...))
	return p.small(plumbing.CommitObject, commitOf(tree, parent, "hostile"))
}

// zeros are n bytes that deflate to nothing, with a few at the end that differ.
func zeros(n int64, end string) io.Reader {
	return io.MultiReader(io.LimitReader(zero{}, n-int64(len(end))), strings.NewReader(end))
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// many is a tree of n entries for one blob, in order.
func many(n int, blob plumbing.Hash) (size int64, _ io.Reader) {
	r := &manyNames{n: n, blob: blob}
	return int64(n) * int64(len("100644 00000000\x00")+20), r
}

type manyNames struct {
	n, i int
	blob plumbing.Hash
	rest []byte
}

func (m *manyNames) Read(p []byte) (int, error) {
	for len(m.rest) < len(p) && m.i < m.n {
		m.rest = append(fmt.Appendf(m.rest, "100644 %08d\x00", m.i), m.blob[:]...)
		m.i++
	}
	if len(m.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, m.rest)
	m.rest = m.rest[:copy(m.rest, m.rest[n:])]
	return n, nil
}

func uleb(n int64) []byte {
	var b []byte
	for ; n > 0x7f; n >>= 7 {
		b = append(b, 0x80|byte(n))
	}
	return append(b, byte(n))
}

// copies is a delta that says its base has so many bytes, and copies the first
// of them again and again.
func copies(base, chunk int64, times int) []byte {
	b := append(uleb(base), uleb(chunk*int64(times))...)
	for range times {
		b = append(b, 0x80|0x70, byte(chunk), byte(chunk>>8), byte(chunk>>16))
	}
	return b
}

const plainFile, folderMode = "100644", "40000"

// hostile are packs with what they are to be answered with. Each is to become
// the branch after parent.
var hostile = []struct {
	name, says string
	local      bool // git takes it when nobody compares
	make       func(p *hostilePack, parent plumbing.Hash) (tip plumbing.Hash, count uint32)
}{
	{"a commit with a message of 200 MB", "commit", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		tree := p.small(plumbing.TreeObject, "")
		head := commitOf(tree, parent, "")
		const n = 200 << 20
		return p.object(plumbing.CommitObject, int64(len(head))+n, io.MultiReader(strings.NewReader(head), io.LimitReader(as{}, n))), 0
	}},
	{"a commit that names its parent 20,000 times", "more than 100 parents", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		head := commitOf(p.small(plumbing.TreeObject, ""), parent, "")
		line := fmt.Sprintf("parent %s\n", parent)
		return p.small(plumbing.CommitObject, strings.Replace(head, line, strings.Repeat(line, 20_000), 1)), 0
	}},
	{"a file of 150 MB", "a blob may have", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		var all []treeEntry
		for i := range 1 {
			all = append(all, treeEntry{plainFile, fmt.Sprint("f", i), p.object(plumbing.BlobObject, 150<<20, zeros(150<<20, fmt.Sprint(i)))})
		}
		return p.withCommit(parent, all...), 0
	}},
	{"1,500,000 names in one tree", "a tree may have", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		size, r := many(1_500_000, p.small(plumbing.BlobObject, "x"))
		return p.small(plumbing.CommitObject, commitOf(p.object(plumbing.TreeObject, size, r), parent, "names")), 0
	}},
	{"20,001 names in one tree", "more than 20000 names", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		size, r := many(20_001, p.small(plumbing.BlobObject, "x"))
		return p.small(plumbing.CommitObject, commitOf(p.object(plumbing.TreeObject, size, r), parent, "names")), 0
	}},
	{"one tree under 10^40 paths", "more than 20000 files or folders", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		h := p.small(plumbing.TreeObject, treeOf(treeEntry{plainFile, "a.txt", p.small(plumbing.BlobObject, "x")}))
		for range 40 {
			var all []treeEntry
			for i := range 10 {
				all = append(all, treeEntry{folderMode, fmt.Sprint("d", i), h})
			}
			h = p.small(plumbing.TreeObject, treeOf(all...))
		}
		return p.withCommit(parent, treeEntry{folderMode, "projects", h}), 0
	}},
	{"a delta whose result has 256 MiB", "a blob may have", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		const base = 1 << 20
		at := p.at
		p.object(plumbing.BlobObject, base, zeros(base, "base"))
		delta := copies(base, base-4, 256)
		p.ofsDelta(at, delta)
		size := int64(base-4) * 256
		h := hasher(plumbing.BlobObject, size)
		_, _ = io.Copy(h, zeros(size, ""))
		return p.withCommit(parent, treeEntry{plainFile, "big", plumbing.Hash(h.Sum(nil))}), 0
	}},
	{"a small file that is a delta of a large one", "is a delta of an object with", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		const base = 60 << 20
		at := p.at
		large := p.object(plumbing.BlobObject, base, zeros(base, "base"))
		p.ofsDelta(at, copies(base, 100, 1))
		h := hasher(plumbing.BlobObject, 100)
		_, _ = io.Copy(h, zeros(100, ""))
		return p.withCommit(parent, treeEntry{plainFile, "a.bin", large}, treeEntry{plainFile, "swage.cue", plumbing.Hash(h.Sum(nil))}), 0
	}},
	{"a chain of 5,000 deltas", "chains of more than", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		text := make([]byte, 8)
		at := p.at
		p.small(plumbing.BlobObject, string(text))
		for i := range 5000 {
			binary.BigEndian.PutUint64(text, uint64(i+1))
			at = p.ofsDelta(at, append([]byte{8, 8, 8}, text...))
		}
		h := hasher(plumbing.BlobObject, 8)
		h.Write(text)
		return p.withCommit(parent, treeEntry{plainFile, "a", plumbing.Hash(h.Sum(nil))}), 0
	}},
	{"folders 5,000 deep", "folder", true, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		h := p.small(plumbing.TreeObject, treeOf(treeEntry{plainFile, "a.cue", p.small(plumbing.BlobObject, "x")}))
		for range 5000 {
			h = p.small(plumbing.TreeObject, treeOf(treeEntry{folderMode, "d", h}))
		}
		return p.withCommit(parent, treeEntry{folderMode, "projects", h}), 0
	}},
	{"20,000 objects that nothing leads to", "to which its commit does not lead", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		for i := range 20_000 {
			p.small(plumbing.BlobObject, fmt.Sprint(i))
		}
		return p.withCommit(parent, treeEntry{plainFile, "a", p.small(plumbing.BlobObject, "x")}), 0
	}},
	{"300,000 objects", "it may have 250000", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		return p.withCommit(parent), 300_000
	}},
	{"four billion objects that are not there", "it may have 250000", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		return p.withCommit(parent), 1<<32 - 1
	}},
	{"an object that is longer than it says", "the pack is broken", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		p.raw(plumbing.BlobObject, 10, nil, zeros(200<<20, ""))
		return p.withCommit(parent), 0
	}},
	{"an object that is shorter than it says", "the pack is broken", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		p.raw(plumbing.BlobObject, 60<<20, nil, strings.NewReader("x"))
		return p.withCommit(parent), 0
	}},
	{"a delta of what is not there", "unresolved", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		p.refDelta(plumbing.NewHash("1234567890123456789012345678901234567890"), copies(100, 100, 1))
		return p.withCommit(parent), 0
	}},
	{"a delta of no object's beginning", "the pack is broken", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		p.small(plumbing.BlobObject, "hello")
		p.ofsDelta(13, copies(5, 5, 1))
		return p.withCommit(parent), 0
	}},
	{"a delta whose result is longer than it says", "", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		at := p.at
		p.small(plumbing.BlobObject, strings.Repeat("x", 1000))
		delta := copies(1000, 1000, 1000)
		p.ofsDelta(at, append(append(uleb(1000), 10), delta[4:]...))
		return p.withCommit(parent), 0
	}},
	{"5,000 tags of tags", "", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		h, kind := parent, "commit"
		for i := range 5000 {
			h = p.small(plumbing.TagObject, fmt.Sprintf("object %s\ntype %s\ntag t%d\ntagger a <a@example.com> 1700000000 +0000\n\nx", h, kind, i))
			kind = "tag"
		}
		return h, 0
	}},
	{"a tag with a message of 100 MB", "a tag may have", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		head := fmt.Sprintf("object %s\ntype commit\ntag t\ntagger a <a@example.com> 1700000000 +0000\n\n", parent)
		const n = 100 << 20
		return p.object(plumbing.TagObject, int64(len(head))+n, io.MultiReader(strings.NewReader(head), io.LimitReader(as{}, n))), 0
	}},
	{"a .gitmodules of 20 MB", "gitmodules", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		return p.withCommit(parent, treeEntry{plainFile, ".gitmodules", p.object(plumbing.BlobObject, 20<<20, zeros(20<<20, ""))}), 0
	}},
	{"a .gitattributes of 63 MB", "gitattributes", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		return p.withCommit(parent, treeEntry{plainFile, ".gitattributes", p.object(plumbing.BlobObject, 63<<20, io.LimitReader(as{}, 63<<20))}), 0
	}},
	{"3 files that inflate to 60 MB each", "when it is inflated", false, func(p *hostilePack, parent plumbing.Hash) (plumbing.Hash, uint32) {
		var all []treeEntry
		for i := range 3 {
			all = append(all, treeEntry{plainFile, fmt.Sprintf("f%02d", i), p.object(plumbing.BlobObject, 60<<20, zeros(60<<20, fmt.Sprint(i)))})
		}
		return p.withCommit(parent, all...), 0
	}},
}

type as struct{}

func (as) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}
