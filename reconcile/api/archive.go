package api

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
)

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
