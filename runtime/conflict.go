package runtime

import (
	"slices"
	"strings"
)

// Conflict is an object of the engine that carries the mark of the scope and is
// not taken for one of its own. It is reported and left as it is, and nothing
// is done that could only be right if it were not there.
type Conflict struct {
	ID            ID     // that it carries; empty: lost
	Project, Name string // that it carries; empty: lost
	Object        string // in the words of the engine: "instance web-1 in project swage-web"
	// Lost: some of ID, Project and Name are gone, so it may be any container that
	// agrees with the rest. Otherwise it is a copy of the one with the ID.
	Lost bool
	Why  string // for people, with what to do
}

// Ref is the name that people use, as far as it is known.
func (c Conflict) Ref() string { return c.Project + "/" + c.Name }

// IsCopyOf reports whether the object carries an ID that something else has.
func (c Conflict) IsCopyOf(id ID) bool { return id != "" && c.ID == id }

// MayBe reports whether the object may be the one that a container asks for.
func (c Conflict) MayBe(w Container) bool {
	if c.ID != "" && w.ID != "" {
		return c.ID == w.ID
	}
	return c.Lost && (c.Project == "" || c.Project == w.Project) && (c.Name == "" || c.Name == w.Name)
}

// ConflictOf is the first conflict about an ID.
func (s *State) ConflictOf(id ID) (Conflict, bool) {
	i := slices.IndexFunc(s.Conflicts, func(c Conflict) bool { return c.IsCopyOf(id) })
	if i < 0 {
		return Conflict{}, false
	}
	return s.Conflicts[i], true
}

func sortConflicts(list []Conflict) {
	slices.SortFunc(list, func(a, b Conflict) int { return strings.Compare(a.Object, b.Object) })
}
