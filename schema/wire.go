package schema

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The wire between a process and the one that parses for it. Numbers are
// uvarints, texts are their length and their bytes; a value is its kind, its
// place and its parts. Readers are given what they may take at most, so that
// neither side can make the other take more.

var errWire = errors.New("the answer of the evaluation makes no sense")

var kinds = []kind{isNull, isBool, isInt, isFloat, isText, isBytes, isStruct, isList}

func kindCode(k kind) byte {
	for i, known := range kinds {
		if k == known {
			return byte(i)
		}
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendPos writes a place. That of the file itself, which nearly all have, is
// written without its name.
func appendPos(b []byte, p Pos, file string) []byte {
	other := ""
	if p.File != file {
		other = p.File
	}
	b = appendText(b, other)
	b = binary.AppendUvarint(b, uint64(max(p.Line, 0)))
	return binary.AppendUvarint(b, uint64(max(p.Column, 0)))
}

func appendValue(b []byte, v *value, file string) []byte {
	b = append(b, kindCode(v.Kind))
	b = appendPos(b, v.Pos, file)
	switch v.Kind {
	case isStruct:
		b = binary.AppendUvarint(b, uint64(len(v.Fields)))
		for _, f := range v.Fields {
			b = appendText(b, f.Name)
			b = appendPos(b, f.Pos, file)
			b = appendValue(b, f.Value, file)
		}
	case isList:
		b = binary.AppendUvarint(b, uint64(len(v.Items)))
		for _, item := range v.Items {
			b = appendValue(b, item, file)
		}
	default:
		b = appendText(b, v.Text)
	}
	return b
}

// incoming reads what the other side wrote.
type incoming struct {
	*bufio.Reader
	left  int64 // bytes of memory that it may still come to
	names map[string]string
}

func (w *incoming) take(n int64) error {
	if w.left -= n; w.left < 0 {
		return errWire
	}
	return nil
}

func (w *incoming) number() (uint64, error) { return binary.ReadUvarint(w) }

func (w *incoming) text() (string, error) {
	n, err := w.number()
	if err != nil {
		return "", err
	}
	if n > uint64(max(w.left, 0)) {
		return "", errWire
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(w, b); err != nil {
		return "", err
	}
	return string(b), w.take(int64(n))
}

// name is a text of which there are many alike.
func (w *incoming) name() (string, error) {
	s, err := w.text()
	if err != nil || len(s) > 64 {
		return s, err
	}
	if known, ok := w.names[s]; ok {
		return known, nil
	}
	if w.names == nil {
		w.names = map[string]string{}
	}
	if len(w.names) < 1000 {
		w.names[s] = s
	}
	return s, nil
}

func (w *incoming) pos(file string) (p Pos, err error) {
	if p.File, err = w.name(); err != nil {
		return p, err
	}
	if p.File == "" {
		p.File = file
	}
	line, err := w.number()
	if err != nil {
		return p, err
	}
	column, err := w.number()
	p.Line, p.Column = int(line), int(column)
	return p, err
}

func (w *incoming) value(file string, depth int) (*value, error) {
	if err := w.take(scalarWeight); err != nil || depth > maxDepth+2 {
		return nil, errWire
	}
	code, err := w.ReadByte()
	if err != nil {
		return nil, err
	}
	if int(code) >= len(kinds) {
		return nil, errWire
	}
	v := &value{Kind: kinds[code]}
	if v.Pos, err = w.pos(file); err != nil {
		return nil, err
	}
	switch v.Kind {
	case isStruct:
		n, err := w.parts(structWeight)
		if err != nil {
			return nil, err
		}
		v.Fields = make([]field, n)
		for i := range v.Fields {
			f := &v.Fields[i]
			if f.Name, err = w.name(); err != nil {
				return nil, err
			}
			if f.Pos, err = w.pos(file); err != nil {
				return nil, err
			}
			if f.Value, err = w.value(file, depth+1); err != nil {
				return nil, err
			}
		}
	case isList:
		n, err := w.parts(0)
		if err != nil {
			return nil, err
		}
		v.Items = make([]*value, n)
		for i := range v.Items {
			if v.Items[i], err = w.value(file, depth+1); err != nil {
				return nil, err
			}
		}
	default:
		if v.Text, err = w.text(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// parts is the number of fields or items that follow, each of which will take
// scalarWeight.
func (w *incoming) parts(own int64) (int, error) {
	if err := w.take(own); err != nil {
		return 0, err
	}
	n, err := w.number()
	if err != nil {
		return 0, err
	}
	if n > uint64(max(w.left, 0))/scalarWeight {
		return 0, errWire
	}
	return int(n), nil
}

var errHeavy = errors.New("the answers of the evaluation weigh too much")

// until reads what the process says while it works, up to its answers. at is
// the file that it was at.
func (w *incoming) until(files int) (at int, err error) {
	for {
		what, err := w.ReadByte()
		if err != nil {
			return at, err
		}
		if what == outputAnswers {
			return at, nil
		}
		n, err := w.number()
		if err != nil {
			return at, err
		}
		if n >= uint64(files) {
			return at, errWire
		}
		switch at = int(n); what {
		case outputBegins:
		case outputHeavy:
			return at, errHeavy
		default:
			return at, errWire
		}
	}
}

// Bits of an answer.
const (
	answerValue      = 1 << iota // a value follows
	answerExpression             // the file has expressions
	answerDeferred               // which were not evaluated, since lib/ has problems
	answerUntold
)

// answer is what is said of one file.
type answer struct {
	value      *value
	problems   Problems
	expression bool
	deferred   bool
	untold     bool // enough was told before: its problems were left out
}

func appendAnswer(b []byte, a answer, file string) ([]byte, error) {
	flags := byte(0)
	if a.value != nil {
		flags |= answerValue
	}
	if a.expression {
		flags |= answerExpression
	}
	if a.deferred {
		flags |= answerDeferred
	}
	if a.untold {
		flags |= answerUntold
	}
	var problems []byte
	if len(a.problems) > 0 {
		var err error
		if problems, err = json.Marshal(a.problems); err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
	}
	b = append(b, flags)
	b = append(binary.AppendUvarint(b, uint64(len(problems))), problems...)
	if a.value != nil {
		b = appendValue(b, a.value, file)
	}
	return b, nil
}

func (w *incoming) answer(file string) (a answer, err error) {
	flags, err := w.ReadByte()
	if err != nil {
		return a, err
	}
	a.expression, a.deferred = flags&answerExpression != 0, flags&answerDeferred != 0
	a.untold = flags&answerUntold != 0
	problems, err := w.text()
	if err != nil {
		return a, err
	}
	if problems != "" {
		if err := json.Unmarshal([]byte(problems), &a.problems); err != nil {
			return a, errWire
		}
	}
	if flags&answerValue != 0 {
		a.value, err = w.value(file, 0)
	}
	return a, err
}
