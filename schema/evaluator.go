package schema

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// exitMemory is the exit code of an evaluation that took too much memory.
const exitMemory = 97

// EvaluateMain must be called first in the main function of every program
// that calls Load, and in TestMain of its tests. In a process that was
// started to evaluate files it does that and does not return; in any other
// it does nothing.
func EvaluateMain() {
	if os.Getenv(evaluating) == "" {
		return
	}
	input, err := io.ReadAll(os.Stdin)
	var req request
	if err == nil {
		err = json.Unmarshal(input, &req)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "evaluate:", err)
		os.Exit(1)
	}
	confine(req.Memory)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	var e *evaluator
	for i, f := range req.Files {
		if i%200 == 0 {
			e = newEvaluator(req) // a context only ever grows
		}
		if err := answers.Encode(e.file(f)); err != nil {
			os.Exit(1)
		}
		if err := out.Flush(); err != nil { // so that it is known which file is next
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// confine holds the process to its memory, and to the files that it has open.
// The limit of the system is the wall; the watch stops short of it where the
// system has none, and tells why.
func confine(memory int64) {
	debug.SetMemoryLimit(memory * 3 / 4)
	debug.SetMaxStack(int(memory / 4))
	if !raceEnabled {
		setLimit(syscall.RLIMIT_DATA, uint64(memory+memory/2))
	}
	setLimit(syscall.RLIMIT_NOFILE, 0)
	go watchMemory(uint64(memory))
}

func setLimit(resource int, n uint64) {
	var l syscall.Rlimit
	if syscall.Getrlimit(resource, &l) == nil {
		l.Cur = min(l.Cur, n)
		l.Max = l.Cur
		_ = syscall.Setrlimit(resource, &l) // the watch remains
	}
}

func watchMemory(limit uint64) {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for range time.Tick(2 * time.Millisecond) {
		metrics.Read(samples)
		if samples[0].Value.Uint64()-samples[1].Value.Uint64() > limit {
			os.Exit(exitMemory)
		}
	}
}

// evaluator evaluates files that may import each other's lib/.
type evaluator struct {
	req     request
	cue     *cue.Context
	build   *build.Context
	loading []string // import paths, the one that is read now last
	loaded  map[string]*build.Instance
}

func newEvaluator(req request) *evaluator {
	e := &evaluator{req: req, cue: cuecontext.New(), loaded: map[string]*build.Instance{}}
	e.build = build.NewContext(build.Loader(e.load))
	return e
}

func (e *evaluator) file(f requestFile) answer {
	syntax, err := parser.ParseFile(f.Name, f.Src)
	if err != nil {
		return answer{Problems: Problems{syntaxProblem(f.Name, err)}}
	}
	e.loading = nil
	inst := e.build.NewInstance("", e.load)
	err = inst.AddSyntax(syntax)
	if err == nil {
		err = inst.Complete()
	}
	if err != nil {
		return answer{Problems: e.problems(f.Name, err)}
	}
	v := e.cue.BuildInstance(inst)
	if err := v.Validate(cue.Concrete(true)); err != nil {
		return answer{Problems: e.problems(f.Name, err)}
	}
	c := converter{file: f.Name}
	out := c.value(v, []ast.Node{syntax}, Pos{f.Name, 1, 1}, 1)
	if c.tooBig != "" {
		return answer{Problems: Problems{{Pos{File: f.Name}, "", c.tooBig}}}
	}
	return answer{Value: out}
}

// load finds a package for an import: one of the repository, or the schema
// itself. CUE knows its own; nil leaves those to it.
func (e *evaluator) load(pos token.Pos, name string) *build.Instance {
	if e.loaded[name] != nil {
		return e.loaded[name]
	}
	where, pkg, _ := strings.Cut(name, ":")
	where, _, _ = strings.Cut(where, "@")
	if pkg == "" {
		pkg = path.Base(where)
	}
	if !strings.Contains(strings.Split(where, "/")[0], ".") && where != e.req.Module && !strings.HasPrefix(where, e.req.Module+"/") {
		return nil
	}
	inst := e.build.NewInstance(where, e.load)
	if at := slices.Index(e.loading, name); at >= 0 {
		inst.Err = cueerrors.Newf(pos, "packages import each other in a circle: %s", strings.Join(append(e.loading[at:], name), " → "))
		return inst
	}
	e.loading = append(e.loading, name)
	defer func() { e.loading = e.loading[:len(e.loading)-1] }()
	for _, f := range e.sources(where) {
		syntax, err := parser.ParseFile(f.Name, f.Src)
		if err != nil || syntax.PackageName() != pkg {
			continue // syntax errors of lib/ were told before
		}
		if err := inst.AddSyntax(syntax); err != nil {
			inst.Err = cueerrors.Promote(err, "import")
			return inst
		}
	}
	if len(inst.Files) == 0 {
		inst.Err = cueerrors.Newf(pos, "%s", e.notFound(where, pkg))
		return inst
	}
	if err := inst.Complete(); err != nil {
		inst.Err = cueerrors.Promote(err, "import")
	}
	e.loaded[name] = inst
	return inst
}

// sources are the files of a package.
func (e *evaluator) sources(where string) []requestFile {
	var out []requestFile
	if where == modulePath {
		names, _ := definitions.ReadDir(".")
		for _, d := range names {
			src, _ := definitions.ReadFile(d.Name())
			out = append(out, requestFile{modulePath + "/" + d.Name(), string(src)})
		}
		return out
	}
	dir, ok := strings.CutPrefix(where, e.req.Module+"/")
	if e.req.Module == "" || !ok {
		return nil
	}
	for name, src := range e.req.Lib {
		if path.Dir(name) == dir {
			out = append(out, requestFile{name, src})
		}
	}
	slices.SortFunc(out, func(a, b requestFile) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (e *evaluator) notFound(where, pkg string) string {
	switch dir, ok := strings.CutPrefix(where, e.req.Module+"/"); {
	case e.req.Module == "":
		return fmt.Sprintf("cannot import %q: the repository has no cue.mod/module.cue that says what it is called, as in module: \"fleet.example\"", where)
	case !ok:
		return fmt.Sprintf("cannot import %q: only packages of this repository, whose paths start with %s/lib/, and those of CUE itself can be imported", where, e.req.Module)
	case !strings.HasPrefix(dir, "lib/") && dir != "lib":
		return fmt.Sprintf("cannot import %q: what files share lives in lib/", where)
	default:
		return fmt.Sprintf("cannot import %q: there is no file in %s/ that says package %s", where, dir, pkg)
	}
}

// problems are CUE's errors in the author's words, each at a place in a file
// of the repository.
func (e *evaluator) problems(file string, err error) Problems {
	var out Problems
	for _, err := range cueerrors.Errors(err) {
		err = innermost(err)
		pos := Pos{File: file}
		for _, p := range cueerrors.Positions(err) {
			name := p.Filename()
			if _, lib := e.req.Lib[name]; name != file && !lib {
				continue
			}
			if pos.Line == 0 || name == file && pos.File != file {
				pos = position(p, name)
			}
		}
		format, args := err.Msg()
		where := ""
		for _, name := range err.Path() {
			if name, err := unquoteLabel(name); err == nil {
				where = join(where, name)
			}
		}
		out = append(out, Problem{pos, where, evaluationMessage(fmt.Sprintf(format, args...), err)})
	}
	if len(out) > maxProblems {
		out = out[:maxProblems]
	}
	return slices.Compact(out.sorted())
}

// innermost is what made an import fail.
func innermost(err cueerrors.Error) cueerrors.Error {
	for {
		format, _ := err.Msg()
		var inner cueerrors.Error
		if format != "import failed" || !errors.As(errors.Unwrap(err), &inner) {
			return err
		}
		err = inner
	}
}

func unquoteLabel(name string) (string, error) {
	if !strings.HasPrefix(name, `"`) {
		return name, nil
	}
	var text string
	return text, json.Unmarshal([]byte(name), &text)
}

var (
	notFoundMessage   = regexp.MustCompile(`^reference "(.*)" not found$`)
	incompleteMessage = regexp.MustCompile(`^incomplete value (.*)$`)
	undefinedMessage  = regexp.MustCompile(`^undefined field: (.*)$`)
	quotedText        = regexp.MustCompile(`"(\\.|[^"\\])*"`)
)

// evaluationMessage says in other words what CUE's say only to those who know
// it well. Texts that are not names are left out: they may be secrets.
func evaluationMessage(text string, err error) string {
	if m := notFoundMessage.FindStringSubmatch(text); m != nil {
		switch strings.ToLower(m[1]) {
		case "true", "false", "yes", "no", "on", "off":
			return fmt.Sprintf("found %s, want true or false, in lower case", m[1])
		case "none", "nil":
			return fmt.Sprintf("found %s, which is nothing here; take the field away", m[1])
		}
		return fmt.Sprintf("there is nothing called %s here; a text needs quotes: %q", m[1], m[1])
	}
	if m := incompleteMessage.FindStringSubmatch(text); m != nil {
		if m[1] == "_" {
			return "has no value: what it refers to has none, or refers back to it"
		}
		return fmt.Sprintf("has no value yet, only what it may be (%s); write the value itself", cut(quotedText.ReplaceAllString(m[1], `"…"`)))
	}
	if m := undefinedMessage.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("there is no %s in what this refers to", m[1])
	}
	switch {
	case strings.HasPrefix(text, "cannot import"), strings.HasPrefix(text, "packages import"):
		return text
	case strings.HasPrefix(text, "imported and not used"):
		return text + "; take the import away"
	case strings.HasPrefix(text, "conflicting values"):
		var places []string
		for _, p := range cueerrors.Positions(err) {
			if at := (Pos{p.Filename(), p.Line(), p.Column()}); p.IsValid() && !slices.Contains(places, at.String()) {
				places = append(places, at.String())
			}
		}
		slices.Sort(places)
		return "has different values that cannot both be true; they come from " + strings.Join(places, ", ")
	case text == "field not allowed":
		return "is not allowed by the definition that this is joined with; put ... into that struct of the definition to leave it open"
	case strings.HasPrefix(text, "structural cycle"), strings.HasPrefix(text, "cycle error"):
		return "refers to itself without end"
	}
	return quotedText.ReplaceAllString(text, `"…"`)
}

// maxParts bounds what one file may come to.
const maxParts = 200000

// converter copies an evaluated file out of CUE.
type converter struct {
	file   string
	parts  int
	tooBig string
}

// value converts v. nodes are the places of the author's own file that speak
// of it; without any, its own position counts, which is then in lib/.
func (c *converter) value(v cue.Value, nodes []ast.Node, pos Pos, depth int) *value {
	if d, ok := v.Default(); ok {
		v = d
	}
	out := &value{Pos: pos}
	switch c.parts++; {
	case c.tooBig != "":
		return out
	case c.parts > maxParts:
		c.tooBig = fmt.Sprintf("comes to more than %d values; write less of it with comprehensions", maxParts)
		return out
	case depth > maxDepth:
		c.tooBig = fmt.Sprintf("nests deeper than %d levels once it is evaluated", maxDepth)
		return out
	}
	switch v.Kind() {
	case cue.NullKind:
		out.Kind = isNull
	case cue.BoolKind:
		b, _ := v.Bool()
		out.Kind, out.Text = isBool, fmt.Sprint(b)
	case cue.StringKind:
		out.Kind = isText
		out.Text, _ = v.String()
	case cue.BytesKind:
		out.Kind = isBytes
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		text, _ := v.MarshalJSON()
		var whole bool
		if t, w, ok := decimal(strings.TrimPrefix(string(text), "-")); ok {
			whole = w
			if strings.HasPrefix(string(text), "-") {
				t = "-" + t
			}
			out.Text = t
		} else {
			out.Text = string(text)
		}
		out.Kind = isFloat
		if whole || v.Kind() == cue.IntKind {
			out.Kind = isInt
		}
	case cue.ListKind:
		out.Kind = isList
		items, _ := v.List()
		for i := 0; items.Next(); i++ {
			sub := itemNodes(nodes, i)
			out.Items = append(out.Items, c.value(items.Value(), sub, c.place(items.Value(), sub, pos), depth+1))
		}
	default:
		out.Kind = isStruct
		fields, err := v.Fields()
		if err != nil {
			c.tooBig = "cannot be read as data"
			return out
		}
		for fields.Next() {
			name := fields.Selector().Unquoted()
			labels, sub := fieldNodes(nodes, name)
			label := c.place(fields.Value(), labels, pos)
			out.Fields = append(out.Fields, field{name, label, c.value(fields.Value(), sub, c.place(fields.Value(), sub, label), depth+1)})
		}
	}
	return out
}

// place is the first of the author's nodes, else where CUE saw the value, else
// what surrounds it.
func (c *converter) place(v cue.Value, nodes []ast.Node, around Pos) Pos {
	for _, n := range nodes {
		if p := n.Pos(); p.IsValid() && p.Filename() == c.file {
			return position(p, c.file)
		}
	}
	if p := v.Pos(); p.IsValid() && strings.HasPrefix(p.Filename(), "lib/") {
		return position(p, p.Filename())
	}
	return around
}

// open takes apart what is written around structs and lists: a & b, (a), and
// the declarations of a struct with those of comprehensions in it.
func open(nodes []ast.Node) (decls []ast.Decl, lists []*ast.ListLit) {
	for _, n := range nodes {
		switch n := n.(type) {
		case *ast.File:
			decls = append(decls, n.Decls...)
		case *ast.StructLit:
			decls = append(decls, n.Elts...)
		case *ast.ListLit:
			lists = append(lists, n)
		case *ast.ParenExpr:
			d, l := open([]ast.Node{n.X})
			decls, lists = append(decls, d...), append(lists, l...)
		case *ast.BinaryExpr:
			d, l := open([]ast.Node{n.X, n.Y})
			decls, lists = append(decls, d...), append(lists, l...)
		}
	}
	for _, d := range decls {
		switch d := d.(type) {
		case *ast.EmbedDecl:
			inner, _ := open([]ast.Node{d.Expr})
			decls = append(decls, inner...)
		case *ast.Comprehension:
			inner, _ := open([]ast.Node{d.Value})
			decls = append(decls, inner...)
		}
	}
	return decls, lists
}

// fieldNodes finds where a file speaks of a field: its labels, its values.
func fieldNodes(nodes []ast.Node, name string) (labels, values []ast.Node) {
	decls, _ := open(nodes)
	for _, d := range decls {
		f, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		if n, _, err := ast.LabelName(f.Label); err == nil && n == name {
			labels = append(labels, f.Label)
			values = append(values, f.Value)
		}
	}
	return labels, values
}

func itemNodes(nodes []ast.Node, i int) []ast.Node {
	_, lists := open(nodes)
	for _, l := range lists {
		if i < len(l.Elts) {
			return []ast.Node{l.Elts[i]}
		}
	}
	return nil
}
