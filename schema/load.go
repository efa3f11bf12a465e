// Package schema defines the shape of a fleet repository in CUE and reads one
// into Go types. It is the only place that knows CUE.
package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
)

//go:embed *.cue
var definitions embed.FS

// Bounds on what a repository may hold, against mistakes and hostile input.
const (
	maxFileBytes = 1 << 20
	maxTreeBytes = 64 << 20
	maxFiles     = 20000
	maxDepth     = 100
)

// Load reads the fleet repository at tree: whole, or an error. The error of a
// repository that can be read is Problems, with every problem in it.
func Load(ctx context.Context, tree fs.FS) (*Fleet, error) {
	files, problems, err := list(ctx, tree)
	if err != nil {
		return nil, err
	}
	l, err := newLoader()
	if err != nil {
		return nil, err
	}
	l.problems = problems
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		l.file(name, src)
	}
	fleet := l.fleet()
	if len(l.problems) > 0 {
		return nil, l.problems.sorted()
	}
	return fleet, nil
}

// list finds the files of the layout, in order. Other files are left alone:
// a repository may hold a README, scripts and CI settings.
func list(ctx context.Context, tree fs.FS) (files []string, problems Problems, err error) {
	var bytes int64
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() {
			hidden := name != "." && strings.HasPrefix(path.Base(name), ".")
			if hidden || strings.Count(name, "/") > maxDepth {
				return fs.SkipDir
			}
			return nil
		}
		if !inLayout(name) {
			return nil
		}
		if !d.Type().IsRegular() {
			problems = append(problems, Problem{Pos: Pos{File: name}, Message: "is not a plain file; symbolic links and submodules are not followed"})
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if info.Size() > maxFileBytes {
			problems = append(problems, Problem{Pos: Pos{File: name}, Message: fmt.Sprintf("has %d bytes; a file may have %d", info.Size(), maxFileBytes)})
			return nil
		}
		bytes += info.Size()
		files = append(files, name)
		if bytes > maxTreeBytes || len(files) > maxFiles {
			return fmt.Errorf("the repository has more than %d files or %d bytes of them", maxFiles, maxTreeBytes)
		}
		return nil
	})
	return files, problems, err
}

func inLayout(name string) bool {
	if path.Ext(name) != ".cue" {
		return false
	}
	dir, rest, nested := strings.Cut(name, "/")
	switch {
	case !nested:
		return name == "swage.cue"
	case dir == "servers":
		return !strings.Contains(rest, "/")
	default:
		return dir == "projects" && strings.Contains(rest, "/")
	}
}

// loader gathers what the files declare. It lives for one Load: a CUE context
// that is kept grows without bound.
type loader struct {
	cue      *cue.Context
	schema   cue.Value
	problems Problems

	swage       *rawSwage
	servers     map[string]rawServer
	projects    map[string]*rawProject
	declared    map[string]Pos // every object, to refuse a second declaration
	definitions map[string]cue.Value

	// unread: some file could not be taken, so what is missing from the
	// others may be in it and is not reported.
	unread bool
}

func newLoader() (*loader, error) {
	ctx := cuecontext.New()
	v, err := compileSchema(ctx)
	if err != nil {
		return nil, err
	}
	return &loader{
		cue: ctx, schema: v,
		servers:     map[string]rawServer{},
		projects:    map[string]*rawProject{},
		declared:    map[string]Pos{},
		definitions: map[string]cue.Value{},
	}, nil
}

// compileSchema joins the embedded files into one value.
func compileSchema(ctx *cue.Context) (cue.Value, error) {
	var files []*ast.File
	names, err := fs.Glob(definitions, "*.cue")
	if err != nil {
		return cue.Value{}, err
	}
	for _, name := range names {
		src, err := definitions.ReadFile(name)
		if err != nil {
			return cue.Value{}, err
		}
		f, err := parser.ParseFile(name, src, parser.ParseComments)
		if err != nil {
			return cue.Value{}, fmt.Errorf("schema: %w", err)
		}
		files = append(files, f)
	}
	inst := build.NewContext().NewInstance("", nil)
	for _, f := range files {
		if err := inst.AddSyntax(f); err != nil {
			return cue.Value{}, fmt.Errorf("schema: %w", err)
		}
	}
	v := ctx.BuildInstance(inst)
	return v, v.Err()
}

