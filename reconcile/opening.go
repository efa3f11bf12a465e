package reconcile

import (
	"swage/edge"
	"swage/schema"
)

// Opening is a change of access that lets somebody reach a container who is in
// no group, and could not before.
type Opening struct {
	Container string `json:"container"` // project/container
	Why       string `json:"why"`
	At        string `json:"at"` // file:line:column of what asks for it
}

// staysOpen lists what is open although its project is closed: each with its
// project/name as the field.
func staysOpen(f *schema.Fleet, server string) []Origin {
	if f == nil {
		return nil
	}
	var out []Origin
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			if c.Server == server && c.StaysOpen {
				out = append(out, Origin{p.Name + "/" + c.Name, c.At("enable_proxy").String()})
			}
		}
	}
	return out
}

// openings are the changes of access that let somebody in who is in no group.
func openings(access []edge.AccessChange) (out []Opening) {
	for _, c := range access {
		if !c.Opens {
			continue
		}
		for _, ref := range c.Containers {
			out = append(out, Opening{ref, c.Words(), c.At})
		}
	}
	return out
}
