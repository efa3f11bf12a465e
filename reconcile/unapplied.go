package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"swage/schema"
)

// NotApplied lists what a fleet asks for and this version only checks, so that
// nobody relies on it: each field once, where it is first asked for. It shrinks
// until it is gone.
func NotApplied(f *schema.Fleet) schema.Problems {
	var out schema.Problems
	more := map[string]int{} // by field
	say := func(asked bool, pos schema.Pos, path, field string) {
		if !asked {
			return
		}
		if more[field]++; more[field] == 1 {
			out = append(out, schema.Problem{Pos: pos, Path: path, Message: field})
		}
	}
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			at := func(asked bool, path, field string) { say(asked, c.Pos, "containers."+c.Name+"."+path, field) }
			if c.Permissions == nil {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(c.Permissions.Groups)) {
				at(c.Permissions.Groups[name].Ranges == nil, "permissions.groups."+name, "group")
			}
			for _, group := range slices.Sorted(maps.Keys(c.Permissions.Cells)) {
				cells := c.Permissions.Cells[group]
				for _, program := range slices.Sorted(maps.Keys(cells)) {
					// Until then such a cell allows nothing.
					at(cells[program].Level != "", "permissions.permissions."+group+"."+program+".level", "level")
				}
			}
		}
	}
	for i := range out {
		others := ""
		if n := more[out[i].Message] - 1; n > 0 {
			others = fmt.Sprintf(", here and in %d other places", n)
		}
		out[i].Message = "is checked, and not applied by this version of swage" + others
	}
	return out
}
