package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue/token"
)

// Pos is a place in a file of the fleet repository. Line and Column count
// from 1; a zero Line means the file as a whole.
type Pos struct {
	File         string
	Line, Column int
}

func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

func position(p token.Pos, file string) Pos {
	if !p.IsValid() || p.Filename() != file {
		return Pos{File: file}
	}
	return Pos{file, p.Line(), p.Column()}
}

// Problem is one thing that an author has to mend.
type Problem struct {
	Pos     Pos
	Path    string // of the field, as in containers.web.state; may be empty
	Message string
}

func (p Problem) String() string { return p.Pos.String() + ": " + p.text() }

// Warning is the line for a problem that stops nothing.
func (p Problem) Warning() string { return p.Pos.String() + ": warning: " + p.text() }

func (p Problem) text() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// Problems is every problem of a repository, sorted by place. It is the error
// of Load.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders by place and drops what is said twice.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File),
			a.Pos.Line-b.Pos.Line, a.Pos.Column-b.Pos.Column,
			strings.Compare(a.Path, b.Path))
	})
	return slices.Compact(ps)
}
