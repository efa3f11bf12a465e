package schema

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// checker holds what the author wrote to the schema, field by field.
//
// CUE could unify the two and report what it finds, but its errors speak of
// the schema's internals and often point into it. Walking both side by side
// lets every error stand at the author's own line and say what is allowed.
type checker struct {
	shapes   map[string]*shape
	problems Problems
	told     *atomic.Int64 // problems of all files; nil: nobody counts
	dropped  bool          // some, since enough is told
}

// maxProblems bounds what one file may have to say.
const maxProblems = 200

func (c *checker) add(at spot, format string, args ...any) {
	if c.told != nil && c.told.Add(1) > maxTold {
		c.dropped = true
		return
	}
	switch n := len(c.problems); {
	case n < maxProblems:
		c.problems = append(c.problems, tell(at.pos, at.path, format, args...))
	case n == maxProblems:
		c.problems = append(c.problems, Problem{Pos{File: at.pos.File}, "", "has more problems than these; mend them first"})
	}
}

// check walks at with a definition, and decodes it into dst when all is well.
func (c *checker) check(at spot, def string, dst any) bool {
	s := c.shapes[def]
	if !c.walk(at, s, s.wanted(), false) {
		return false
	}
	text, err := json.Marshal(complete(at.v, s))
	if err == nil {
		err = json.Unmarshal(text, dst)
	}
	if err != nil {
		// The walk let it pass: better a clumsy error than none.
		c.add(at, "cannot be read: %v", err)
		return false
	}
	return true
}

// walk reports whether the value fits the shape. want and secret are those of
// the field that it stands in.
func (c *checker) walk(at spot, s *shape, want string, secret bool) bool {
	v, secret := at.v, secret || s.secret
	if len(s.options) > 0 {
		return c.walkOption(at, s, want, secret)
	}
	switch {
	case s.kind == "" && s.accepts(v):
		return true
	case s.kind == "" || v.Kind != s.kind:
		c.add(at, "found %s, want %s%s", found(v, secret), want, hint(v, s))
		return false
	case s.accepts != nil && !s.accepts(v):
		c.add(at, "has %d entries, want %s", len(v.Items), want)
		return false
	case s.kind == isList:
		ok := true
		for i := range v.Items {
			ok = c.walk(at.in(i), s.elem, s.elem.wanted(), secret) && ok
		}
		return ok
	}
	return c.walkStruct(at, s, secret)
}

func (c *checker) walkStruct(at spot, s *shape, secret bool) bool {
	ok := true
	known := make(map[string]*member, len(s.fields))
	for _, m := range s.fields {
		known[m.name] = m
	}
	seen := map[string]bool{}
	for _, f := range at.v.Fields {
		seen[f.Name] = true
		here := spot{f.Value.Pos, join(at.path, f.Name), f.Value}
		if m := known[f.Name]; m != nil {
			ok = c.walk(here, m.shape, m.wanted(), secret || m.secret) && ok
			continue
		}
		label := spot{f.Pos, here.path, nil}
		switch {
		case s.each == nil:
			c.add(label, "there is no such field%s", s.meant(f))
			ok = false
		case !c.name(label, f.Name, s.keys):
			ok = false
		default:
			ok = c.walk(here, s.each, s.each.wanted(), secret) && ok
		}
	}
	for _, m := range s.fields {
		if m.required && !seen[m.name] {
			c.add(spot{at.pos, join(at.path, m.name), nil}, "is missing; want %s", m.wanted())
			ok = false
		}
	}
	return ok
}

func (s *shape) names() []string {
	out := make([]string, len(s.fields))
	for i, m := range s.fields {
		out[i] = m.name
	}
	return out
}

// walkOption decides which alternative was meant, and holds the value to that
// one, so that a message speaks of what the author had in mind.
func (c *checker) walkOption(at spot, s *shape, want string, secret bool) bool {
	o := s.option(at.v)
	if o == nil {
		if at.v.Kind == isStruct {
			return c.wrongType(at, s, want)
		}
		c.add(at, "found %s, want %s", found(at.v, secret), want)
		return false
	}
	if o.kind == "" || o.want == "" {
		return c.walk(at, o, want, secret)
	}
	return c.walk(at, o, o.want, secret)
}

// option is the alternative that fits the value best: by its kind, then by
// the value of the field "type", then by the fields that it must have. It is
// nil when nothing tells.
func (s *shape) option(v *value) *shape {
	var fit []*shape
	for _, o := range s.options {
		if o.kind == v.Kind || o.kind == "" && v.scalar() {
			fit = append(fit, o)
		}
	}
	if len(fit) <= 1 || v.Kind != isStruct {
		if len(fit) == 0 {
			return nil
		}
		return fit[0]
	}
	if t := v.get("type"); t != nil {
		for _, o := range fit {
			if m := o.member("type"); m != nil && m.shape.accepts(t) {
				return o
			}
		}
		return nil
	}
	for _, o := range fit {
		for _, m := range o.fields {
			if m.required && m.name != "type" && v.get(m.name) != nil {
				return o
			}
		}
	}
	return nil
}

