package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// parse reads a file as plain data. expression says that it is more than
// that, and has to be evaluated.
func parse(name string, src []byte) (v *value, expression bool, problems Problems) {
	if src, problems = decode(name, src); problems != nil {
		return nil, false, problems
	}
	switch path.Ext(name) {
	case ".yaml", ".yml":
		v, problems = readYAML(name, src)
		return v, false, problems
	case ".json":
		if p, ok := notJSON(name, src); ok {
			return nil, false, Problems{p}
		}
	}
	if pos, ok := tooDeep(name, src); ok {
		return nil, false, Problems{{pos, "", fmt.Sprintf("nests deeper than %d levels", maxDepth)}}
	}
	f, err := parser.ParseFile(name, src)
	if err != nil {
		return nil, false, Problems{syntaxProblem(name, err)}
	}
	r := reader{file: name, json: path.Ext(name) == ".json"}
	v = r.readFile(f)
	return v, r.expression && len(r.problems) == 0, r.problems
}

// notJSON finds the first place where a file is not JSON. CUE, which reads it
// afterwards, takes more than JSON does.
func notJSON(name string, src []byte) (Problem, bool) {
	var any json.RawMessage
	err := json.Unmarshal(src, &any)
	if err == nil {
		return Problem{}, false
	}
	pos := Pos{File: name}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := src[:max(0, min(int(syntax.Offset)-1, len(src)))]
		pos.Line = 1 + bytes.Count(before, []byte("\n"))
		pos.Column = len(before) - bytes.LastIndexByte(before, '\n')
	}
	return Problem{pos, "", "this is not JSON: " + jsonMessage(err.Error(), src, syntax)}, true
}

func jsonMessage(text string, src []byte, at *json.SyntaxError) string {
	if at == nil || at.Offset < 1 || at.Offset > int64(len(src)) {
		return text
	}
	before := bytes.TrimSpace(src[:at.Offset-1])
	switch c := src[at.Offset-1]; {
	case c == '/' || c == '#':
		return "it has no comments; a .cue or .yaml file does"
	case (c == '}' || c == ']') && bytes.HasSuffix(before, []byte(",")):
		return fmt.Sprintf("a comma stands before this %c", c)
	case c == '\'':
		return "texts are written in double quotes"
	}
	return text
}

// syntaxProblem is the first thing that the parser stumbled over. What it
// reports after that mostly follows from the first.
func syntaxProblem(name string, err error) Problem {
	e := cueerrors.Errors(err)[0]
	for _, other := range cueerrors.Errors(err)[1:] {
		if before(other.Position(), e.Position()) {
			e = other
		}
	}
	format, args := e.Msg()
	return Problem{position(e.Position(), name), "", syntaxMessage(fmt.Sprintf(format, args...))}
}

func before(a, b token.Pos) bool {
	return a.IsValid() && b.IsValid() && a.Offset() < b.Offset()
}

var (
	missingBrace = regexp.MustCompile(`^expected '(.)', found 'EOF'$`)
	extraBrace   = regexp.MustCompile(`^expected (?:'EOF'|operand), found '([\]})])'$`)
	noField      = regexp.MustCompile(`^expected label or ':', found (?:'[A-Z]+' )?(.*)$`)
)

// syntaxMessage says in other words what the parser's say only to those who
// know its grammar.
func syntaxMessage(text string) string {
	if m := missingBrace.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("the file ends here and a %s is missing: something that was opened is not closed", m[1])
	}
	if m := extraBrace.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("found a %s that closes nothing, or a value is missing before it", m[1])
	}
	if m := noField.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("a field is written as name: value, with a colon; there is none before %s", m[1])
	}
	switch {
	case strings.Contains(text, "string literal not terminated"):
		return `a text begins here and does not end; close it with "`
	case text == "missing ',' in list literal":
		return "a comma is missing between two entries of a list"
	case text == "missing ',' in struct literal":
		return `a comma or a new line is missing between two fields; a name with a - or a space needs quotes, as in "my-app": {…}`
	case text == "unknown escape sequence":
		return `the \ before this begins no escape that there is; for the character itself write \\`
	}
	return text
}
