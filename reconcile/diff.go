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
	// one that would empty a server of several, holds all of them.
	MaxDeletes int
	// Elsewhere holds the containers that the fleet declares on other
	// servers, by ID and by project/name: server. Such a one was not taken
	// away by its author; its server was changed, which cannot be.
	Elsewhere map[string]string
}

// Diff is what makes have equal to want. Its order is the order to work in:
// projects, containers, deletions of containers, deletions of projects.
func Diff(have, want runtime.State, limits Limits) Plan {
	d := differ{have: have, want: want, maybe: map[runtime.ID]string{}}
	d.pair()
	d.projects()
	d.containers()
	d.deletions(limits)
	return d.plan
}

type differ struct {
	have, want runtime.State
	match      map[int]int           // index in want → index in have
	kept       map[runtime.ID]bool   // present and wanted
	maybe      map[runtime.ID]string // present, and perhaps wanted under this name
	plan       Plan
}

// pair matches wanted with present containers: by ID first, since names may
// change, then those without an ID by name. What has an ID and is present
// under another one by the same name is not the same container.
func (d *differ) pair() {
	byID := map[runtime.ID]int{}
	byRef := map[string]int{}
	for i, h := range d.have.Containers {
		byID[h.ID] = i
		if _, ok := byRef[h.Ref()]; !ok { // the first by ID stands for the name
			byRef[h.Ref()] = i
		}
	}
	d.match, d.kept = map[int]int{}, map[runtime.ID]bool{}
	for i, w := range d.want.Containers {
		if h, ok := byID[w.ID]; ok && w.ID != "" {
			d.match[i], d.kept[w.ID] = h, true
		}
	}
	for i, w := range d.want.Containers {
		if h, ok := byRef[w.Ref()]; ok && w.ID == "" && !d.kept[d.have.Containers[h].ID] {
			d.match[i], d.kept[d.have.Containers[h].ID] = h, true
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
			d.hold("change the id of project "+w.Name,
				"the project already has the id %s; write that one, since an id cannot change", h.ID)
		}
	}
}

func (d *differ) containers() {
	unwanted := map[string]runtime.Container{} // by ref
	for _, h := range d.have.Containers {
		if !d.kept[h.ID] {
			unwanted[h.Ref()] = h
		}
	}
	for i, w := range d.want.Containers {
		if j, ok := d.match[i]; ok {
			d.change(d.have.Containers[j], w)
			continue
		}
		// Of the same name under another ID: that one would be deleted, and
		// one without its data take its place.
		if h, ok := unwanted[w.Ref()]; ok {
			d.hold("create container "+w.Ref(),
				"a container of this name has the id %s; write that id to keep it, or another name for a new one", h.ID)
			continue
		}
		if h, ok := d.renamed(w); ok {
			d.maybe[h.ID] = w.Ref()
			d.hold("create container "+w.Ref(),
				"it may be %s under a new name; if so write id: %q to keep its data, else take %s away in a commit of its own first", h.Ref(), h.ID, h.Ref())
			continue
		}
		d.do(runtime.CreateContainer{New: w})
	}
}

// renamed finds what w may be a new name of, when w has no ID to tell.
func (d *differ) renamed(w runtime.Container) (runtime.Container, bool) {
	if w.ID != "" {
		return runtime.Container{}, false
	}
	for _, h := range d.have.Containers {
		if !d.kept[h.ID] && d.maybe[h.ID] == "" && h.Project == w.Project && h.Image == w.Image {
			return h, true
		}
	}
	return runtime.Container{}, false
}

func (d *differ) change(h, w runtime.Container) {
	w.ID = h.ID // absent in the file: the one that was drawn
	if w.Image != h.Image {
		d.hold("change the image of container "+w.Ref(),
			"container_image cannot change from %s to %s; make a new container and delete this one", h.Image, w.Image)
		return
	}
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
		d.do(runtime.UpdateContainer{From: now, To: to})
		now = to
	}
	if w.Status == runtime.Running && now.Status != runtime.Running {
		d.do(runtime.StartContainer{Target: now})
	}
}

func (d *differ) deletions(limits Limits) {
	var gone []runtime.Container
	for _, h := range d.have.Containers {
		if !d.kept[h.ID] {
			gone = append(gone, h)
		}
	}
	wanted := map[string]bool{}
	for _, w := range d.want.Containers {
		wanted[w.Ref()] = true
	}
	all := len(gone) == len(d.have.Containers) && len(gone) > 1
	for _, h := range gone {
		s := runtime.DeleteContainer{Target: h}
		server := cmp.Or(limits.Elsewhere[string(h.ID)], limits.Elsewhere[h.Ref()])
		switch {
		case server != "":
			d.hold(s.String(), "its server cannot change to %s; put the server back, or make a new container there and delete this one", server)
		case wanted[h.Ref()]:
			d.hold(s.String(), "its name is declared with another id; give it back its id %s, or remove the declaration first", h.ID)
		case d.maybe[h.ID] != "":
			d.hold(s.String(), "it may be renamed to %s; if so write id: %q there", d.maybe[h.ID], h.ID)
		case len(gone) > limits.MaxDeletes:
			d.hold(s.String(), "%d containers would go and prune.max in swage.cue allows %d; delete fewer at a time or raise it", len(gone), limits.MaxDeletes)
		case all:
			d.hold(s.String(), "every container of this server would go; delete all but one first if that is meant")
		default:
			d.do(s)
		}
	}
	d.emptyProjects()
}

// emptyProjects deletes projects that nobody asks for and that the plan
// leaves without containers.
func (d *differ) emptyProjects() {
	used := map[string]bool{}
	for _, w := range d.want.Projects {
		used[w.Name] = true
	}
	leaves := map[runtime.ID]bool{}
	for _, s := range d.plan.Steps {
		switch s := s.(type) {
		case runtime.DeleteContainer:
			leaves[s.Target.ID] = true
		case runtime.MoveContainer:
			leaves[s.From.ID] = true
		}
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

func (d *differ) hold(what, why string, args ...any) {
	d.plan.Held = append(d.plan.Held, Held{what, fmt.Sprintf(why, args...)})
}
