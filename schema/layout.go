package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// entry is a file of the layout, with its size.
type entry struct {
	name string
	fs.DirEntry
	size int64
}

// digest is that of the file's content, if the tree knows one.
func (e entry) digest() string {
	if h, ok := e.DirEntry.(Hashed); ok {
		return h.Hash()
	}
	return ""
}

// Hashed may be implemented by the fs.DirEntry of a tree that knows a digest
// of its files' contents, as Git does: what did not change is then not even
// read again.
type Hashed interface{ Hash() string }

// list finds the files of the layout, in order. Other files are left alone: a
// repository may hold a README, scripts and CI settings. Names and bytes are
// counted as they are met, before any file is read: past a limit of the whole
// repository its error is Problems.
func list(ctx context.Context, tree fs.FS, known map[string]*unit, limits Limits) ([]entry, Problems, error) {
	l := &lister{ctx: ctx, tree: tree, known: known, limits: limits}
	err := l.folder(".")
	return l.files, l.problems, err
}

type lister struct {
	ctx    context.Context
	tree   fs.FS
	known  map[string]*unit
	limits Limits

	seen     int // files and folders
	bytes    int64
	files    []entry
	problems Problems
}

func (l *lister) refuse(name, format string, args ...any) {
	if len(l.problems) <= maxTold {
		l.problems = append(l.problems, tell(Pos{File: name}, "", format, args...))
	}
}

// folder goes through a folder and those below it.
func (l *lister) folder(dir string) error {
	entries, err := l.entries(dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, d.Name())
		top, _, nested := strings.Cut(name, "/")
		ours := slices.Contains(folders, top)
		switch meant := folderMeant(name); {
		case meant != "" && d.IsDir():
			l.refuse(name, "is not read; the folder is called %s/", meant)
		case !ours && (nested || d.IsDir()) || strings.HasPrefix(d.Name(), "."):
		case d.IsDir() && strings.Count(name, "/") >= maxDepth:
			l.refuse(name, "folders nest deeper than %d levels", maxDepth)
		case d.IsDir():
			if err := l.folder(name); err != nil {
				return err
			}
		case !d.Type().IsRegular():
			if nested || ours || readable(name) {
				l.refuse(name, "is no plain file; symbolic links and submodules are not followed, put the files themselves here")
			}
		default:
			if err := l.file(name, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries reads the names of a folder a few at a time.
func (l *lister) entries(dir string) ([]fs.DirEntry, error) {
	f, err := l.tree.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	defer f.Close()
	var all []fs.DirEntry
	folder, ok := f.(fs.ReadDirFile)
	if !ok { // a file system that lists in its own way
		if all, err = fs.ReadDir(l.tree, dir); err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
		return all, l.count(dir, len(all))
	}
	for {
		some, err := folder.ReadDir(512)
		all = append(all, some...)
		if err := l.count(dir, len(some)); err != nil {
			return nil, err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", dir, err)
		}
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (l *lister) count(dir string, names int) error {
	if l.seen += names; l.seen > l.limits.Files {
		return Problems{tell(Pos{File: dir}, "", "the repository has more than %d files and folders; the limit can be raised in the node file", l.limits.Files)}
	}
	return l.ctx.Err()
}

func (l *lister) file(name string, d fs.DirEntry) error {
	misplaced, ours := place(name)
	if (misplaced != "" || ours) && !printable(name) {
		l.refuse(name, "has a character in its name that cannot be printed; rename the file or its folder")
		return nil
	}
	if misplaced != "" {
		l.refuse(name, "%s", misplaced)
	}
	if misplaced != "" || !ours {
		return nil
	}
	e := entry{name: name, DirEntry: d}
	if u := l.known[name]; u != nil && e.digest() != "" && u.hash == e.digest() {
		e.size = u.size
	} else {
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		e.size = info.Size()
	}
	l.files = append(l.files, e)
	if e.size > l.limits.FileBytes {
		return nil // it is refused without being read
	}
	if l.bytes += e.size; l.bytes > l.limits.TreeBytes {
		return Problems{tell(Pos{File: name}, "", "the repository has more than %d bytes; the limit can be raised in the node file", l.limits.TreeBytes)}
	}
	return nil
}

// folders are those at the root that are read.
var folders = []string{"projects", "servers", "lib", "cue.mod"}

// folderMeant is the folder of the layout that a folder at the root looks like
// and is not.
func folderMeant(name string) string {
	for _, f := range folders {
		if name != f && (strings.EqualFold(name, f) || strings.EqualFold(name+"s", f) || strings.EqualFold(name, f+"s")) {
			return f
		}
	}
	return ""
}

func readable(name string) bool {
	switch path.Ext(name) {
	case ".cue", ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// place tells whether a file belongs to the layout, and what is wrong with
// one that looks as if it should and yet would be passed over.
func place(name string) (misplaced string, ours bool) {
	dir, rest, nested := strings.Cut(name, "/")
	lower := strings.ToLower(path.Ext(name))
	capitals := lower != path.Ext(name) && readable("x"+lower)
	switch fleet := !nested && strings.EqualFold(stem(name), "swage") && readable("x"+lower); {
	case fleet && name != "swage"+lower:
		return "is not read; the file of the fleet is called swage" + lower, false
	case capitals && (nested || lower == ".cue"):
		return "is not read; write its extension in lower case, as " + stem(name) + lower, false
	}
	if !readable(name) {
		return "", false
	}
	deeper := strings.Contains(rest, "/")
	switch {
	case !nested && stem(name) != "swage" && path.Ext(name) == ".cue":
		return "is not read: at the root there is only swage.cue; containers are declared in projects/<project>/, what files share in lib/", false
	case !nested:
		return "", stem(name) == "swage"
	case dir == "servers" && deeper:
		return "is not read: servers are declared in servers/<server>.cue, without sub-folders", false
	case dir == "projects" && !deeper:
		return fmt.Sprintf("belongs to no project: move it to projects/%s/%s", stem(rest), rest), false
	case dir == "cue.mod":
		return "", rest == "module.cue"
	case dir == "lib" && path.Ext(name) != ".cue":
		return "is not read: lib/ holds packages of CUE, in .cue files", false
	}
	return "", true
}

// stem is the name of a file without its folder and extension.
func stem(name string) string {
	return strings.TrimSuffix(path.Base(name), path.Ext(name))
}
