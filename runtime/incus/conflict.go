package incus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/firewall"
)

// byAge orders instances that carry the same id: the one that swage made comes
// before its copies. A copy that was imported from a file has the age of its
// original, and then the names decide.
func byAge(a, b api.Instance) int {
	foreign := func(in api.Instance) int {
		if isNameOf(container(&in), in.Name) {
			return 0
		}
		return 1
	}
	return cmp.Or(
		a.CreatedAt.Compare(b.CreatedAt), foreign(a)-foreign(b),
		strings.Compare(a.Project, b.Project), strings.Compare(a.Name, b.Name),
	)
}

// sortOut tells the instances that are ours from those that only carry the mark:
// copies that somebody made, and those that lost what tells whose they are.
// One that has its id and its project stays ours, since the next change writes
// its name again.
func (r *Runtime) sortOut(instances []api.Instance) (own, odd []*api.Instance, conflicts []runtime.Conflict) {
	slices.SortFunc(instances, byAge)
	first := map[string]*api.Instance{} // by id
	for i := range instances {
		in := &instances[i]
		if !r.marked(in.Config) {
			continue
		}
		id := in.Config[keyID]
		if in.Config[keyProject] == "" {
			in.Config[keyProject] = r.projectIn(in.Project, "")
		}
		c := runtime.Conflict{
			ID: runtime.ID(id), Project: in.Config[keyProject], Name: in.Config[keyName],
			Object: fmt.Sprintf("instance %s in project %s", in.Name, in.Project),
		}
		original := first[id]
		switch {
		case id != "" && original != nil:
			c.Why = fmt.Sprintf("the Incus %s carries the %s of instance %s in project %s, which is older and stays in use; to keep the copy run incus config unset %s %s --project %s, else delete it",
				c.Object, keyID, original.Name, original.Project, in.Name, keyFleet, in.Project)
		case id == "" || c.Project == "" || c.Name == "":
			c.Lost = true
			c.Why = fmt.Sprintf("the Incus %s has lost %s; put it back, or remove %s to give the instance up",
				c.Object, strings.Join(lost(in.Config, keyID, keyProject, keyName), ", "), keyFleet)
		}
		if id != "" && original == nil {
			first[id] = in
		}
		if c.Why != "" {
			conflicts = append(conflicts, c)
		}
		if c.Why == "" || original == nil && id != "" && c.Project != "" {
			own = append(own, in)
		} else {
			odd = append(odd, in)
		}
	}
	return own, odd, conflicts
}

func lost(config map[string]string, keys ...string) (out []string) {
	for _, key := range keys {
		if config[key] == "" {
			out = append(out, key)
		}
	}
	return out
}

// guardOdd adds to those that the firewall guards what is in conflict: it may run.
// The addresses of an original are not taken from it; see distinct.
func guardOdd(members map[runtime.ID]firewall.Container, odd []*api.Instance) {
	for _, in := range odd {
		c, at := container(in), located(in)
		c.Project, c.Publish = cmp.Or(c.Project, in.Project), nil
		a := addresses{addr: at.addr, addr6: at.addr6, mac: at.mac, given: at.fixed}
		if !a.none() {
			members[runtime.ID("~"+in.Project+"/"+in.Name)] = member(c, a)
		}
	}
}

// newestNameFirst puts the project that a new one would be called like before
// others that carry the same name of a project of the fleet.
func (r *Runtime) newestNameFirst(all []api.Project) {
	other := func(p api.Project) int {
		if p.Name == r.newProjectName(p.Config[keyProject]) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b api.Project) int { return cmp.Or(other(a)-other(b), strings.Compare(a.Name, b.Name)) })
}

func lostProject(p api.Project) runtime.Conflict {
	return runtime.Conflict{
		Project: p.Config[keyProject], Object: "project " + p.Name,
		Why: fmt.Sprintf("the Incus project %s has lost %s; put it back, or remove %s to give the project up",
			p.Name, strings.Join(lost(p.Config, keyProject, keyID), ", "), keyFleet),
	}
}

func secondProject(p api.Project, first string) runtime.Conflict {
	return runtime.Conflict{
		Project: p.Config[keyProject], Object: "project " + p.Name,
		Why: fmt.Sprintf("the Incus projects %s and %s carry the same %s, and %s is the one in use; remove %s from %s",
			first, p.Name, keyProject, first, keyFleet, p.Name),
	}
}