func (l *loader) add(pos Pos, path, format string, args ...any) {
	l.problems = append(l.problems, Problem{pos, path, fmt.Sprintf(format, args...)})
}

// file evaluates one file by itself and takes what it declares.
func (l *loader) file(name string, src []byte) {
	v, ok := l.evaluate(name, src)
	if !ok {
		l.unread = true
		return
	}
	switch dir, rest, _ := strings.Cut(name, "/"); dir {
	case "swage.cue":
		l.swage = new(rawSwage)
		l.check(name, v, "#Swage", "", l.swage)
	case "servers":
		server := strings.TrimSuffix(rest, ".cue")
		var raw rawServer
		if l.key(Pos{File: name}, "", server, "#Label") {
			l.check(name, v, "#Server", "", &raw)
			l.servers[server] = raw
		}
	case "projects":
		project, _, _ := strings.Cut(rest, "/")
		if l.key(Pos{File: name}, "", project, "#ProjectName") {
			l.projectFile(name, project, v)
		}
	}
}

// evaluate reports what CUE itself finds wrong; its positions are the
// author's, since no schema is in play yet.
func (l *loader) evaluate(name string, src []byte) (cue.Value, bool) {
	f, err := parser.ParseFile(name, src)
	if err == nil {
		v := l.cue.BuildFile(f)
		if err = v.Validate(cue.Concrete(true)); err == nil {
			return v, true
		}
	}
	for _, e := range cueerrors.Errors(err) {
		pos := Pos{File: name}
		for _, p := range cueerrors.Positions(e) {
			if p.Filename() == name {
				pos = position(p, name)
				break
			}
		}
		format, args := e.Msg()
		l.add(pos, strings.Join(e.Path(), "."), "%s", fmt.Sprintf(format, args...))
	}
	return cue.Value{}, false
}

func (l *loader) projectFile(name, project string, v cue.Value) {
	p := l.projects[project]
	if p == nil {
		p = &rawProject{containers: map[string]declared[rawContainer]{}, aliases: map[string]declared[rawAlias]{}}
		l.projects[project] = p
	}
	var raw rawFile
	if !l.check(name, v, "#File", "", &raw) {
		l.unread = true
		return
	}
	once := func(path string) (Pos, bool) {
		pos := l.at(name, v, path)
		return pos, l.once(pos, project, path)
	}
	if raw.Project != nil {
		if _, ok := once("project"); ok {
			p.id = raw.Project.ID
		}
	}
	if raw.Permissions != nil {
		if pos, ok := once("permissions"); ok {
			p.permissions = &declared[rawPermissions]{pos, *raw.Permissions}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(raw.Containers)) {
		if pos, ok := once(join("containers", k)); ok {
			p.containers[k] = declared[rawContainer]{pos, raw.Containers[k]}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(raw.Aliases)) {
		if pos, ok := once(join("aliases", k)); ok {
			p.aliases[k] = declared[rawAlias]{pos, raw.Aliases[k]}
		}
	}
}

// once refuses a second declaration of an object, naming the first.
func (l *loader) once(pos Pos, project, path string) bool {
	key := project + "\x00" + path
	if first, ok := l.declared[key]; ok {
		l.add(pos, path, "is declared a second time; the first is at %s", first)
		return false
	}
	l.declared[key] = pos
	return true
}

// LoadNode reads a node file.
func LoadNode(name string, src []byte) (Node, error) {
	l, err := newLoader()
	if err != nil {
		return Node{}, err
	}
	var n Node
	if v, ok := l.evaluate(name, src); ok {
		l.check(name, v, "#Node", "", &n)
	}
	if len(l.problems) > 0 {
		return Node{}, l.problems.sorted()
	}
	return n, nil
}

// IsProblems reports whether err is about the author's files rather than
// about reading them.
func IsProblems(err error) bool {
	var ps Problems
	return errors.As(err, &ps)
}
