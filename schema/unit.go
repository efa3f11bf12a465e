package schema

import (
	"strings"
	"sync/atomic"

	"cuelang.org/go/cue/parser"
)

// unit is one file and all that is known of it without looking at others. It
// is not written after check, so that a Loader may hand it to later loads.
type unit struct {
	name string
	size int64
	hash string // of its content; empty: not all is known, and it is read anew

	expression bool   // it was evaluated
	context    string // digest of lib/, which its value was made from, too
	loaded     int64  // weight of v

	v        *value // nil: it could not be read
	problems Problems
	checked  bool

	swage       *declared[rawSwage]
	server      *declared[rawServer]
	project     *declared[rawProject]
	permissions *declared[rawPermissions]
	containers  []declared[rawContainer] // in the order of the file
	aliases     []declared[rawAlias]
}

// declared is an object with the place of its declaration. A broken one has
// problems of its own: only its name counts.
type declared[T any] struct {
	spot
	name   string
	label  Pos // of its name
	raw    T
	broken bool
}

// at is where the object as a whole is declared.
func (d declared[T]) at() spot { return spot{d.label, d.path, d.v} }

func (u *unit) refused(format string, args ...any) *unit {
	return &unit{name: u.name, size: u.size, checked: true, problems: Problems{tell(Pos{File: u.name}, "", format, args...)}}
}

// take is a unit with what parsing or evaluating a file gave.
func (u *unit) take(a answer) *unit {
	u.v, u.problems, u.expression = a.value, a.problems, a.expression
	u.loaded = weigh(u.name, a.value)
	// What they would say follows from the problems of lib/, and is told there.
	u.checked = isLib(u.name) || a.deferred
	return u
}

// parseFile takes a file as far as it goes without evaluation.
func parseFile(name string, src []byte) (a answer) {
	if !isLib(name) {
		a.value, a.expression, a.problems = parse(name, src)
		return a
	}
	if src, a.problems = decode(name, src); a.problems != nil {
		return a
	}
	if pos, ok := tooDeep(name, src); ok {
		a.problems = Problems{tell(pos, "", "nests deeper than %d levels", maxDepth)}
	} else if _, err := parser.ParseFile(name, src); err != nil {
		a.problems = Problems{syntaxProblem(name, err)}
	} else if name == moduleName {
		a.problems = checkModule(src)
	}
	return a
}

// check holds the file to the schema and takes what it declares. told counts
// the problems of all files: past maxTold none is added.
func (u *unit) check(shapes map[string]*shape, told *atomic.Int64) {
	if u.checked {
		return
	}
	u.checked = true
	if len(u.problems) > maxProblems {
		u.problems = append(u.problems[:maxProblems:maxProblems], Problem{Pos{File: u.name}, "", "has more problems than these; mend them first"})
	}
	if u.v == nil {
		return
	}
	u.v.index()
	c := &checker{shapes: shapes, problems: u.problems, told: told}
	file := spot{Pos{File: u.name}, "", nil}
	dir, rest, _ := strings.Cut(u.name, "/")
	top := spot{Pos{u.name, 1, 1}, "", u.v}
	switch dir {
	case "servers":
		server := stem(rest)
		u.server = &declared[rawServer]{spot: top, name: server, label: file.pos}
		ok := c.name(file, server, shapes["#Label"])
		u.server.broken = !c.check(top, "#Server", &u.server.raw) || !ok
	case "projects":
		project, _, _ := strings.Cut(rest, "/")
		if c.name(file, project, shapes["#ProjectName"]) {
			u.checkProject(c, top)
		}
	default:
		u.swage = &declared[rawSwage]{spot: top, label: file.pos}
		u.swage.broken = !c.check(top, "#Swage", &u.swage.raw)
	}
	u.problems = c.problems
	if c.dropped {
		u.hash = ""
	}
}

// checkProject goes through #File by hand, so that one object with a problem
// does not hide the others.
func (u *unit) checkProject(c *checker, top spot) {
	if u.v.Kind != isStruct {
		c.add(top, "found %s, want a struct { … }", show(u.v))
		return
	}
	s := c.shapes["#File"]
	for _, f := range u.v.Fields {
		at := spot{f.Value.Pos, f.Name, f.Value}
		switch f.Name {
		case "project":
			u.project = &declared[rawProject]{spot: at, label: f.Pos}
			u.project.broken = !c.check(at, "#Project", &u.project.raw)
		case "permissions":
			u.permissions = &declared[rawPermissions]{spot: at, label: f.Pos}
			u.permissions.broken = !c.check(at, "#Permissions", &u.permissions.raw)
		case "containers":
			u.containers = each[rawContainer](c, at, "#ContainerName", "#Container")
		case "aliases":
			u.aliases = each[rawAlias](c, at, "#AliasName", "#Alias")
		default:
			c.add(spot{f.Pos, join("", f.Name), nil}, "there is no such field%s", didYouMean(f.Name, s.names()))
		}
	}
}

// each checks the entries of a map one by one.
func each[T any](c *checker, at spot, key, def string) []declared[T] {
	if at.v.Kind != isStruct {
		c.add(at, "found %s, want a struct { … } of names", show(at.v))
		return nil
	}
	var out []declared[T]
	for _, f := range at.v.Fields {
		path := join(at.path, f.Name)
		d := declared[T]{spot: spot{f.Value.Pos, path, f.Value}, name: f.Name, label: f.Pos}
		ok := c.name(spot{f.Pos, path, nil}, f.Name, c.shapes[key])
		d.broken = !c.check(d.spot, def, &d.raw) || !ok
		out = append(out, d)
	}
	return out
}
