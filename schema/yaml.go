package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML turns a YAML file into a value. Only data is taken: no anchors,
// merges or tags, which hide what a field holds and can explode.
func readYAML(name string, src []byte) (*value, Problems) {
	y := yamlReader{file: name}
	if pos, ok := yamlTab(name, src); ok {
		y.problem(pos, "", "a tab indents this line; YAML is indented with spaces only")
		return nil, y.problems
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(src))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return &value{Kind: isStruct, Pos: Pos{name, 1, 1}}, nil
	} else if err != nil {
		y.syntax(err)
		return nil, y.problems
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		y.problem(Pos{File: name}, "", "holds more than one YAML document; put the others into files of their own")
		return nil, y.problems
	}
	v := y.node("", doc.Content[0], 1)
	if len(y.problems) > 0 {
		return nil, y.problems
	}
	if v.Kind == isNull {
		v = &value{Kind: isStruct, Pos: Pos{name, 1, 1}}
	}
	return v, nil
}

type yamlReader struct {
	file     string
	problems Problems
}

func (y *yamlReader) problem(pos Pos, path, format string, args ...any) {
	if len(y.problems) <= maxProblems {
		y.problems = append(y.problems, tell(pos, path, format, args...))
	}
}

var (
	yamlLine      = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)
	yamlTabIndent = regexp.MustCompile(`(?m)^ *\t[ \t]*[^ \t\r\n#]`)
)

// yamlTab finds a tab in an indentation. Inside a block of text it is allowed
// by YAML; there the parser is asked first.
func yamlTab(name string, src []byte) (Pos, bool) {
	at := yamlTabIndent.FindIndex(src)
	if at == nil || yaml.Unmarshal(src, new(yaml.Node)) == nil {
		return Pos{}, false
	}
	line := 1 + bytes.Count(src[:at[0]], []byte("\n"))
	return Pos{name, line, 1 + bytes.IndexByte(src[at[0]:], '\t')}, true
}

func (y *yamlReader) syntax(err error) {
	pos, text := Pos{File: y.file}, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		pos.Line, _ = strconv.Atoi(m[1])
		pos.Column, text = 1, m[2]
	}
	if text == "did not find expected key" {
		text = "in the block that begins here, some line is not indented like the others"
	}
	y.problem(pos, "", "this is not YAML: %s", text)
}

func (y *yamlReader) node(path string, n *yaml.Node, depth int) *value {
	v := &value{Kind: isNull, Pos: Pos{y.file, n.Line, n.Column}}
	switch {
	case depth > maxDepth:
		y.problem(v.Pos, path, "nests deeper than %d levels", maxDepth)
		return v
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		y.problem(v.Pos, path, "anchors (&) and aliases (*) are not read; write the value out, or share it through lib/ in a .cue file")
		return v
	}
	switch n.Kind {
	case yaml.MappingNode:
		v.Kind = isStruct
		seen := map[string]Pos{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			pos := Pos{y.file, key.Line, key.Column}
			if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.ShortTag() == "!!merge" {
				y.problem(pos, path, "a key must be a plain text")
				continue
			}
			at := join(path, key.Value)
			if len(at) > maxPath {
				y.problem(pos, at, "has names that are longer than %d bytes together", maxPath)
				continue
			}
			if first, ok := seen[key.Value]; ok {
				y.problem(pos, at, "is written twice; the first is at %s", first)
				continue
			}
			seen[key.Value] = pos
			v.Fields = append(v.Fields, field{key.Value, pos, y.node(at, n.Content[i+1], depth+1)})
		}
	case yaml.SequenceNode:
		v.Kind = isList
		for i, item := range n.Content {
			v.Items = append(v.Items, y.node(fmt.Sprintf("%s[%d]", path, i), item, depth+1))
		}
	case yaml.ScalarNode:
		y.scalar(path, n, v)
	}
	return v
}

func (y *yamlReader) scalar(path string, n *yaml.Node, v *value) {
	switch n.ShortTag() {
	case "!!null":
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			v.Kind, v.Text = isBool, strconv.FormatBool(b)
		}
	case "!!int", "!!float":
		text, whole, ok := decimal(strings.TrimPrefix(n.Value, "+"))
		if strings.HasPrefix(n.Value, "-") {
			text, whole, ok = decimal(n.Value[1:])
			text = "-" + text
		}
		if !ok { // such as .inf or 0777
			v.Kind, v.Text = isText, n.Value
			return
		}
		v.Kind, v.Text = isFloat, text
		if whole {
			v.Kind = isInt
		}
	case "!!str", "!!timestamp":
		v.Kind, v.Text = isText, n.Value
	default:
		y.problem(v.Pos, path, "the tag %s is not read; write the value without it", n.Tag)
	}
}
