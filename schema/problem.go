package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"cuelang.org/go/cue/token"
)

// Pos is a place in a file of the fleet repository. Line and Column count
// from 1; a zero Line means the file as a whole.
type Pos struct {
	File         string
	Line, Column int
}

// String never writes what a terminal obeys, nor a second line: names of files
// come from authors.
func (p Pos) String() string {
	file := p.File
	if !printable(file) {
		file = strconv.Quote(file)
	}
	if p.Line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d:%d", file, p.Line, p.Column)
}

// printable reports whether a name can be written as it is.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
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

func (p Problem) String() string {
	if p.Pos.File == "" {
		return p.text() // of the repository as a whole
	}
	return p.Pos.String() + ": " + p.text()
}

// Warning is the line for a problem that stops nothing.
func (p Problem) Warning() string { return p.Pos.String() + ": warning: " + p.text() }

func (p Problem) text() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// maxMessage bounds in bytes what is said of one problem.
const maxMessage = 2000

// tell makes a Problem, whose parts are cut to what a person reads.
func tell(pos Pos, path, format string, args ...any) Problem {
	return Problem{pos, clip(path, maxPath), clip(fmt.Sprintf(format, args...), maxMessage)}
}

// clip cuts a text after n bytes, between two characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// Problems is what is wrong with a repository, sorted by place: the first of
// them, and how many more there are. It is the error of Load.
type Problems []Problem

// maxShown is how many problems, and how many warnings, of a repository are
// told; maxTold how many are collected, and with it the work that goes into
// saying them.
const (
	maxShown = 100
	maxTold  = 2000
)

// shown is the beginning of what was found, sorted, and the number of the rest.
func (ps Problems) shown() Problems {
	ps = ps.sorted()
	n := len(ps)
	if n <= maxShown {
		return ps
	}
	more := fmt.Sprint(n - maxShown)
	if n >= maxTold {
		more = "at least " + more
	}
	return append(ps[:maxShown:maxShown], Problem{Message: "and " + more + " more; mend these first"})
}

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
