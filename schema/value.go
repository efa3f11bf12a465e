package schema

// value is what an author wrote, as plain data: a tree in which every part
// knows its place. CUE, YAML and JSON files all become one, and nothing of
// CUE outlives the reading of a file: a kept CUE context grows without bound.
//
// A value is never written after the file was read, so that caches may share
// it. Its fields are exported because it travels as JSON from the process
// that evaluates expressions.
type value struct {
	Kind   kind     `json:"k"`
	Pos    Pos      `json:"p"`
	Text   string   `json:"t,omitempty"` // a string; a number or boolean as JSON writes it
	Fields []field  `json:"f,omitempty"` // of a struct, in the order of the file
	Items  []*value `json:"i,omitempty"` // of a list

	places map[string]int // of Fields; only where they are many
}

// index makes looking up fields of large structs cheap. It is called once,
// before the value is shared.
func (v *value) index() {
	for _, item := range v.Items {
		item.index()
	}
	if len(v.Fields) > 16 {
		v.places = make(map[string]int, len(v.Fields))
	}
	for i, f := range v.Fields {
		if v.places != nil {
			v.places[f.Name] = i
		}
		f.Value.index()
	}
}

// field is one entry of a struct.
type field struct {
	Name  string `json:"n"`
	Pos   Pos    `json:"p"` // of the label
	Value *value `json:"v"`
}

type kind string

const (
	isNull   kind = "null"
	isBool   kind = "bool"
	isInt    kind = "int"
	isFloat  kind = "float"
	isText   kind = "string"
	isBytes  kind = "bytes"
	isStruct kind = "struct"
	isList   kind = "list"
)

func (v *value) scalar() bool { return v.Kind != isStruct && v.Kind != isList }

// field finds an entry of a struct. A nil value has none.
func (v *value) field(name string) (field, bool) {
	if v == nil {
		return field{}, false
	}
	if v.places != nil {
		i, ok := v.places[name]
		if !ok {
			return field{}, false
		}
		return v.Fields[i], true
	}
	for _, f := range v.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return field{}, false
}

// get is the value of an entry, nil when there is none.
func (v *value) get(name string) *value {
	f, _ := v.field(name)
	return f.Value
}

// plain is v as encoding/json would decode it, without positions.
func (v *value) plain() any {
	switch v.Kind {
	case isText:
		return v.Text
	case isBytes:
		return []byte(v.Text)
	case isBool:
		return v.Text == "true"
	case isInt, isFloat:
		return number(v.Text)
	case isList:
		out := make([]any, len(v.Items))
		for i, item := range v.Items {
			out[i] = item.plain()
		}
		return out
	case isStruct:
		out := make(map[string]any, len(v.Fields))
		for _, f := range v.Fields {
			out[f.Name] = f.Value.plain()
		}
		return out
	}
	return nil
}

// number is a JSON number as it was written.
type number string

func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }
