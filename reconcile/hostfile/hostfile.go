// Package hostfile reads files of this machine whose paths somebody else
// chooses. It never waits for a writer, never reads what is not a regular
// file, and never more than it was allowed.
package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Folders are absolute paths. A file may be read when it stands below one of
// them, at any depth, and no link on its way leads out of that folder.
type Folders []string

// Covers reports whether a path lies below one of the folders, as it is
// written. It asks the file system nothing.
func (f Folders) Covers(path string) bool {
	for _, folder := range f {
		if _, ok := below(folder, path); ok {
			return true
		}
	}
	return false
}

// below is the path relative to the folder.
func below(folder, path string) (string, bool) {
	if !filepath.IsAbs(folder) || !filepath.IsAbs(path) {
		return "", false
	}
	rel, err := filepath.Rel(folder, path)
	return rel, err == nil && rel != "." && filepath.IsLocal(rel)
}

// Read returns what a file below one of the folders holds, at most limit
// bytes. Relative links are followed as long as they stay in the folder, so
// that files may be exchanged by swapping a link (as certbot and Kubernetes
// do); absolute links are refused.
//
// For a path outside of the folders the error is always the same, whether or
// not there is such a file.
func (f Folders) Read(path string, limit int64) ([]byte, error) {
	err := error(nil)
	for _, folder := range f {
		rel, ok := below(folder, path)
		if !ok {
			continue
		}
		var src []byte
		if src, err = readIn(folder, rel, limit); err == nil {
			return src, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("outside of the folders that this server's node file lists: %s", f)
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

// String lists the folders for a person.
func (f Folders) String() string {
	if len(f) == 0 {
		return "none"
	}
	return strings.Join(f, ", ")
}

func readIn(folder, rel string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("the folder %s: %w", folder, cause(err))
	}
	defer root.Close()
	return read(limit,
		func() (fs.FileInfo, error) { return root.Stat(rel) },
		func(flags int) (*os.File, error) { return root.OpenFile(rel, flags, 0) })
}

// Read returns what the regular file at path holds, at most limit bytes. It is
// for paths that the operator of this machine chose, so links are followed.
func Read(path string, limit int64) ([]byte, error) {
	src, err := read(limit,
		func() (fs.FileInfo, error) { return os.Stat(path) },
		func(flags int) (*os.File, error) { return os.OpenFile(path, flags, 0) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return src, nil
}

// read looks before it opens: opening a device may already do something. The
// file may be another one by then, so what was opened is looked at again, and
// is opened so that a pipe without a writer does not make it wait.
func read(limit int64, stat func() (fs.FileInfo, error), open func(flags int) (*os.File, error)) ([]byte, error) {
	info, err := stat()
	if err != nil {
		return nil, cause(err)
	}
	if err := plain(info, limit); err != nil {
		return nil, err
	}
	f, err := open(os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, cause(err)
	}
	if err := plain(info, limit); err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(src)) > limit { // it grew, or has no size that is told
		return nil, tooLong(limit)
	}
	return src, nil
}

func plain(info fs.FileInfo, limit int64) error {
	switch {
	case info.IsDir():
		return errors.New("is a folder, want a regular file")
	case !info.Mode().IsRegular():
		return errors.New("is no regular file")
	case info.Size() > limit:
		return tooLong(limit)
	}
	return nil
}

func tooLong(limit int64) error { return fmt.Errorf("has more than %d bytes", limit) }

// cause is an error without the path, which the caller says.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
