package git

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A git that is killed leaves its lock files, and every git after it refuses to
// change what they lock. Git holds one for milliseconds, with the file open.

// staleAfter is how old a lock is that no git holds any more.
const staleAfter = 10 * time.Second

// unlock removes the lock files of a repository that nobody holds, and names
// them. idle says that those of a repository in which no git works are stale
// whatever their age.
func unlock(dir string, idle bool) (removed []string, err error) {
	var locks []string
	for _, name := range []string{"", "refs", "info", "objects/info", "objects/info/commit-graphs", "worktrees"} {
		err := filepath.WalkDir(filepath.Join(dir, name), func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil: // it went away
				return nil
			case d.IsDir() && name == "" && file != dir:
				return fs.SkipDir
			case d.Type().IsRegular() && strings.HasSuffix(file, ".lock"):
				locks = append(locks, file)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(locks) == 0 {
		return nil, nil
	}
	gits := running()
	for _, file := range locks {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		age := time.Since(info.ModTime()).Abs() // of a clock that was wrong, too
		if gits.hold(file) || age < staleAfter && !(idle && !gits.workIn(dir)) {
			continue
		}
		if err := os.Remove(file); err != nil {
			return removed, fmt.Errorf("remove the stale lock %s: %w", file, err)
		}
		removed = append(removed, file)
	}
	return removed, nil
}

// gits are the processes of git on this machine.
type gits []string // their folders in /proc

func running() gits {
	all, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	var out gits
	for _, p := range all {
		if pid, err := strconv.Atoi(filepath.Base(p)); err != nil || pid == os.Getpid() {
			continue
		}
		if name, err := readSmall(filepath.Join(p, "comm")); err == nil && strings.HasPrefix(name, "git") {
			out = append(out, p)
		}
	}
	return out
}

// hold reports whether one of them has a file open.
func (g gits) hold(file string) bool {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	for _, p := range g {
		open, _ := filepath.Glob(filepath.Join(p, "fd", "*"))
		for _, fd := range open {
			if to, err := os.Readlink(fd); err == nil && to == real {
				return true
			}
		}
	}
	return false
}

// workIn reports whether one of them is in a repository, or was told of it.
func (g gits) workIn(dir string) bool {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	for _, p := range g {
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if cwd == real || strings.HasPrefix(cwd, real+string(filepath.Separator)) {
			return true
		}
		for _, of := range []string{"cmdline", "environ"} {
			text, _ := readSmall(filepath.Join(p, of))
			if strings.Contains(text, real) || strings.Contains(text, dir) {
				return true
			}
		}
	}
	return false
}
