package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// hostileBody is a request for a plan whose archive tries to take more than
// its limits.
type hostileBody struct {
	name   string
	body   func() io.Reader
	status int // 0: the client goes, or any that is no success
	want   string
	quick  bool
}

func hostileBodies() []hostileBody {
	archive := func(fill func(*zip.Writer)) func() io.Reader {
		return func() io.Reader {
			var b bytes.Buffer
			z := zip.NewWriter(&b)
			fill(z)
			z.Close()
			return &b
		}
	}
	names := func(n int, name func(i int) string) func() io.Reader {
		return archive(func(z *zip.Writer) {
			for i := range n {
				z.CreateHeader(&zip.FileHeader{Name: name(i)})
			}
		})
	}
	// raw is an entry with sizes of its own.
	raw := func(z *zip.Writer, name string, method uint16, size uint64, data []byte) {
		w, err := z.CreateRaw(&zip.FileHeader{Name: name, Method: method, CompressedSize64: uint64(len(data)), UncompressedSize64: size, CRC32: crc32.ChecksumIEEE(nil)})
		if err == nil {
			w.Write(data)
		}
	}
	return []hostileBody{
		{"nothing", func() io.Reader { return strings.NewReader("") }, 400, "not a zip archive", true},
		{"no archive", func() io.Reader { return strings.NewReader(strings.Repeat("x", mib)) }, 400, "not a zip archive", false},
		{"64 MiB of zeros", func() io.Reader { return io.LimitReader(zeros{}, 64*mib) }, 400, "not a zip archive", false},
		{"more than the limit", func() io.Reader { return io.LimitReader(zeros{}, 80*mib) }, 413, "more than 67108864 bytes", true},
		{"a bomb", archive(func(z *zip.Writer) {
			w, _ := z.Create("projects/web/a.cue")
			io.Copy(w, io.LimitReader(zeros{}, 512*mib))
		}), 422, "a file may have 1048576", true},
		{"a bomb that says it is small", archive(func(z *zip.Writer) {
			packed := deflated(io.LimitReader(zeros{}, 256*mib))
			for i := range 60 {
				raw(z, fmt.Sprintf("projects/web/f%d.cue", i), zip.Deflate, 10, packed)
			}
		}), 422, "not a valid zip file", true},
		{"many bombs below the limit", archive(func(z *zip.Writer) {
			packed := deflated(io.LimitReader(zeros{}, mib-1))
			for i := range 15000 {
				raw(z, fmt.Sprintf("projects/web/f%d.cue", i), zip.Deflate, mib-1, packed)
			}
		}), 422, "more than 67108864 bytes", true},
		{"a million names", names(1000000, func(i int) string { return fmt.Sprintf("p/%d", i) }), 0, "too many files|the archive has more than", false},
		{"100,000 names", names(100000, func(i int) string { return fmt.Sprint(i) }), 400, "too many files", true},
		{"long names", names(40, func(i int) string { return fmt.Sprint(i) + strings.Repeat("/a", 30000) }), 400, "a name may have 1024", true},
		{"many folders", names(10000, func(i int) string { return fmt.Sprint(i) + strings.Repeat("/a", 100) }), 400, "too many files", false},
		{"two files of one name", names(2, func(int) string { return "swage.cue" }), 400, "two files", true},
		{"a name above the archive", names(1, func(int) string { return "../swage.cue" }), 400, "no path inside of it", true},
		{"an absolute name", names(1, func(int) string { return "/etc/swage.cue" }), 400, "no path inside of it", false},
		{"a name with backslashes", names(1, func(int) string { return `..\swage.cue` }), 400, "no path inside of it", false},
		{"a name that is a folder of another", names(2, func(i int) string { return "projects/web" + strings.Repeat("/a.cue", i) }), 0, "", false},
		{"an unknown method", archive(func(z *zip.Writer) { raw(z, "swage.cue", 99, 10, []byte("0123456789")) }), 422, "unsupported compression", false},
		{"entries in one place", func() io.Reader { return overlapping(15000) }, 0, "", false},
		{"a directory that ends nowhere", func() io.Reader { return bytes.NewReader(endOfDirectory(65535, 1<<31, 0)) }, 400, "not a zip archive", false},
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func deflated(r io.Reader) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression)
	io.Copy(w, r)
	w.Close()
	return b.Bytes()
}

// overlapping is an archive whose n entries are the same bytes.
func overlapping(n int) io.Reader {
	data := deflated(io.LimitReader(zeros{}, mib-1))
	var b bytes.Buffer
	head := func(signature uint32, name string, central bool) {
		le := binary.LittleEndian
		h := le.AppendUint32(nil, signature)
		if central {
			h = le.AppendUint16(h, 20)
		}
		h = le.AppendUint16(h, 20)
		h = le.AppendUint16(h, 0)
		h = le.AppendUint16(h, zip.Deflate)
		h = le.AppendUint32(h, 0)
		h = le.AppendUint32(h, 0)
		h = le.AppendUint32(h, uint32(len(data)))
		h = le.AppendUint32(h, 1000)
		h = le.AppendUint16(h, uint16(len(name)))
		h = le.AppendUint16(h, 0)
		if central {
			h = append(h, make([]byte, 14)...)
		}
		b.Write(append(h, name...))
	}
	head(0x04034b50, "x", false)
	b.Write(data)
	start := b.Len()
	for i := range n {
		head(0x02014b50, fmt.Sprintf("projects/web/f%d.cue", i), true)
	}
	b.Write(endOfDirectory(n, b.Len()-start, start))
	return &b
}

func endOfDirectory(n, size, start int) []byte {
	le := binary.LittleEndian
	h := le.AppendUint32(nil, 0x06054b50)
	h = le.AppendUint32(h, 0)
	h = le.AppendUint16(h, uint16(n))
	h = le.AppendUint16(h, uint16(n))
	h = le.AppendUint32(h, uint32(size))
	h = le.AppendUint32(h, uint32(start))
	return le.AppendUint16(h, 0)
}
