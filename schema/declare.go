package schema

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
)

// Field is one field of a new declaration. Value is a string, an int, a bool,
// or Fields.
type Field struct {
	Name  string
	Value any
}

// Fields are in the order in which they are written.
type Fields []Field

// Declare adds an object at path to the end of a CUE file; without a path its
// fields are added themselves. It only adds text, with the line ends that the
// file has: every byte of src stays as it is. An empty src makes a new file. It
// does not check the result: Load does.
func Declare(name string, src []byte, path []string, fields Fields) ([]byte, error) {
	if filepath.Ext(name) != ".cue" {
		return nil, fmt.Errorf("%s: only CUE files are edited; name a .cue file", name)
	}
	if _, err := parser.ParseFile(name, withoutMark(src)); err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	var b strings.Builder
	for _, p := range path {
		b.WriteString(label(p) + ": ")
	}
	var err error
	if len(path) == 0 {
		err = writeFields(&b, fields)
	} else {
		err = write(&b, fields)
	}
	if err != nil {
		return nil, err
	}
	added, err := format.Source([]byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(src) == 0 {
		return added, nil
	}
	newline := []byte("\n")
	if bytes.Contains(src, []byte("\r\n")) {
		newline = []byte("\r\n")
		added = bytes.ReplaceAll(added, []byte("\n"), newline)
	}
	out := bytes.Clone(src)
	if !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, newline...)
	}
	return slices.Concat(out, newline, added), nil
}

func label(name string) string { return cue.MakePath(cue.Str(name)).String() }

func write(b *strings.Builder, v any) error {
	switch v := v.(type) {
	case string:
		b.WriteString(literal.String.Quote(v))
	case int, bool:
		fmt.Fprint(b, v)
	case Fields:
		b.WriteString("{")
		if len(v) > 0 {
			b.WriteString("\n")
		}
		if err := writeFields(b, v); err != nil {
			return err
		}
		b.WriteString("}")
	default:
		return fmt.Errorf("a field cannot be a %T", v)
	}
	return nil
}

func writeFields(b *strings.Builder, fields Fields) error {
	for _, f := range fields {
		b.WriteString(label(f.Name) + ": ")
		if err := write(b, f.Value); err != nil {
			return err
		}
		b.WriteString("\n")
	}
	return nil
}
