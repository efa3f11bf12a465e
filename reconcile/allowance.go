package reconcile

import (
	"context"
	"io/fs"
	"slices"

	"swage/runtime"
	"swage/schema"
)

// Allowance is a commit whose message allows deletions, by the trailer
// "Swage-Allow-Delete: [server] n". It counts for the deletions that the commit
// itself brings to that server, never for those that were held before.
type Allowance struct {
	Server string // empty: the only one of the fleet
	Max    int
	// Before is the tree of the commit's first parent, nil where that is not at
	// hand; After is its own.
	Before, After fs.FS
}

// maxAllowances bounds the commits that are compared with their parents, the
// newest first.
const maxAllowances = 20

// deletable are the containers of this server whose deletion the commits
// themselves allow, by id and, of those without one, by project/name. A commit that
// cannot be read allows nothing.
func (a *Agent) deletable(ctx context.Context, list []Allowance) map[string]bool {
	out := map[string]bool{}
	for _, x := range list[:min(len(list), maxAllowances)] {
		if x.Before == nil || x.Server != "" && x.Server != a.Server {
			continue
		}
		loader := &schema.Loader{Limits: a.Loader.Limits}
		before, err := loader.Load(ctx, x.Before)
		if err != nil {
			continue
		}
		after, err := loader.Load(ctx, x.After)
		if err != nil || x.Server == "" && len(after.Servers) > 1 {
			continue
		}
		gone := undeclared(before, after, a.Server)
		if len(gone) > x.Max {
			continue
		}
		for _, key := range gone {
			out[key] = true
		}
	}
	return out
}

// undeclared are the containers of a server that a fleet declares and another one
// does not declare any more, on any server.
func undeclared(before, after *schema.Fleet, server string) (out []string) {
	still := map[string]bool{}
	for _, p := range after.Projects {
		for _, c := range p.Containers {
			still[c.ID], still[p.Name+"/"+c.Name] = true, true
		}
	}
	for _, p := range before.Projects {
		for _, c := range p.Containers {
			key := c.ID
			if key == "" {
				key = p.Name + "/" + c.Name
			}
			if c.Server == server && !still[key] {
				out = append(out, key)
			}
		}
	}
	return out
}

// replaced reports whether a commit takes away every container of this server,
// of several, whatever it adds. What a pass creates would hide that from the next
// one, so those that are held for it are marked; see runtime.Container.Replaced.
func (d *differ) replaced() bool {
	return len(d.have.Containers) > 1 &&
		!slices.ContainsFunc(d.have.Containers, func(h runtime.Container) bool { return d.wanted[h.ID] })
}

// mayGo reports whether somebody allowed the deletion of a container.
func (t Terms) mayGo(h runtime.Container) bool {
	return t.Approved[h.ID] || t.Allowed[string(h.ID)] || t.Allowed[h.Ref()]
}
