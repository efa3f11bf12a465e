package git

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/sys/unix"
)

// errBroken is that a file of git's is not what it should be.
var errBroken = errors.New("the repository is damaged")

// pack is a pack with its index, version 2 (gitformat-pack(5)). Both stay
// readable when git removes them; the garbage collector closes them.
type pack struct {
	name  string // of the index
	index []byte // mapped into memory
	n     int    // objects
	file  *os.File
}

// Parts of an index: a header and the fan-out, then so many bytes for each
// object in each of three tables, then 64-bit offsets and two checksums.
const (
	indexMagic = "\xfftOc\x00\x00\x00\x02"
	fanOut     = len(indexMagic)
	indexNames = fanOut + 256*4
	indexEnd   = 2 * 20
)

func openPack(index string) (*pack, error) {
	f, err := openPlain(index)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < int64(indexNames+indexEnd) {
		return nil, errBroken
	}
	p := &pack{name: index}
	if p.file, err = openPlain(strings.TrimSuffix(index, ".idx") + ".pack"); err != nil {
		return nil, err
	}
	if p.index, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	runtime.AddCleanup(p, func(b []byte) { _ = unix.Munmap(b) }, p.index)
	if string(p.index[:len(indexMagic)]) != indexMagic {
		return nil, errors.New("the index of the pack has an old format; run git index-pack on the pack")
	}
	p.n = int(binary.BigEndian.Uint32(p.index[indexNames-4:]))
	if int64(indexNames)+int64(p.n)*28+int64(indexEnd) > info.Size() {
		return nil, errBroken
	}
	return p, nil
}

// find is where an object begins.
func (p *pack) find(h plumbing.Hash) (offset int64, ok bool) {
	defer runtime.KeepAlive(p)
	low := 0
	if h[0] > 0 {
		low = int(binary.BigEndian.Uint32(p.index[fanOut+4*(int(h[0])-1):]))
	}
	high := int(binary.BigEndian.Uint32(p.index[fanOut+4*int(h[0]):]))
	if low > high || high > p.n {
		return 0, false
	}
	for low < high {
		middle := int(uint(low+high) / 2)
		switch bytes.Compare(h[:], p.hash(middle)) {
		case -1:
			high = middle
		case 1:
			low = middle + 1
		default:
			return p.offset(middle)
		}
	}
	return 0, false
}

// hash is that of the object at a place in the index.
func (p *pack) hash(i int) []byte { return p.index[indexNames+20*i:][:20] }

func (p *pack) offset(i int) (int64, bool) {
	small := binary.BigEndian.Uint32(p.index[indexNames+24*p.n+4*i:])
	if small>>31 == 0 {
		return int64(small), true
	}
	at := indexNames + 28*p.n + 8*int(small&(1<<31-1))
	if at+8+indexEnd > len(p.index) {
		return 0, false
	}
	large := binary.BigEndian.Uint64(p.index[at:])
	return int64(large), large>>62 == 0
}

// all are the hashes of the pack's objects.
func (p *pack) all(yield func(plumbing.Hash) bool) {
	defer runtime.KeepAlive(p)
	for i := range p.n {
		if !yield(plumbing.Hash(p.hash(i))) {
			return
		}
	}
}

// madeOf are the objects that deltas of the pack name as what they are made of.
func (p *pack) madeOf() (map[plumbing.Hash]bool, error) {
	defer runtime.KeepAlive(p)
	out := map[plumbing.Hash]bool{}
	for i := range p.n {
		offset, ok := p.offset(i)
		if !ok {
			return nil, errBroken
		}
		e, err := p.entry(offset)
		if err != nil {
			return nil, err
		}
		if e.kind == plumbing.REFDeltaObject {
			out[e.base] = true
		}
	}
	return out, nil
}

// packed is an object as a pack has it.
type packed struct {
	pack   *pack
	offset int64 // of its header
	data   int64 // offset of what is deflated
	kind   plumbing.ObjectType
	length int64 // of what is deflated: the object, or a delta
	size   int64 // of the object
	before int64 // offset of the base of an OFSDeltaObject
	base   plumbing.Hash
}

func (e packed) delta() bool {
	return e.kind == plumbing.OFSDeltaObject || e.kind == plumbing.REFDeltaObject
}

