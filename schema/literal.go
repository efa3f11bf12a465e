package schema

import (
	"encoding/json"
	"fmt"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"
	"github.com/cockroachdb/apd/v3"
)

// reader turns a parsed file that holds nothing but data into a value.
//
// A CUE file is a program: three lines can take all memory of a machine. Most
// files of a fleet are only data, and those need no evaluation at all. As
// soon as the reader meets anything else it gives up, and the file goes to
// the evaluating process.
type reader struct {
	file       string
	json       bool // strings escape as JSON does
	expression bool // met something that needs evaluation
	problems   Problems
	places     map[*value]map[string]int // of the fields of a struct
}

// readFile returns nil when the file needs evaluation or has problems.
func (r *reader) readFile(f *ast.File) *value {
	v := &value{Kind: isStruct, Pos: Pos{r.file, 1, 1}}
	r.decls(v, "", f.Decls, 1)
	if r.expression || len(r.problems) > 0 {
		return nil
	}
	return v
}

func (r *reader) decls(into *value, path string, decls []ast.Decl, depth int) {
	if depth > maxDepth {
		r.problem(into.Pos, path, "nests deeper than %d levels", maxDepth)
		return
	}
	for _, d := range decls {
		if r.expression {
			return
		}
		switch d := d.(type) {
		case *ast.Package, *ast.CommentGroup, *ast.Attribute:
		case *ast.Field:
			r.field(into, path, d, depth)
		case *ast.EmbedDecl:
			s, ok := d.Expr.(*ast.StructLit)
			if !ok {
				r.expression = true
				return
			}
			r.decls(into, path, s.Elts, depth+1)
		default:
			r.expression = true
		}
	}
}

func (r *reader) field(into *value, path string, d *ast.Field, depth int) {
	name, ok := r.label(d.Label)
	if !ok || d.Alias != nil || d.Constraint != token.ILLEGAL {
		r.expression = true
		return
	}
	if path = join(path, name); len(path) > maxPath {
		r.problem(position(d.Label.Pos(), r.file), path, "has names that are longer than %d bytes together", maxPath)
		return
	}
	v := r.expr(path, d.Value, depth+1)
	if v == nil {
		return
	}
	pos := position(d.Label.Pos(), r.file)
	i, ok := r.place(into, name)
	if !ok {
		into.Fields = append(into.Fields, field{name, pos, v})
		return
	}
	f := &into.Fields[i]
	if r.json {
		r.problem(pos, path, "is written twice; the first is at %s", f.Pos)
		return
	}
	f.Value = r.unify(path, f.Value, v)
}

// place finds a field of a struct, or claims the next place for it.
func (r *reader) place(of *value, name string) (int, bool) {
	if r.places == nil {
		r.places = map[*value]map[string]int{}
	}
	places := r.places[of]
	if places == nil {
		places = map[string]int{}
		r.places[of] = places
	}
	i, ok := places[name]
	if !ok {
		places[name] = len(of.Fields)
	}
	return i, ok
}

func (r *reader) label(l ast.Label) (string, bool) {
	switch l := l.(type) {
	case *ast.Ident:
		hidden := strings.HasPrefix(l.Name, "_") || strings.HasPrefix(l.Name, "#")
		return l.Name, !hidden
	case *ast.BasicLit:
		if l.Kind == token.STRING {
			return r.unquote(l)
		}
	}
	return "", false
}

func (r *reader) expr(path string, e ast.Expr, depth int) *value {
	v := &value{Pos: position(e.Pos(), r.file)}
	switch e := e.(type) {
	case *ast.StructLit:
		v.Kind = isStruct
		r.decls(v, path, e.Elts, depth)
	case *ast.ListLit:
		v.Kind = isList
		if depth > maxDepth {
			r.problem(v.Pos, path, "nests deeper than %d levels", maxDepth)
			return nil
		}
		for i, item := range e.Elts {
			if r.expression {
				return nil
			}
			if x := r.expr(fmt.Sprintf("%s[%d]", path, i), item, depth+1); x != nil {
				v.Items = append(v.Items, x)
			}
		}
	case *ast.BasicLit:
		return r.basic(v, path, e, false)
	case *ast.UnaryExpr:
		lit, ok := e.X.(*ast.BasicLit)
		if ok && e.Op == token.SUB && (lit.Kind == token.INT || lit.Kind == token.FLOAT) {
			return r.basic(v, path, lit, true)
		}
		r.expression = true
	default:
		r.expression = true
	}
	if r.expression {
		return nil
	}
	return v
}

func (r *reader) basic(v *value, path string, lit *ast.BasicLit, negative bool) *value {
	switch lit.Kind {
	case token.NULL:
		v.Kind = isNull
	case token.TRUE, token.FALSE:
		v.Kind, v.Text = isBool, lit.Value
	case token.STRING:
		text, ok := r.unquote(lit)
		if !ok {
			r.expression = true // CUE knows what is wrong with it
			return nil
		}
		v.Kind, v.Text = isText, text
		if strings.HasPrefix(strings.TrimLeft(lit.Value, "#"), "'") {
			v.Kind = isBytes
		}
	case token.INT, token.FLOAT:
		text, whole, ok := decimal(lit.Value)
		if !ok {
			r.problem(v.Pos, path, "the number %s is out of all bounds", cut(lit.Value))
			return nil
		}
		v.Kind, v.Text = isFloat, text
		if whole {
			v.Kind = isInt
		}
		if negative {
			v.Text = "-" + v.Text
		}
	default:
		r.expression = true
		return nil
	}
	return v
}

func (r *reader) unquote(lit *ast.BasicLit) (string, bool) {
	if r.json {
		var text string
		err := json.Unmarshal([]byte(lit.Value), &text)
		return text, err == nil
	}
	text, err := literal.Unquote(lit.Value)
	return text, err == nil
}

// decimal reads a CUE number, such as 1_000, 0x1f or 2Gi. It refuses what
// would take megabytes to write out.
func decimal(s string) (text string, whole, ok bool) {
	var n literal.NumInfo
	var d apd.Decimal
	if len(s) > 100 || literal.ParseNum(s, &n) != nil || n.Decimal(&d) != nil {
		return "", false, false
	}
	if !n.IsInt() { // Decimal hides an exponent that is too large
		if _, _, err := d.SetString(n.String()); err != nil {
			return "", false, false
		}
	}
	if d.Form != apd.Finite || d.Exponent > 100 || d.Exponent < -100 {
		return "", false, false
	}
	return d.Text('f'), n.IsInt(), true
}

// unify joins two values that one file gives to one field, as CUE does: structs
// field by field, everything else must be equal.
func (r *reader) unify(path string, a, b *value) *value {
	switch {
	case a.Kind != b.Kind || a.Text != b.Text || len(a.Items) != len(b.Items):
		// It may be a secret: say where, not what.
		r.problem(b.Pos, path, "has two different values; the other is at %s", a.Pos)
	case a.Kind == isList:
		for i := range a.Items {
			a.Items[i] = r.unify(fmt.Sprintf("%s[%d]", path, i), a.Items[i], b.Items[i])
		}
	case a.Kind == isStruct:
		for _, f := range b.Fields {
			if i, ok := r.place(a, f.Name); ok {
				a.Fields[i].Value = r.unify(join(path, f.Name), a.Fields[i].Value, f.Value)
				continue
			}
			a.Fields = append(a.Fields, f)
		}
	}
	return a
}

func (r *reader) problem(pos Pos, path, format string, args ...any) {
	if len(r.problems) <= maxProblems {
		r.problems = append(r.problems, tell(pos, path, format, args...))
	}
}