func (s *shape) member(name string) *member {
	for _, m := range s.fields {
		if m.name == name {
			return m
		}
	}
	return nil
}

// wrongType speaks of a struct that fits no alternative.
func (c *checker) wrongType(at spot, s *shape, want string) bool {
	var types []string
	for _, o := range s.options {
		if m := o.member("type"); m != nil {
			types = append(types, strings.Trim(m.shape.want, `"`))
		}
	}
	switch t := at.v.get("type"); {
	case len(types) == 0:
		var names []string
		for _, o := range s.options {
			for _, m := range o.fields {
				if m.required {
					names = append(names, m.name)
				}
			}
		}
		if len(names) == 0 { // no alternative is known by a field
			c.add(at, "found %s, want %s", show(at.v), want)
			return false
		}
		c.add(at, "wants exactly one of %s", strings.Join(names, ", "))
	case t == nil:
		c.add(at.in("type"), "is missing; want %s", quoted(types))
	default:
		near := ""
		if name, ok := nearest(t.Text, types); ok && t.Kind == isText {
			near = fmt.Sprintf("; did you mean %q?", name)
		}
		c.add(at.in("type"), "found %s, want %s%s", show(t), quoted(types), near)
	}
	return false
}

// quoted lists texts as alternatives.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return either(out)
}

// name holds the name of a map entry, a file or a folder to a shape.
func (c *checker) name(at spot, name string, s *shape) bool {
	if s.accepts(&value{Kind: isText, Text: name}) {
		return true
	}
	c.add(at, "the name %q is not allowed, want %s", cut(name), s.wanted())
	return false
}

// complete is v as plain data with the defaults of its shape filled in.
func complete(v *value, s *shape) any {
	if len(s.options) > 0 {
		s = s.option(v)
	}
	switch {
	case s.kind == isList:
		out := make([]any, len(v.Items))
		for i, item := range v.Items {
			out[i] = complete(item, s.elem)
		}
		return out
	case s.kind == isStruct:
		out := make(map[string]any, len(v.Fields))
		for _, m := range s.fields {
			switch f, ok := v.field(m.name); {
			case ok:
				out[m.name] = complete(f.Value, m.shape)
			case m.byDefault != nil:
				out[m.name] = m.byDefault.plain()
			case !m.optional && !m.required && m.shape.kind == isStruct:
				out[m.name] = complete(&value{Kind: isStruct}, m.shape)
			}
		}
		if s.each != nil {
			for _, f := range v.Fields {
				if _, ok := out[f.Name]; !ok {
					out[f.Name] = complete(f.Value, s.each)
				}
			}
		}
		return out
	}
	return v.plain()
}

// hint adds what is likely meant, for slips that are made often.
func hint(v *value, s *shape) string {
	if s.kind == isList && v.scalar() {
		return "; put it into [ ]"
	}
	if s.accepts == nil || !v.scalar() {
		return ""
	}
	if v.Kind == isText {
		bare := &value{Kind: isBool, Text: v.Text}
		if text, whole, ok := decimal(v.Text); ok {
			bare.Text, bare.Kind = text, isFloat
			if whole {
				bare.Kind = isInt
			}
		}
		if (bare.Kind != isBool || v.Text == "true" || v.Text == "false") && s.accepts(bare) {
			return "; take the quotes away"
		}
	} else if v.Kind != isNull && v.Kind != isBytes && s.accepts(&value{Kind: isText, Text: v.Text}) {
		return "; put it in quotes"
	}
	if s.name == "#Domain" && v.Kind == isText {
		return domainHint(v.Text)
	}
	if s.name == "#Image" && v.Kind == isText {
		if image, ok := likelyImage(v.Text); ok {
			return fmt.Sprintf("; write %q", image)
		}
	}
	return ""
}

// found is a value as a message may show it.
func found(v *value, secret bool) string {
	if secret {
		return kindOf(v)
	}
	return show(v)
}

// show is a value as an author would recognise it, cut to a line.
func show(v *value) string {
	switch v.Kind {
	case isStruct, isList, isNull, isBytes:
		return kindOf(v)
	case isText:
		return strconv.Quote(cut(v.Text))
	}
	return cut(v.Text)
}

func cut(text string) string {
	n := 0
	for i := range text {
		if n++; n > 60 {
			return text[:i] + "…"
		}
	}
	return text
}

func kindOf(v *value) string {
	switch v.Kind {
	case isText:
		switch {
		case v.Text == "":
			return "an empty text"
		case strings.Contains(v.Text, "\n"):
			return "a text of several lines"
		case strings.Contains(v.Text, "\r"):
			return `a text with a carriage return (\r)`
		case strings.HasSuffix(v.Text, " "), strings.HasSuffix(v.Text, "\t"):
			return "a text that ends with a blank or a tab"
		}
		return "a text"
	case isInt, isFloat:
		return "a number"
	case isBool:
		return "a boolean"
	case isNull:
		return "null"
	case isBytes:
		return "bytes ('…'; a text has double quotes)"
	}
	return "a " + string(v.Kind)
}
