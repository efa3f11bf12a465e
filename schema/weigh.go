package schema

import (
	"fmt"
	"strings"
)

// What a repository comes to is bounded before it is taken into memory: it is
// weighed where it was parsed. The weights are about what the values, and what
// a Fleet holds for them, take; TestWeight compares them with the heap.
const (
	scalarWeight    = 150
	structWeight    = 300 // and what it is decoded into
	containerWeight = 2000
	aliasWeight     = 1000
)

// weigh is about how many bytes of memory the value of a file comes to.
func weigh(name string, v *value) int64 {
	if v == nil {
		return 0
	}
	n := v.weight()
	if strings.HasPrefix(name, "projects/") {
		for _, f := range v.Fields {
			switch f.Name {
			case "containers":
				n += int64(len(f.Value.Fields)) * containerWeight
			case "aliases":
				n += int64(len(f.Value.Fields)) * aliasWeight
			}
		}
	}
	return n
}

func (v *value) weight() int64 {
	n := int64(scalarWeight + 2*len(v.Text))
	if v.Kind == isStruct {
		n += structWeight
	}
	for _, f := range v.Fields {
		n += int64(2*len(f.Name)) + f.Value.weight()
	}
	for _, item := range v.Items {
		n += item.weight()
	}
	return n
}

// tooHeavy is said of the file with which the repository passes its limit.
func tooHeavy(name string, limit int64) Problem {
	return Problem{Pos{File: name}, "", fmt.Sprintf("with this file the repository comes to more than %s of memory once it is read; declare less in it, or raise loaded_bytes in the node file", bytesText(limit))}
}

// fileWeight is what is remembered of a file whatever is in it.
const fileWeight = 500

// weight counts what is remembered of a file.
func (u *unit) weight() int64 {
	n := int64(fileWeight + len(u.name))
	for _, p := range u.problems {
		n += int64(100 + len(p.Path) + len(p.Message))
	}
	return n + u.loaded
}
