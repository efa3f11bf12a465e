package git

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/go-git/go-billy/v5"
	"golang.org/x/sys/unix"
)

// maxGitFile bounds what go-git reads of one file: its own are its settings and
// refs, also a million of them packed.
const maxGitFile = 64 << 20

var errNotPlain = errors.New("is no plain file")

// openPlain opens a regular file for reading. Whoever owns the repository may
// have put anything in its place, and may exchange it meanwhile: nobody waits
// for the writer of a pipe, and no device is read.
func openPlain(name string) (*os.File, error) {
	return openRegular(name, os.Stat, os.OpenFile)
}

func openRegular(name string, stat func(string) (fs.FileInfo, error), open func(string, int, fs.FileMode) (*os.File, error)) (*os.File, error) {
	info, err := stat(name)
	if err == nil && !info.Mode().IsRegular() { // to open a device may do something
		err = &fs.PathError{Op: "open", Path: name, Err: errNotPlain}
	}
	if err != nil {
		return nil, err
	}
	f, err := open(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errNotPlain}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// plainFiles is a folder of which go-git reads regular files only, of bounded
// size. No link leads out of it.
type plainFiles struct{ billy.Filesystem }

// Open follows billy.Filesystem.
func (p plainFiles) Open(name string) (billy.File, error) {
	root, err := os.OpenRoot(p.Root())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := openRegular(name, root.Stat, root.OpenFile)
	if err != nil {
		return nil, err
	}
	return &boundFile{File: f, left: maxGitFile}, nil
}

// OpenFile follows billy.Filesystem. Only what is read is held to anything.
func (p plainFiles) OpenFile(name string, flag int, mode fs.FileMode) (billy.File, error) {
	if flag == os.O_RDONLY {
		return p.Open(name)
	}
	return p.Filesystem.OpenFile(name, flag, mode)
}

// boundFile is a file that is read.
type boundFile struct {
	*os.File
	left int64
}

// Read follows io.Reader.
func (f *boundFile) Read(b []byte) (int, error) {
	if f.left <= 0 {
		return 0, &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("is too long")}
	}
	n, err := io.LimitReader(f.File, f.left).Read(b)
	f.left -= int64(n)
	return n, err
}

// Lock and Unlock follow billy.File: Git replaces its files and never changes
// one.
func (f *boundFile) Lock() error   { return nil }
func (f *boundFile) Unlock() error { return nil }
