package schema

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
	if err := evaluateFiles(bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "evaluate:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// evaluateFiles answers one request.
func evaluateFiles(stdin *bufio.Reader, out *bufio.Writer) error {
	line, err := stdin.ReadBytes('\n')
	var req request
	if err == nil {
		err = json.Unmarshal(line, &req)
	}
	if err != nil {
		return err
	}
	confine(req)
	// What it is sent is bounded where it comes from, and its own memory is.
	in := &incoming{Reader: stdin, left: math.MaxInt64}
	lib := library{files: map[string]string{}, broken: req.Broken}
	var e *evaluator
	var answers []byte
	said := func(what byte, n uint64) error {
		if _, err := out.Write(binary.AppendUvarint([]byte{what}, n)); err != nil {
			return err
		}
		return out.Flush() // so that it is known which file is at fault
	}
	left, told := req.Loaded, 0
	for files := 0; ; files++ {
		bits, err := in.ReadByte()
		if err != nil {
			return err
		}
		if bits == 0 {
			break
		}
		n, err := in.number()
		if err != nil {
			return err
		}
		name, err := in.text()
		if err != nil {
			return err
		}
		src, err := in.text()
		if err != nil {
			return err
		}
		if bits&inputAsked == 0 {
			lib.add(name, src)
			continue
		}
		if err := said(outputBegins, n); err != nil {
			return err
		}
		a := parseFile(name, []byte(src))
		switch {
		case isLib(name):
			lib.add(name, src)
			lib.broken = lib.broken || len(a.problems) > 0
		case a.expression && lib.broken:
			a.deferred = true
		case a.expression:
			if e == nil || files%200 == 0 {
				e = newEvaluator(lib) // a context only ever grows
			}
			a = e.file(name, src)
			a.expression = true
		}
		if told += len(a.problems); told > maxTold && len(a.problems) > 0 {
			a = answer{expression: a.expression, untold: true}
		}
		u := unit{name: name}
		if left -= u.take(a).weight(); left < 0 {
			return said(outputHeavy, n)
		}
		if answers, err = appendAnswer(answers, a, name); err != nil {
			return err
		}
	}
	if err := out.WriteByte(outputAnswers); err != nil {
		return err
	}
	if _, err := out.Write(answers); err != nil {
		return err
	}
	return out.Flush()
}

// library is what files may import.
type library struct {
	module string            // import path of the repository; empty: it has none
	files  map[string]string // by name
	broken bool
}

func (l *library) add(name, src string) {
	if name != moduleName {
		l.files[name] = src
		return
	}
	v, _, _ := parse(name, []byte(src))
	if m := v.get("module"); m != nil {
		l.module, _, _ = strings.Cut(m.Text, "@")
	}
}

// confine holds the process to its memory, and to the files that it has open.
// The limit of the system is the wall; the watch stops short of it where the
// system has none, and tells why.
func confine(req request) {
	memory := req.Memory
	debug.SetGCPercent(200)
	debug.SetMemoryLimit(memory * 3 / 4)
	debug.SetMaxStack(int(memory / 4))
	if !raceEnabled {
		setLimit(syscall.RLIMIT_DATA, uint64(memory+memory/2))
	}
	setLimit(syscall.RLIMIT_NOFILE, 0)
	// Who started it ends it sooner, unless that one has gone.
	setLimit(syscall.RLIMIT_CPU, uint64(req.Time/time.Second)*4+10)
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
	lib     library
	cue     *cue.Context
	build   *build.Context
	loading []string // import paths, the one that is read now last
	loaded  map[string]*build.Instance
}

func newEvaluator(lib library) *evaluator {
	e := &evaluator{lib: lib, cue: cuecontext.New(), loaded: map[string]*build.Instance{}}
	e.build = build.NewContext(build.Loader(e.load))
	return e
}

func (e *evaluator) file(name, src string) answer {
	syntax, err := parser.ParseFile(name, src)
	if err != nil {
		return answer{problems: Problems{syntaxProblem(name, err)}}
	}
	e.loading = nil
	inst := e.build.NewInstance("", e.load)
	err = inst.AddSyntax(syntax)
	if err == nil {
		err = inst.Complete()
	}
	if err != nil {
		return answer{problems: e.problems(name, err)}
	}
	v := e.cue.BuildInstance(inst)
	if err := v.Validate(cue.Concrete(true)); err != nil {
		return answer{problems: e.problems(name, err)}
	}
	c := converter{file: name}
	out := c.value("", v, []ast.Node{syntax}, Pos{name, 1, 1}, 1)
	if c.tooBig != "" {
		return answer{problems: Problems{{Pos{File: name}, "", c.tooBig}}}
	}
	return answer{value: out}
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
	if !strings.Contains(strings.Split(where, "/")[0], ".") && where != e.lib.module && !strings.HasPrefix(where, e.lib.module+"/") {
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

// source is a file of a package.
type source struct{ Name, Src string }

// sources are the files of a package.
func (e *evaluator) sources(where string) []source {
	var out []source
	if where == modulePath {
		names, _ := definitions.ReadDir(".")
		for _, d := range names {
			src, _ := definitions.ReadFile(d.Name())
			out = append(out, source{modulePath + "/" + d.Name(), string(src)})
		}
		return out
	}
	dir, ok := strings.CutPrefix(where, e.lib.module+"/")
	if e.lib.module == "" || !ok {
		return nil
	}
	for name, src := range e.lib.files {
		if path.Dir(name) == dir {
			out = append(out, source{name, src})
		}
	}
	slices.SortFunc(out, func(a, b source) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (e *evaluator) notFound(where, pkg string) string {
	switch dir, ok := strings.CutPrefix(where, e.lib.module+"/"); {
	case e.lib.module == "":
		return fmt.Sprintf("cannot import %q: the repository has no cue.mod/module.cue that says what it is called, as in module: \"fleet.example\"", where)
	case !ok:
		return fmt.Sprintf("cannot import %q: only packages of this repository, whose paths start with %s/lib/, and those of CUE itself can be imported", where, e.lib.module)
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
			if _, lib := e.lib.files[name]; name != file && !lib {
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
		out = append(out, tell(pos, where, "%s", evaluationMessage(fmt.Sprintf(format, args...), err)))
		if len(out) >= maxProblems {
			break
		}
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

// maxParts and maxText bound what one file may come to.
const (
	maxParts = 200000
	maxText  = 16 << 20 // bytes
)

// converter copies an evaluated file out of CUE.
type converter struct {
	file   string
	parts  int
	text   int
	tooBig string
}

// value converts v. nodes are the places of the author's own file that speak
// of it; without any, its own position counts, which is then in lib/.
func (c *converter) value(path string, v cue.Value, nodes []ast.Node, pos Pos, depth int) *value {
	if d, ok := v.Default(); ok {
		v = d
	}
	out := &value{Pos: pos}
	switch c.parts++; {
	case c.tooBig != "":
		return out
	case len(path) > maxPath:
		c.tooBig = fmt.Sprintf("has names that are longer than %d bytes together", maxPath)
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
		c.count(out.Text)
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
			c.count(out.Text)
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
			out.Items = append(out.Items, c.value(path, items.Value(), sub, c.place(items.Value(), sub, pos), depth+1))
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
			out.Fields = append(out.Fields, field{name, label, c.value(join(path, name), fields.Value(), sub, c.place(fields.Value(), sub, label), depth+1)})
		}
	}
	return out
}

func (c *converter) count(text string) {
	if c.text += len(text); c.text > maxText {
		c.tooBig = fmt.Sprintf("comes to more than %s of text; write less of it", bytesText(maxText))
	}
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
