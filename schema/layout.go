package schema

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// entry is a file of the layout.
type entry struct {
	name string
	fs.DirEntry
}

// Hashed may be implemented by the fs.DirEntry of a tree that knows a digest
// of its files' contents, as Git does: what did not change is then not even
// read again.
type Hashed interface{ Hash() string }

// list finds the files of the layout, in order. Other files are left alone: a
// repository may hold a README, scripts and CI settings.
func list(ctx context.Context, tree fs.FS, limits Limits) (files []entry, problems Problems, err error) {
	refuse := func(name, format string, args ...any) {
		problems = append(problems, Problem{Pos{File: name}, "", fmt.Sprintf(format, args...)})
	}
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("read %s: %w", name, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case name == ".":
			return nil
		}
		top, _, nested := strings.Cut(name, "/")
		if meant := folderMeant(name); meant != "" && d.IsDir() {
			refuse(name, "is not read; the folder is called %s/", meant)
			return fs.SkipDir
		}
		hidden := strings.HasPrefix(path.Base(name), ".")
		if !slices.Contains(folders, top) && (nested || d.IsDir()) || hidden {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			if strings.Count(name, "/") >= maxDepth {
				refuse(name, "folders nest deeper than %d levels", maxDepth)
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			if nested || readable(name) || slices.Contains(folders, name) {
				refuse(name, "is no plain file; symbolic links and submodules are not followed, put the files themselves here")
			}
			return nil
		}
		switch misplaced, ours := place(name); {
		case misplaced != "":
			refuse(name, "%s", misplaced)
		case ours:
			files = append(files, entry{name, d})
			if len(files) > limits.Files {
				refuse(name, "the repository has more than %d files; the limit can be raised in the node file", limits.Files)
				return fs.SkipAll
			}
		}
		return nil
	})
	return files, problems, err
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
