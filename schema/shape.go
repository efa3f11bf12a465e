package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

//go:embed *.cue
var definitions embed.FS

// shape is one definition of the schema, compiled from its CUE text into a
// form that outlives CUE: it checks values, fills in defaults and documents
// itself. The CUE files stay the only truth; they use a small part of the
// language, and what lies outside of it fails to compile. A test holds shapes
// and CUE itself to the same verdict.
type shape struct {
	name    string // of the definition, "" for one written in place
	doc     string
	example string // CUE text
	want    string // what an author is told that it takes
	secret  bool   // no message may show its value

	fields  []*member // of a struct with named fields
	keys    *shape    // of a map: what its names must match
	each    *shape    // of a map: what its values are
	elem    *shape    // of a list
	options []*shape  // of a choice that includes structs or lists

	literal bool // accepts one value only
	kind    kind // isStruct and isList; "" for scalars and choices
	accepts func(*value) bool
}

// member is a named field of a struct.
type member struct {
	name      string
	required  bool
	optional  bool
	doc       string
	example   string
	want      string
	secret    bool
	shape     *shape
	byDefault *value // nil: none
}

// wanted is what the field takes, in words.
func (m *member) wanted() string {
	if m.want != "" {
		return m.want
	}
	return m.shape.wanted()
}

func (s *shape) wanted() string {
	switch {
	case s.want != "":
		return s.want
	case s.kind == isStruct, len(s.options) > 0 && !slices.ContainsFunc(s.options, func(o *shape) bool { return o.kind != isStruct }):
		return "a struct { … }"
	case s.kind == isList && s.elem.want != "":
		return "a list of: " + s.elem.want
	case s.kind == isList:
		return "a list [ … ]"
	}
	return "another value"
}

// shapes compiles the schema once; it never changes while the program runs.
var shapes = sync.OnceValues(func() (map[string]*shape, error) {
	c := compiler{defs: map[string]*ast.Field{}, done: map[string]*shape{}}
	names, err := fs.Glob(definitions, "*.cue")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		src, err := definitions.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(name, src, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.Field); ok {
				if name, _, _ := ast.LabelName(d.Label); strings.HasPrefix(name, "#") {
					c.defs[name] = d
				}
			}
		}
	}
	for name := range c.defs {
		if _, err := c.definition(name); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
	}
	return c.done, nil
})

type compiler struct {
	defs map[string]*ast.Field
	done map[string]*shape
}

func (c *compiler) definition(name string) (*shape, error) {
	if s, ok := c.done[name]; ok {
		if s == nil {
			return nil, fmt.Errorf("%s: refers to itself", name)
		}
		return s, nil
	}
	d, ok := c.defs[name]
	if !ok {
		return nil, fmt.Errorf("there is no %s", name)
	}
	c.done[name] = nil
	s, err := c.expr(d.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	named := *s
	named.name = name
	named.doc, named.example = documentation(d)
	if want, ok := attribute(d, "want"); ok {
		named.want = want
	}
	if _, ok := attribute(d, "secret"); ok {
		named.secret = true
	}
	c.done[name] = &named
	return &named, nil
}

func (c *compiler) expr(e ast.Expr) (*shape, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return c.expr(e.X)
	case *ast.Ident:
		if strings.HasPrefix(e.Name, "#") {
			return c.definition(e.Name)
		}
		return basicShape(e.Name)
	case *ast.StructLit:
		return c.structure(e)
	case *ast.ListLit:
		if len(e.Elts) == 1 {
			if more, ok := e.Elts[0].(*ast.Ellipsis); ok && more.Type != nil {
				elem, err := c.expr(more.Type)
				return &shape{kind: isList, elem: elem}, err
			}
		}
	case *ast.BasicLit:
		return equalTo(e)
	case *ast.UnaryExpr:
		return bound(e)
	case *ast.CallExpr:
		return length(e)
	case *ast.BinaryExpr:
		switch e.Op {
		case token.AND:
			return c.both(e)
		case token.OR:
			return c.choice(e)
		}
	}
	return nil, fmt.Errorf("%T is not part of what the schema may use", e)
}

