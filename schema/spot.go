package schema

import (
	"strconv"
)

// spot is a part of a file together with its path, so that whatever is found
// wrong with it later can be said at the right line.
type spot struct {
	pos  Pos
	path string
	v    *value // nil when the author left it out
}

// in is the part at names, which are fields (string) or list items (int).
// Where a part was left out the position stays at what surrounds it.
func (s spot) in(names ...any) spot {
	for _, name := range names {
		switch name := name.(type) {
		case string:
			f, ok := s.v.field(name)
			s = spot{s.pos, join(s.path, name), f.Value}
			if ok {
				s.pos = f.Value.Pos
			}
		case int:
			s.path += "[" + strconv.Itoa(name) + "]"
			if s.v == nil || s.v.Kind != isList || name >= len(s.v.Items) {
				s.v = nil
				continue
			}
			s.v = s.v.Items[name]
			s.pos = s.v.Pos
		}
	}
	return s
}

// label is in(name), placed at the name instead of the value.
func (s spot) label(name string) spot {
	at := s.in(name)
	if f, ok := s.v.field(name); ok {
		at.pos = f.Pos
	}
	return at
}

// plainName reports whether CUE takes a name without quotes.
func plainName(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '$'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return name != ""
}

// join adds a field to a path, quoted where CUE would quote it.
func join(path, name string) string {
	if !plainName(name) {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// At is where a field of the container stands, or what surrounds it when the
// author left it out.
func (c Container) At(names ...string) Pos { return c.own.at(c.Pos, names) }

// At is where a field of the project stands, or the project.
func (p Project) At(names ...string) Pos { return p.own.at(p.Pos, names) }

// At is where a field of the alias stands, or the alias.
func (a Alias) At(names ...string) Pos { return a.own.at(a.Pos, names) }

// At is where a field of the server's file stands, or the file.
func (s Server) At(names ...string) Pos { return s.own.at(s.Pos, names) }

// At is where a field of swage.cue stands, or the file.
func (f *Fleet) At(names ...string) Pos { return f.own.at(f.own.pos, names) }

// at is where the field at names stands; what surrounds it, or else whole, when
// the author left it out.
func (s spot) at(whole Pos, names []string) Pos {
	for i, name := range names {
		if i == len(names)-1 {
			if at := s.label(name); at.v != nil {
				return at.pos
			}
			break
		}
		s = s.in(name)
	}
	if s.v == nil || len(names) < 2 {
		return whole
	}
	return s.pos
}
