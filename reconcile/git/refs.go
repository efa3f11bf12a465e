package git

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// refsIn are the refs of a repository that lead to an object, by name. It passes
// over the lock files of a git at work, and over files that are broken.
func refsIn(dir string) (map[plumbing.ReferenceName]plumbing.Hash, error) {
	out := map[plumbing.ReferenceName]plumbing.Hash{}
	text, err := os.ReadFile(filepath.Join(dir, "packed-refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if hash, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && wholeHash.MatchString(hash) {
			out[plumbing.ReferenceName(name)] = plumbing.NewHash(hash)
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, "refs"), func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // it went away
			return nil
		}
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(file, ".lock") {
			return err
		}
		text, err := readSmall(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		inside, err := filepath.Rel(dir, file)
		if hash := strings.TrimSpace(text); wholeHash.MatchString(hash) {
			out[plumbing.ReferenceName(filepath.ToSlash(inside))] = plumbing.NewHash(hash)
		}
		return err
	})
	return out, err
}
