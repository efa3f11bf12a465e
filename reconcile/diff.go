package reconcile

import (
	"cmp"
	"fmt"
	"slices"

	"swage/runtime"
)

// Limits bound what a plan may delete.
type Limits struct {
	// MaxDeletes is how many containers may go at once. A plan with more, or
	// one that would leave nothing of several, holds all of them.
	MaxDeletes int
	// Elsewhere holds the containers that the fleet declares on other
	// servers, by ID and by project/name: server. Such a one was not taken
	// away by its author; its server was changed, which cannot be.
	Elsewhere map[string]string
	// Unready holds the containers that lack something the fleet asks for,
	// by project/name: why. They are left as they are, or not made.
	Unready map[string]string
}

// Diff is what makes have equal to want. Its order is the order to work in:
// projects, containers, deletions of containers, deletions of projects.
func Diff(have, want runtime.State, limits Limits) Plan {
	d := differ{have: have, want: want, limits: limits}
	d.pair()
	d.refuse()
	d.keepDeleted()
	d.keepNames()
	d.projects()
	d.containers()
	d.deletions()
	return d.plan
}

// differ decides in steps, each of which reads what those before it found.
type differ struct {
	have, want runtime.State
	limits     Limits

	match   map[int]int           // index in want → index in have
	wanted  map[runtime.ID]bool   // present, and matched by something wanted
	refused map[int]Held          // index in want → why it is left as it is
	renamed map[runtime.ID]string // present, and perhaps wanted under this name
	kept    map[runtime.ID]string // not wanted and not deleted either: why

	plan Plan
}

// pair matches wanted with present containers: by ID first, since names may
// change, then those without an ID by name among what is left.
func (d *differ) pair() {
	byID, byRef := map[runtime.ID]int{}, map[string]int{}
	for i, h := range d.have.Containers {
		byID[h.ID] = i
	}
	d.match, d.wanted = map[int]int{}, map[runtime.ID]bool{}
	for i, w := range d.want.Containers {
		if h, ok := byID[w.ID]; ok {
			d.match[i], d.wanted[w.ID] = h, true
		}
	}
	for i, h := range d.have.Containers {
		if !d.wanted[h.ID] {
			byRef[h.Ref()] = i
		}
	}
	for i, w := range d.want.Containers {
		if h, ok := byRef[w.Ref()]; ok && w.ID == "" {
			d.match[i], d.wanted[d.have.Containers[h].ID] = h, true
		}
	}
}

// gone lists what is present and not wanted.
func (d *differ) gone() []runtime.Container {
	var out []runtime.Container
	for _, h := range d.have.Containers {
		if !d.wanted[h.ID] {
			out = append(out, h)
		}
	}
	return out
}

// refuse finds what cannot be done without destroying something: a change of
// an image, and a new container in the place of one that is there.
func (d *differ) refuse() {
	d.refused, d.renamed = map[int]Held{}, map[runtime.ID]string{}
	gone := d.gone()
	byRef := map[string]runtime.Container{}
	for _, h := range gone {
		byRef[h.Ref()] = h
	}
	for i, w := range d.want.Containers {
		if why := d.limits.Unready[w.Ref()]; why != "" {
			d.refused[i] = held("configure container "+w.Ref(), "%s", why)
			continue
		}
		if j, ok := d.match[i]; ok {
			if h := d.have.Containers[j]; h.Image != w.Image {
				d.refused[i] = held("change the image of container "+w.Ref(),
					"container_image cannot change from %s to %s; make a new container and delete this one", h.Image, w.Image)
			}
			continue
		}
		if h, ok := byRef[w.Ref()]; ok {
			d.refused[i] = held("create container "+w.Ref(),
				"a container of this name has the id %s; write that id to keep it, or another name for a new one", h.ID)
			continue
		}
		if w.ID != "" {
			continue
		}
		// Without an ID nothing tells a rename from a deletion and a creation.
		k := slices.IndexFunc(gone, func(h runtime.Container) bool {
			return d.renamed[h.ID] == "" && h.Project == w.Project && h.Image == w.Image
		})
		if k >= 0 {
			h := gone[k]
			d.renamed[h.ID] = w.Ref()
			d.refused[i] = held("create container "+w.Ref(),
				"it may be %s under a new name; if so write id: %q to keep its data, else take %s away in a commit of its own first", h.Ref(), h.ID, h.Ref())
		}
	}
}