func (c *compiler) structure(e *ast.StructLit) (*shape, error) {
	s := &shape{kind: isStruct}
	for _, d := range e.Elts {
		f, ok := d.(*ast.Field)
		if !ok {
			return nil, fmt.Errorf("%T in a struct", d)
		}
		if pattern, ok := f.Label.(*ast.ListLit); ok {
			var err error
			if s.keys, err = c.expr(pattern.Elts[0]); err != nil {
				return nil, err
			}
			if s.each, err = c.expr(f.Value); err != nil {
				return nil, err
			}
			continue
		}
		name, _, err := ast.LabelName(f.Label)
		if err != nil {
			return nil, err
		}
		m := &member{name: name, required: f.Constraint == token.NOT, optional: f.Constraint == token.OPTION}
		m.doc, m.example = documentation(f)
		m.want, _ = attribute(f, "want")
		_, m.secret = attribute(f, "secret")
		if m.shape, err = c.expr(f.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if m.byDefault, err = defaultOf(f.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.fields = append(s.fields, m)
	}
	return s, nil
}

// defaultOf finds the alternative marked with *.
func defaultOf(e ast.Expr) (*value, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return defaultOf(e.X)
	case *ast.BinaryExpr:
		if e.Op != token.OR {
			return nil, nil
		}
		if v, err := defaultOf(e.X); v != nil || err != nil {
			return v, err
		}
		return defaultOf(e.Y)
	case *ast.UnaryExpr:
		if e.Op != token.MUL {
			return nil, nil
		}
		r := reader{file: "default"}
		v := r.expr("", e.X, 1)
		if v == nil {
			return nil, fmt.Errorf("the default is not plain data")
		}
		return v, nil
	}
	return nil, nil
}

// both is a conjunction: of two scalars, or of a list and its length.
func (c *compiler) both(e *ast.BinaryExpr) (*shape, error) {
	x, err := c.expr(e.X)
	if err != nil {
		return nil, err
	}
	y, err := c.expr(e.Y)
	if err != nil {
		return nil, err
	}
	s := *x
	s.name = ""
	if s.want == "" {
		s.want = y.want
	}
	s.accepts = func(v *value) bool {
		return (x.accepts == nil || x.accepts(v)) && (y.accepts == nil || y.accepts(v))
	}
	return &s, nil
}

// choice is a disjunction. Scalars merge into one shape; structs and lists
// stay apart, so that a message can speak of the one that was meant.
func (c *compiler) choice(e *ast.BinaryExpr) (*shape, error) {
	var options []*shape
	var add func(ast.Expr) error
	add = func(e ast.Expr) error {
		switch x := e.(type) {
		case *ast.ParenExpr:
			return add(x.X)
		case *ast.BinaryExpr:
			if x.Op == token.OR {
				if err := add(x.X); err != nil {
					return err
				}
				return add(x.Y)
			}
		case *ast.UnaryExpr:
			if x.Op == token.MUL {
				e = x.X
			}
		}
		if list, ok := e.(*ast.ListLit); ok && len(list.Elts) == 0 {
			return nil // an empty list as a default says nothing about the items
		}
		o, err := c.expr(e)
		if err != nil {
			return err
		}
		if o.options != nil {
			options = append(options, o.options...)
		} else {
			options = append(options, o)
		}
		return nil
	}
	if err := add(e); err != nil {
		return nil, err
	}
	if len(options) == 1 {
		return options[0], nil
	}
	s := &shape{}
	var scalars []*shape
	for _, o := range options {
		if o.kind == "" {
			scalars = append(scalars, o)
		} else {
			s.options = append(s.options, o)
		}
	}
	any := &shape{accepts: func(v *value) bool {
		return slices.ContainsFunc(scalars, func(o *shape) bool { return o.accepts(v) })
	}}
	for _, o := range scalars {
		any.secret = any.secret || o.secret
	}
	any.want = choiceOf(scalars)
	switch {
	case len(s.options) == 0:
		return any, nil
	case len(scalars) > 0:
		s.options = append([]*shape{any}, s.options...)
	}
	for _, o := range s.options {
		s.secret = s.secret || o.secret
	}
	return s, nil
}

// choiceOf names the alternatives. Literals beside a description are examples
// of it, most often the default, and are left out.
func choiceOf(scalars []*shape) string {
	var literals, described []string
	for _, o := range scalars {
		switch {
		case o.literal:
			literals = append(literals, o.want)
		case o.want != "":
			described = append(described, o.want)
		}
	}
	if len(described) > 0 {
		literals = described
	}
	return either(literals)
}

func basicShape(name string) (*shape, error) {
	of := func(want string, kinds ...kind) *shape {
		return &shape{want: want, accepts: func(v *value) bool { return slices.Contains(kinds, v.Kind) }}
	}
	switch name {
	case "string":
		return of("a text", isText), nil
	case "bool":
		return of("true or false", isBool), nil
	case "int":
		return of("a whole number", isInt), nil
	case "number":
		return of("a number", isInt, isFloat), nil
	}
	return nil, fmt.Errorf("%s is not part of what the schema may use", name)
}

func equalTo(e *ast.BasicLit) (*shape, error) {
	r := reader{file: "schema"}
	want := r.expr("", e, 1)
	if want == nil {
		return nil, fmt.Errorf("%s is not plain data", e.Value)
	}
	return &shape{literal: true, want: show(want), accepts: func(v *value) bool { return v.Kind == want.Kind && v.Text == want.Text }}, nil
}

// bound is a comparison: =~ and !~ with texts, the others with numbers.
func bound(e *ast.UnaryExpr) (*shape, error) {
	lit, ok := e.X.(*ast.BasicLit)
	if !ok {
		return nil, fmt.Errorf("%s of %T", e.Op, e.X)
	}
	switch e.Op {
	case token.MAT, token.NMAT:
		pattern, err := literal.Unquote(lit.Value)
		if err != nil {
			return nil, err
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		want := e.Op == token.MAT
		return &shape{accepts: func(v *value) bool { return v.Kind == isText && re.MatchString(v.Text) == want }}, nil
	}
	limit, ok := new(big.Float).SetString(lit.Value)
	if !ok {
		return nil, fmt.Errorf("%s %s", e.Op, lit.Value)
	}
	return &shape{accepts: func(v *value) bool {
		n, ok := new(big.Float).SetString(v.Text)
		if !ok || (v.Kind != isInt && v.Kind != isFloat) {
			return false
		}
		switch c := n.Cmp(limit); e.Op {
		case token.GEQ:
			return c >= 0
		case token.LEQ:
			return c <= 0
		case token.GTR:
			return c > 0
		case token.LSS:
			return c < 0
		}
		return false
	}}, nil
}

// length is strings.MinRunes, strings.MaxRunes, list.MinItems or
// list.MaxItems.
func length(e *ast.CallExpr) (*shape, error) {
	sel, ok := e.Fun.(*ast.SelectorExpr)
	if !ok || len(e.Args) != 1 {
		return nil, fmt.Errorf("a call of %T", e.Fun)
	}
	lit, ok := e.Args[0].(*ast.BasicLit)
	if !ok {
		return nil, fmt.Errorf("a call with %T", e.Args[0])
	}
	var n int
	if _, err := fmt.Sscan(lit.Value, &n); err != nil {
		return nil, err
	}
	name, _, err := ast.LabelName(sel.Sel)
	if err != nil {
		return nil, err
	}
	runes := func(v *value) int { return utf8.RuneCountInString(v.Text) }
	switch name {
	case "MinRunes":
		return &shape{accepts: func(v *value) bool { return v.Kind == isText && runes(v) >= n }}, nil
	case "MaxRunes":
		return &shape{accepts: func(v *value) bool { return v.Kind == isText && runes(v) <= n }}, nil
	case "MinItems":
		return &shape{accepts: func(v *value) bool { return v.Kind == isList && len(v.Items) >= n }}, nil
	case "MaxItems":
		return &shape{accepts: func(v *value) bool { return v.Kind == isList && len(v.Items) <= n }}, nil
	}
	return nil, fmt.Errorf("a call of %s", name)
}

// documentation is the comment above a field, without its last line when that
// is an example.
func documentation(f *ast.Field) (doc, example string) {
	var lines []string
	for _, g := range ast.Comments(f) {
		if g.Doc {
			lines = append(lines, strings.Split(strings.TrimSpace(g.Text()), "\n")...)
		}
	}
	if n := len(lines); n > 0 {
		if text, ok := strings.CutPrefix(lines[n-1], "Example: "); ok {
			example, lines = text, lines[:n-1]
		}
	}
	return strings.Join(lines, "\n"), example
}

// attribute reads @name("text") or @name().
func attribute(f *ast.Field, name string) (string, bool) {
	for _, a := range f.Attrs {
		key, body := a.Split()
		if key != name {
			continue
		}
		if text, err := literal.Unquote(body); err == nil {
			return text, true
		}
		return body, true
	}
	return "", false
}
