package schema

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
)

// chapters of the reference, in the order in which a reader meets them.
var chapters = []struct{ file, title string }{
	{"swage.cue", "swage.cue: the fleet"},
	{"server.cue", "servers/<server>.cue: one server"},
	{"project.cue", "projects/<project>/*: a project"},
	{"container.cue", "Containers"},
	{"alias.cue", "Aliases"},
	{"permissions.cue", "Permissions"},
	{"programs.cue", "Programs of the kit"},
	{"node.cue", "/etc/swage/agent.cue: the node file"},
	{"words.cue", "Words"},
}

const foreword = `# Reference

Every field of a fleet repository. This page is made from the schema itself
(` + "`go test ./schema -run Reference -update`" + `), whose files in ` + "`schema/*.cue`" + ` say the
same in CUE. A file may be CUE, YAML or JSON.

To check a repository with the stock cue command or in an editor, put the
schema into its cue.mod/ (schema.Install) and ask for one file at a time:

    cue vet -c projects/web/app.yaml swage.internal/schema -d '#File'
    cue export projects/web/app.cue | cue vet -c swage.internal/schema -d '#File' json: -

The definitions are #Swage for swage.cue, #Server for servers/, #File for
projects/, and #Node for the node file.
`

const afterword = `
## Access in a plan

` + "`swage plan --output json`, and `POST /api/v1/plan`, have for each server the list `access`" + `,
empty when nobody gains or loses anything. One that could not be made has
` + "`access_unknown`" + ` beside it, which says why. Each entry is a change:

| field | |
|---|---|
| ` + "`gains`" + ` | true: access is gained; false: it is lost |
| ` + "`opens`" + ` | true: somebody gains who is in no group, or in one that has every address |
| ` + "`subject.kind`" + ` | ` + "`everyone`, `ip`, `password`, `token`, `jwt`, `all` (several of these at once) or `firewall`" + ` (callers whom its rules let in, or refuse, from now on) |
| ` + "`subject.group`" + ` | the name of the group |
| ` + "`subject.who`" + ` | how its members are known, in words |
| ` + "`subject.ranges`" + ` | the addresses that gain or lose: not those that have the same by another group, or had it before |
| ` + "`subject.changed`" + ` | true: a group of this name had other credentials |
| ` + "`program`, `numbers`" + ` | as in a cell: ports of http and https, instances of others; ` + "`*`" + ` is all |
| ` + "`level`" + ` | up to which a program is gained, absent: in full; of a loss what is kept, absent: nothing |
| ` + "`containers`, `more`" + ` | as project/name; how many there are beside them, in a plan that would name more than 200,000 |
| ` + "`own_hosts`" + ` | true: the hosts of the containers themselves are meant, whose names stand nowhere in a plan |
| ` + "`hosts`" + ` | aliases and custom domains through which the change is felt as well, or alone; not listed for more than 100 containers |
| ` + "`path`, `target_path`, `exact`, `rest`" + ` | which part of the hosts, what ` + "`/`" + ` leads to there, that no other path is meant, that every other one is |
| ` + "`from`, `until`" + ` | bounds in time, from the expiry of an alias |
| ` + "`field`, `at`" + ` | what asks for it, and its file:line:column: in the new files, or in the old ones where something was taken away |

` + "`opens`" + ` beside ` + "`access`" + ` repeats what opens, an entry for each container.
`

// TestReference [F1] holds docs/reference.md to the schema; -update writes it.
func TestReference(t *testing.T) {
	all, err := shapes()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(foreword)
	for _, c := range chapters {
		fmt.Fprintf(&b, "\n## %s\n", c.title)
		for _, name := range order(t, c.file) {
			define(&b, all[name])
		}
	}
	b.WriteString(afterword)
	const file = "../docs/reference.md"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(file); err != nil || string(have) != b.String() {
		t.Errorf("docs/reference.md is not what the schema says; run go test ./schema -run Reference -update (%v)", err)
	}
}