// entry reads the header at an offset and, of a delta, what size its result is
// said to have. The delta itself is held to that when it is used.
func (p *pack) entry(offset int64) (packed, error) {
	e := packed{pack: p, offset: offset}
	var b [64]byte
	n, err := p.file.ReadAt(b[:], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return e, err
	}
	in := bytes.NewReader(b[:n])
	first, err := in.ReadByte()
	if err != nil {
		return e, errBroken
	}
	e.kind = plumbing.ObjectType(first >> 4 & 7)
	e.length = int64(first & 15)
	if first&0x80 != 0 {
		rest, err := leb128(in)
		if err != nil || rest > 1<<50 {
			return e, errBroken
		}
		e.length |= rest << 4
	}
	switch e.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		e.size = e.length
	case plumbing.OFSDeltaObject:
		back := int64(-1)
		for more := true; more; {
			c, err := in.ReadByte()
			if err != nil || back > 1<<50 {
				return e, errBroken
			}
			back, more = (back+1)<<7|int64(c&0x7f), c&0x80 != 0
		}
		if e.before = offset - back; back <= 0 || e.before <= 0 {
			return e, errBroken
		}
	case plumbing.REFDeltaObject:
		if _, err := io.ReadFull(in, e.base[:]); err != nil {
			return e, errBroken
		}
	default:
		return e, errBroken
	}
	e.data = offset + int64(n-in.Len())
	if e.delta() {
		var head [20]byte
		i := inflaters.Get().(*inflater)
		defer inflaters.Put(i)
		z, err := i.open(io.NewSectionReader(p.file, e.data, 1<<40))
		if err != nil {
			return e, errBroken
		}
		n, err := io.ReadFull(z, head[:min(int64(len(head)), e.length)])
		if err != nil {
			return e, errBroken
		}
		in := bytes.NewReader(head[:n])
		if _, err = leb128(in); err == nil {
			e.size, err = leb128(in)
		}
		if err != nil {
			return e, errBroken
		}
	}
	return e, nil
}

// baseOf is where the base of a delta begins.
func (p *pack) baseOf(e packed) (int64, error) {
	if e.kind == plumbing.OFSDeltaObject {
		return e.before, nil
	}
	offset, ok := p.find(e.base)
	if !ok {
		return 0, errBroken // packs on disk are whole
	}
	return offset, nil
}

// leb128 reads a number of 7 bits a byte, the lowest first.
func leb128(r io.ByteReader) (n int64, err error) {
	for shift := 0; shift < 56; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if n |= int64(c&0x7f) << shift; c&0x80 == 0 {
			return n, nil
		}
	}
	return 0, errBroken
}

// inflate gives exactly as many bytes as the header says.
func (e packed) inflate() ([]byte, error) {
	return inflate(io.NewSectionReader(e.pack.file, e.data, 1<<40), e.length)
}

func inflate(r io.Reader, length int64) ([]byte, error) {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	z, err := i.open(r)
	if err != nil {
		return nil, errBroken
	}
	out := make([]byte, length)
	if _, err := io.ReadFull(z, out); err != nil {
		return nil, errBroken
	}
	var more [1]byte
	if n, err := z.Read(more[:]); n != 0 || !errors.Is(err, io.EOF) {
		return nil, errBroken
	}
	return out, nil
}

// inflater is a zlib stream that is used again.
type inflater struct {
	in *bufio.Reader
	z  io.ReadCloser
}

var inflaters = sync.Pool{New: func() any { return &inflater{in: bufio.NewReaderSize(nil, 4<<10)} }}

func (i *inflater) open(r io.Reader) (io.Reader, error) {
	i.in.Reset(r)
	if i.z == nil {
		var err error
		i.z, err = zlib.NewReader(i.in)
		return i.z, err
	}
	return i.z, i.z.(zlib.Resetter).Reset(i.in, nil)
}

// looseHeader reads what an object that is a file of its own says of itself.
func looseHeader(name string) (found, error) {
	f, err := openPlain(name)
	if err != nil {
		return found{}, err
	}
	defer f.Close()
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	z, err := i.open(f)
	if err != nil {
		return found{}, fmt.Errorf("read %s: %w", name, errBroken)
	}
	out, _, err := header(z)
	out.loose = name
	if err != nil {
		return found{}, fmt.Errorf("read %s: %w", name, err)
	}
	return out, nil
}

// header reads the header of a loose object, and what was read beyond it.
func header(z io.Reader) (found, []byte, error) {
	var b [32]byte
	n, err := io.ReadFull(z, b[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return found{}, nil, errBroken
	}
	head, rest, ok := bytes.Cut(b[:n], []byte{0})
	kind, size, spaced := strings.Cut(string(head), " ")
	if !ok || !spaced {
		return found{}, nil, errBroken
	}
	t, err := plumbing.ParseObjectType(kind)
	if err != nil || t.IsDelta() {
		return found{}, nil, errBroken
	}
	length, err := strconv.ParseInt(size, 10, 64)
	if err != nil || length < 0 {
		return found{}, nil, errBroken
	}
	return found{kind: t, size: length}, rest, nil
}

func readLoose(was found) ([]byte, error) {
	f, err := openPlain(was.loose)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	z, err := i.open(f)
	if err != nil {
		return nil, errBroken
	}
	is, rest, err := header(z)
	if err != nil || is.size != was.size || is.kind != was.kind || int64(len(rest)) > is.size {
		return nil, errBroken
	}
	out := make([]byte, is.size)
	if _, err := io.ReadFull(z, out[copy(out, rest):]); err != nil {
		return nil, errBroken
	}
	var more [1]byte
	if n, err := z.Read(more[:]); n != 0 || !errors.Is(err, io.EOF) {
		return nil, errBroken
	}
	return out, nil
}