// keepDeleted finds the deletions that are not made.
func (d *differ) keepDeleted() {
	d.kept = map[runtime.ID]string{}
	gone := d.gone()
	anew := map[string]bool{} // names that a new container would take
	for i, w := range d.want.Containers {
		if _, ok := d.match[i]; !ok {
			anew[w.Ref()] = true
		}
	}
	// Asked of the fleet, not of what is left: what a pass creates must not
	// release what the pass before it held.
	all := len(d.want.Containers) == 0 && len(gone) > 1
	for _, h := range gone {
		server := cmp.Or(d.limits.Elsewhere[string(h.ID)], d.limits.Elsewhere[h.Ref()])
		switch {
		case h.Protected:
			d.keep(h, "it is protected; declare it with protected: false in a commit of its own first")
		case server != "":
			d.keep(h, "its server cannot change to %s; put the server back, or make a new container there and delete this one", server)
		case anew[h.Ref()]:
			d.keep(h, "its name is declared with another id; give it back its id %s, or remove the declaration first", h.ID)
		case d.renamed[h.ID] != "":
			d.keep(h, "it may be renamed to %s; if so write id: %q there", d.renamed[h.ID], h.ID)
		case len(gone) > d.limits.MaxDeletes:
			d.keep(h, "%d containers would go and prune.max in swage.cue allows %d; delete fewer at a time or raise it", len(gone), d.limits.MaxDeletes)
		case all:
			d.keep(h, "every container of this server would go; delete all but one first if that is meant")
		}
	}
}

// keepNames refuses names that something which stays as it is has. What is
// refused keeps its own name in turn, so it goes on until nothing changes.
func (d *differ) keepNames() {
	stays := map[string]runtime.ID{}
	for _, h := range d.gone() {
		if d.kept[h.ID] != "" {
			stays[h.Ref()] = h.ID
		}
	}
	for i := range d.refused {
		if j, ok := d.match[i]; ok {
			stays[d.have.Containers[j].Ref()] = d.have.Containers[j].ID
		}
	}
	for more := true; more; {
		more = false
		for i, w := range d.want.Containers {
			j, matched := d.match[i]
			id, taken := stays[w.Ref()]
			if _, ok := d.refused[i]; ok || !taken || matched && d.have.Containers[j].ID == id {
				continue
			}
			what := "create container " + w.Ref()
			if matched {
				h := d.have.Containers[j]
				what = "rename container " + h.Ref() + " to " + w.Ref()
				stays[h.Ref()], more = h.ID, true
			}
			d.refused[i] = held(what, "the container with the id %s still has this name, since its own change is held", id)
		}
	}
}

func (d *differ) projects() {
	for _, w := range d.want.Projects {
		i := slices.IndexFunc(d.have.Projects, func(h runtime.Project) bool { return h.Name == w.Name })
		if i < 0 {
			d.do(runtime.CreateProject{Project: w})
			continue
		}
		if h := d.have.Projects[i]; w.ID != "" && w.ID != h.ID {
			d.plan.Held = append(d.plan.Held, held("change the id of project "+w.Name,
				"the project already has the id %s; write that one, since an id cannot change", h.ID))
		}
	}
}

func (d *differ) containers() {
	for i, w := range d.want.Containers {
		if h, ok := d.refused[i]; ok {
			d.plan.Held = append(d.plan.Held, h)
		} else if j, ok := d.match[i]; ok {
			d.change(d.have.Containers[j], w)
		} else {
			d.do(runtime.CreateContainer{New: w})
		}
	}
}

func (d *differ) change(h, w runtime.Container) {
	w.ID = h.ID // absent in the file: the one that was drawn
	now := h
	if w.Project != h.Project {
		to := now
		to.Project, to.Name, to.Commit = w.Project, w.Name, w.Commit
		d.do(runtime.MoveContainer{From: now, To: to})
		now = to
	}
	// A stop comes before other changes, so that they need no restart; a
	// start comes after them, so that it sees them.
	if w.Status == runtime.Stopped && now.Status != runtime.Stopped {
		d.do(runtime.StopContainer{Target: now})
		now.Status = runtime.Stopped
	}
	to := w
	to.Status = now.Status
	if !now.Same(to) {
		update := runtime.UpdateContainer{From: now, To: to}
		if update.Restarts() {
			update.To.Status = runtime.Running
		}
		d.do(update)
		now = update.To
	}
	if w.Status == runtime.Running && now.Status != runtime.Running {
		d.do(runtime.StartContainer{Target: now})
	}
}

// deletions come last; a project goes when nobody asks for it and the plan
// leaves no container in it.
func (d *differ) deletions() {
	leaves := map[runtime.ID]bool{}
	for _, s := range d.plan.Steps {
		if m, ok := s.(runtime.MoveContainer); ok {
			leaves[m.From.ID] = true
		}
	}
	for _, h := range d.gone() {
		s := runtime.DeleteContainer{Target: h}
		if why := d.kept[h.ID]; why != "" {
			d.plan.Held = append(d.plan.Held, Held{s.String(), why})
			continue
		}
		leaves[h.ID] = true
		d.do(s)
	}
	used := map[string]bool{}
	for _, w := range d.want.Projects {
		used[w.Name] = true
	}
	for _, h := range d.have.Containers {
		if !leaves[h.ID] {
			used[h.Project] = true
		}
	}
	for _, h := range d.have.Projects {
		if !used[h.Name] {
			d.do(runtime.DeleteProject{Project: h})
		}
	}
}

func (d *differ) do(s runtime.Step) { d.plan.Steps = append(d.plan.Steps, s) }

func (d *differ) keep(h runtime.Container, why string, args ...any) {
	d.kept[h.ID] = fmt.Sprintf(why, args...)
}

func held(what, why string, args ...any) Held { return Held{what, fmt.Sprintf(why, args...)} }
