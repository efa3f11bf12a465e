package reconcile

import (
	"strings"

	"swage/runtime"
)

// conflicts reports what of the engine carries the mark and is left as it is.
// What is not done for its sake is held; see mayBeThere and contested.
func (d *differ) conflicts() {
	for _, c := range d.have.Conflicts {
		d.plan.Conflicts = append(d.plan.Conflicts, Conflict{strings.Trim(c.Ref(), "/"), c.Why})
	}
}

// mayBeThere says why a container that is not there is not made: something that
// lost its id or its name may be it. Empty: nothing may.
func (d *differ) mayBeThere(w runtime.Container) string {
	for _, c := range d.have.Conflicts {
		if c.Name+string(c.ID) != "" && c.MayBe(w) {
			return c.Why
		}
	}
	return ""
}

// contested says why something is not deleted: what else carries its id would be
// taken for it afterwards, and be deleted, too. Empty: nothing does.
func (d *differ) contested(id runtime.ID) string {
	if c, ok := d.have.ConflictOf(id); ok {
		return c.Why
	}
	return ""
}