// order is the definitions of a file as they stand in it.
func order(t *testing.T, file string) []string {
	t.Helper()
	src, err := definitions.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(file, src)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range f.Decls {
		if d, ok := d.(*ast.Field); ok {
			if name, _, _ := ast.LabelName(d.Label); strings.HasPrefix(name, "#") {
				names = append(names, name)
			}
		}
	}
	return names
}

func define(b *strings.Builder, s *shape) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n", s.name, s.doc)
	if s.kind == "" && len(s.options) == 0 {
		fmt.Fprintf(b, "\nTakes %s.\n", s.want)
	}
	if s.example != "" {
		fmt.Fprintf(b, "\nExample: `%s`\n", s.example)
	}
	if len(s.fields) == 0 {
		return
	}
	b.WriteString("\n| field | takes | default | |\n|---|---|---|---|\n")
	rows(b, "", s)
}

func rows(b *strings.Builder, prefix string, s *shape) {
	for _, m := range s.fields {
		inPlace := m.shape.kind == isStruct && m.shape.name == "" && len(m.shape.fields) > 0
		text := strings.ReplaceAll(m.doc, "\n", " ")
		if m.example != "" {
			text += " Example: `" + m.example + "`"
		}
		takes := m.wanted()
		if inPlace {
			takes = "the fields below"
		}
		byDefault := ""
		switch {
		case m.required:
			byDefault = "required"
		case m.byDefault != nil:
			byDefault = "`" + show(m.byDefault) + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", prefix+m.name, cell(linked(m.shape, takes)), byDefault, cell(text))
		if inPlace {
			rows(b, prefix+m.name+".", m.shape)
		}
	}
}

// linked is what a field takes, with a link to the definition of its parts.
func linked(s *shape, takes string) string {
	switch {
	case s.elem != nil && s.elem.name != "":
		return "a list of " + link(s.elem.name)
	case s.each != nil && s.each.name != "" && s.keys != nil && s.keys.name != "":
		return "a map of " + link(s.keys.name) + " to " + link(s.each.name)
	case s.name != "" && (s.kind == isStruct || len(s.options) > 0):
		return link(s.name)
	}
	return takes
}

func link(name string) string {
	return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(strings.TrimPrefix(name, "#")))
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// TestEveryFieldIsExplained: a doc comment for everything, an example for
// what does not say itself what it takes, and every example is right.
func TestEveryFieldIsExplained(t *testing.T) {
	all, err := shapes()
	if err != nil {
		t.Fatal(err)
	}
	var visit func(where string, s *shape)
	visit = func(where string, s *shape) {
		for _, m := range s.fields {
			at := where + "." + m.name
			if m.doc == "" && m.name != "type" {
				t.Errorf("%s has no comment", at)
			}
			explained := m.example != "" || m.shape.example != "" || m.byDefault != nil || m.shape.kind == isStruct ||
				strings.HasPrefix(m.wanted(), `"`) || m.wanted() == "true or false"
			if !explained {
				t.Errorf("%s has no example", at)
			}
			example(t, all, at, m.example, m.shape)
			if m.shape.name == "" {
				visit(at, m.shape)
			}
		}
	}
	for name, s := range all {
		if s.doc == "" {
			t.Errorf("%s has no comment", name)
		}
		example(t, all, name, s.example, s)
		visit(name, s)
	}
}

func example(t *testing.T, all map[string]*shape, where, text string, s *shape) {
	t.Helper()
	if text == "" {
		return
	}
	e, err := parser.ParseExpr("example", text)
	if err != nil {
		t.Errorf("the example of %s: %v", where, err)
		return
	}
	r := reader{file: "example"}
	v := r.expr("", e, 1)
	c := &checker{shapes: all}
	if v == nil || !c.walk(spot{v.Pos, where, v}, s, s.wanted(), false) {
		t.Errorf("the example of %s is refused: %v", where, c.problems)
	}
}
