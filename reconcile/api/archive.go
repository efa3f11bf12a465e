package api

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxArchive bounds a repository that is sent for a plan, in bytes as sent.
// What it unpacks to is bounded by schema.Load, which reads it.
const maxArchive = 64 << 20

// pack writes the files of a repository as a zip archive, the format that the
// standard library reads as a file system. What hides behind a dot stays.
func pack(w io.Writer, tree fs.FS) error {
	z := zip.NewWriter(w)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." && strings.HasPrefix(path.Base(name), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !written[path.Ext(name)] {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write(src)
		}
		return err
	})
	return errors.Join(err, z.Close())
}

// written are the endings of the files that a repository is written in.
var written = map[string]bool{".cue": true, ".yaml": true, ".yml": true, ".json": true}

// unpack reads an archive into memory. A zip.Reader is an fs.FS: no name in it
// leads out of it.
func unpack(r io.Reader) (fs.FS, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("the body is not a zip archive of a repository: %w", err)
	}
	return z, nil
}
