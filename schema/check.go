package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// check holds v to the definition def, field by field, and decodes it into
// dst when all is well.
//
// CUE could unify the two and report what it finds, but its errors speak of
// the schema's internals and often point into it. Walking both side by side
// lets every error stand at the author's own line and say what is allowed.
func (l *loader) check(file string, v cue.Value, def, path string, dst any) bool {
	before := len(l.problems)
	s := l.definition(def)
	l.walk(file, path, v, s, s)
	if len(l.problems) > before {
		return false
	}
	u := s.Unify(v)
	if err := u.Validate(cue.Concrete(true)); err != nil {
		l.add(Pos{File: file}, path, "%v", err) // the walk let it pass: better a clumsy error than none
		return false
	}
	if err := u.Decode(dst); err != nil {
		l.add(Pos{File: file}, path, "%v", err)
		return false
	}
	return true
}

func (l *loader) definition(name string) cue.Value {
	v, ok := l.definitions[name]
	if !ok {
		v = l.schema.LookupPath(cue.ParsePath(name))
		l.definitions[name] = v
	}
	return v
}

// walk compares a value with its schema. field is the schema value as it was
// found in its struct, which carries the attributes; s is what it stands for.
func (l *loader) walk(file, path string, v, s, field cue.Value) {
	switch s.IncompleteKind() {
	case cue.StructKind:
		if v.Kind() != cue.StructKind {
			l.add(valuePos(v, file), path, "found %s, want a struct { … }", show(v))
			return
		}
		l.walkStruct(file, path, v, s, field)
	case cue.ListKind:
		if v.Kind() != cue.ListKind {
			l.add(valuePos(v, file), path, "found %s, want a list [ … ]", show(v))
			return
		}
		elem := s.LookupPath(cue.MakePath(cue.AnyIndex))
		for items, i := list1(v), 0; items.Next(); i++ {
			l.walk(file, fmt.Sprintf("%s[%d]", path, i), items.Value(), elem, elem)
		}
	default:
		if err := s.Unify(v).Validate(cue.Concrete(true)); err != nil {
			found := show(v)
			if secret := l.attribute(field, "secret"); secret.Err() == nil {
				found = kindOf(v) // which is no secret
			}
			l.add(valuePos(v, file), path, "found %s, want %s", found, l.want(field))
		}
	}
}

func list1(v cue.Value) *cue.Iterator {
	it, _ := v.List() // only called on lists
	return &it
}

func (l *loader) walkStruct(file, path string, v, s, field cue.Value) {
	known := map[string]cue.Value{}
	var names, required []string
	fields, _ := s.Fields(cue.Optional(true)) // s is a struct
	for fields.Next() {
		sel := fields.Selector()
		name := sel.Unquoted()
		known[name] = fields.Value()
		names = append(names, name)
		if sel.ConstraintType() == cue.RequiredConstraint {
			required = append(required, name)
		}
	}
	each := s.LookupPath(cue.MakePath(cue.AnyString)) // exists in maps only
	keyAttr := field.Attribute("key")
	key, _ := keyAttr.String(0)

	for it, _ := v.Fields(); it.Next(); {
		name := it.Selector().Unquoted()
		at, fieldPath := labelPos(it.Value(), file), join(path, name)
		if want, ok := known[name]; ok {
			l.walk(file, fieldPath, it.Value(), want, want)
			continue
		}
		if !each.Exists() {
			l.add(at, fieldPath, "there is no such field%s", didYouMean(name, names))
			continue
		}
		if key == "" || l.key(at, fieldPath, name, key) {
			l.walk(file, fieldPath, it.Value(), each, each)
		}
	}
	for _, name := range required {
		if !v.LookupPath(cue.MakePath(cue.Str(name))).Exists() {
			l.add(labelPos(v, file), join(path, name), "is missing; want %s", l.want(known[name]))
		}
	}
}

// key holds the name of a map entry, a file or a folder to a definition.
func (l *loader) key(pos Pos, path, name, def string) bool {
	d := l.definition(def)
	if d.Unify(l.cue.Encode(name)).Validate(cue.Concrete(true)) == nil {
		return true
	}
	l.add(pos, path, "the name %q is not allowed, want %s", name, l.want(d))
	return false
}

// want is what an author is told that a field takes.
func (l *loader) want(s cue.Value) string {
	a := l.attribute(s, "want")
	if text, err := a.String(0); err == nil {
		return text
	}
	if s.IncompleteKind() == cue.StructKind {
		return "a struct { … }"
	}
	return s.IncompleteKind().String()
}

// attribute is that of the field itself, else of the definition it names.
func (l *loader) attribute(s cue.Value, name string) cue.Attribute {
	a := s.Attribute(name)
	if a.Err() == nil {
		return a
	}
	if _, p := s.ReferencePath(); len(p.Selectors()) > 0 {
		return l.schema.LookupPath(p).Attribute(name)
	}
	return a
}

// show is a value as an author would recognise it, cut to a line.
func show(v cue.Value) string {
	switch v.Kind() {
	case cue.StructKind, cue.ListKind:
		return kindOf(v)
	case cue.StringKind:
		text, _ := v.String()
		if r := []rune(text); len(r) > 60 {
			text = string(r[:60]) + "…"
		}
		return strconv.Quote(text)
	}
	return fmt.Sprint(v)
}

func kindOf(v cue.Value) string {
	switch v.Kind() {
	case cue.StringKind:
		return "a text"
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		return "a number"
	case cue.BoolKind:
		return "a boolean"
	case cue.NullKind:
		return "null"
	}
	return "a " + v.Kind().String()
}

// at is where the field at path is declared.
func (l *loader) at(file string, v cue.Value, path string) Pos {
	return labelPos(v.LookupPath(cue.ParsePath(path)), file)
}

func valuePos(v cue.Value, file string) Pos {
	if f, ok := v.Source().(*ast.Field); ok {
		return position(f.Value.Pos(), file)
	}
	return position(sourcePos(v), file)
}

func labelPos(v cue.Value, file string) Pos {
	if f, ok := v.Source().(*ast.Field); ok {
		return position(f.Label.Pos(), file)
	}
	return position(sourcePos(v), file)
}

func sourcePos(v cue.Value) token.Pos {
	if n := v.Source(); n != nil {
		return n.Pos()
	}
	return v.Pos()
}

// join adds a field to a path, quoted where CUE would quote it.
func join(path, name string) string {
	name = cue.MakePath(cue.Str(name)).String()
	if path == "" {
		return name
	}
	return path + "." + name
}

// didYouMean offers the nearest known name, or lists them when none is near.
func didYouMean(name string, known []string) string {
	best, dist := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), k); d < dist {
			best, dist = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	if len(known) == 0 {
		return ""
	}
	slices.Sort(known)
	return "; there are " + strings.Join(known, ", ")
}

// editDistance counts the insertions, deletions and substitutions between two
// names (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
