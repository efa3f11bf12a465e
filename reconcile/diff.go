package reconcile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"swage/runtime"
)

// Diff is what makes have equal to want. Its order is the order to work in:
// projects, containers, snapshots, deletions of containers, deletions of
// projects, the warm pool.
func Diff(have, want runtime.State, terms Terms) Plan {
	d := differ{have: have, want: want, terms: terms, parts: map[int][]Held{}}
	d.want.Containers = slices.Clone(want.Containers) // what is held is written into them
	d.pair()
	d.stayHere()
	d.copies()
	d.ports()
	d.refuse()
	d.keepDeleted()
	d.keepNames()
	d.quotas()
	d.sources()
	d.projects()
	d.containers()
	d.snapshots()
	d.deletions()
	d.spares()
	d.conflicts()
	d.plan.After = order(d.plan.Steps)
	return d.plan
}

// differ decides in steps, each of which reads what those before it found.
type differ struct {
	have, want runtime.State
	terms      Terms

	match   map[int]int           // index in want → index in have
	wanted  map[runtime.ID]bool   // present, and matched by something wanted
	refused map[int]Held          // index in want → why it is not made
	parts   map[int][]Held        // index in want → what of it is left as it is, of one that is there
	renamed map[runtime.ID]string // present, and perhaps wanted under this name
	kept    map[runtime.ID]Held   // not wanted and not deleted either: why
	claimed map[runtime.ID]bool   // spares that the plan makes into containers
	// restored are archives that the plan makes into containers.
	restored map[runtime.ID]bool

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

// stayHere finds containers whose server was changed. They stay here, as they
// are declared there: only the change of the server is held.
func (d *differ) stayHere() {
	for _, h := range d.gone() {
		w, ok := d.terms.declaredElsewhere(h)
		if !ok {
			continue
		}
		i := len(d.want.Containers)
		d.want.Containers = append(d.want.Containers, w)
		d.match[i] = slices.IndexFunc(d.have.Containers, func(x runtime.Container) bool { return x.ID == h.ID })
		d.wanted[h.ID] = true
		d.holdPart(i, held("change the server of container "+w.Ref(),
			"server cannot change to %s; put the server back, or make a new container there and delete this one", d.terms.elsewhere(h)))
	}
}

// holdPart notes what of a container that is there stays as it is. Its other
// fields are applied: what takes access away waits for nothing.
func (d *differ) holdPart(i int, h Held) {
	h.part = true
	d.parts[i] = append(d.parts[i], h)
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
		unready := d.terms.Unready[w.Ref()]
		if j, ok := d.match[i]; ok {
			h, to := d.have.Containers[j], &d.want.Containers[i]
			if unready != "" {
				to.Env = h.Env
				d.holdPart(i, held("change the environment of container "+w.Ref(), "%s", unready))
			}
			if h.Image != w.Image {
				to.Image = h.Image
				d.holdPart(i, held("change the image of container "+w.Ref(),
					"container_image cannot change from %s to %s; make a new container and delete this one", h.Image, w.Image))
			}
			if h.Kit != w.Kit {
				to.Kit = h.Kit
				d.holdPart(i, held("change the kit of container "+w.Ref(),
					"kit cannot change from %t to %t; make a new container and delete this one", h.Kit, w.Kit))
			}
			continue
		}
		if unready != "" {
			d.refused[i] = held("create container "+w.Ref(), "%s", unready)
			continue
		}
		if why := cmp.Or(d.mayBeThere(w), d.cannotMake(w)); why != "" {
			d.refused[i] = held("create container "+w.Ref(), "%s", why)
			continue
		}
		if h, ok := byRef[w.Ref()]; ok {
			d.refused[i] = held("create container "+w.Ref(),
				"a container of this name has the id %s; write that id to keep it, or another name for a new one", h.ID)
			continue
		}
		if m := d.terms.Making[w.Ref()]; w.ID != "" || m.Copy != nil || m.Adopt != "" {
			continue
		}
		// Without an ID nothing tells a rename from a deletion and a creation.
		k := slices.IndexFunc(gone, func(h runtime.Container) bool {
			return d.renamed[h.ID] == "" && h.Project == w.Project && h.Image == w.Image && h.Kit == w.Kit
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
	d.kept = map[runtime.ID]Held{}
	anew := map[string]bool{} // names that a new container would take
	for i, w := range d.want.Containers {
		if _, ok := d.match[i]; !ok {
			anew[w.Ref()] = true
		}
	}
	var going []runtime.Container
	for _, h := range d.gone() {
		server := d.terms.elsewhere(h)
		why := d.contested(h.ID)
		switch {
		case why != "":
			d.keep(h, "%s", why)
		case h.Protected:
			d.keep(h, "it is protected; declare it with protected: false in a commit of its own first")
		case server != "":
			d.keep(h, "its server cannot change to %s; put the server back, or make a new container there and delete this one", server)
		case d.terms.RolledBack[h.ID]:
			d.keep(h, "it came with the commit that was rolled back; the next commit decides about it")
		case anew[h.Ref()]:
			d.keep(h, "its name is declared with another id; give it back its id %s, or remove the declaration first", h.ID)
		case d.renamed[h.ID] != "":
			d.keep(h, "it may be renamed to %s; if so write id: %q there", d.renamed[h.ID], h.ID)
		default:
			going = append(going, h)
		}
	}
	d.limit(going)
}

// limit holds deletions that are too many for one commit, but for those that
// somebody allowed.
func (d *differ) limit(going []runtime.Container) {
	going = slices.DeleteFunc(slices.Clone(going), d.terms.mayGo)
	if len(going) == 0 || PlanID(going) == d.terms.ApprovedPlan {
		return
	}
	why := ""
	switch {
	case len(going) > d.terms.MaxDeletes:
		why = fmt.Sprintf("%d containers would go and prune.max in swage.cue allows %d", len(going), d.terms.MaxDeletes)
	case len(d.want.Containers) == 0 && len(going) > 1:
		why = "every container of this server would go"
	default:
		if !d.replaced() { // now, or when they were held
			going = slices.DeleteFunc(going, func(h runtime.Container) bool { return !h.Replaced })
		}
		why = "every container that this server had would go"
	}
	id := PlanID(going)
	for _, h := range going {
		d.kept[h.ID] = Held{
			Why: fmt.Sprintf("%s; if that is meant: swage approve %s", why, id), Plan: id,
			replaced: len(d.want.Containers) > 0 && len(going) <= d.terms.MaxDeletes,
		}
	}
}

// PlanID names a set of containers that would be deleted, whatever commit asks
// for it.
func PlanID(going []runtime.Container) string {
	ids := make([]string, len(going))
	for i, h := range going {
		ids[i] = string(h.ID)
	}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	return hex.EncodeToString(sum[:6])
}

// keepNames holds names that something which stays as it is has. What cannot
// have its new name keeps its own in turn, so it goes on until nothing changes.
func (d *differ) keepNames() {
	stays := map[string]runtime.ID{}
	for _, h := range d.gone() {
		if _, ok := d.kept[h.ID]; ok {
			stays[h.Ref()] = h.ID
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
			why := held("create container "+w.Ref(), "the container with the id %s still has this name, since its own change is held", id)
			if !matched {
				d.refused[i] = why
				continue
			}
			h := d.have.Containers[j]
			why.What = "rename container " + h.Ref() + " to " + w.Ref()
			d.holdPart(i, why)
			// depends_on means names of the fleet; by its old one it might wait for itself.
			to := &d.want.Containers[i]
			to.Project, to.Name, to.DependsOn = h.Project, h.Name, nil
			stays[h.Ref()], more = h.ID, true
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
			h.Ref = w.Ref()
			d.plan.Held = append(d.plan.Held, h)
		} else if j, ok := d.match[i]; ok {
			for _, h := range d.parts[i] {
				h.Container, h.Ref = d.have.Containers[j].ID, w.Ref()
				d.plan.Held = append(d.plan.Held, h)
			}
			d.change(d.have.Containers[j], w)
		} else {
			d.make(w)
		}
	}
}

// change brings a container to what is wanted of it.
func (d *differ) change(h, w runtime.Container) {
	w.ID = h.ID // absent in the file: the one that was drawn
	if h.Same(w) {
		return
	}
	w.Applied = w.Digest()
	if was, ok := d.terms.lastApplied(h); d.terms.ReportDrift && ok && h.Applied != w.Applied {
		to := w.Rebased(was, h)
		if changed := drifted(to, w); len(changed) > 0 {
			d.plan.Drift = append(d.plan.Drift, Drift{h.ID, h.Ref(), changed})
		}
		if w = to; h.Same(w) {
			return
		}
	}
	var steps []runtime.Step
	now := h
	if w.Project != h.Project {
		to := now
		to.Project, to.Name, to.Commit = w.Project, w.Name, w.Commit
		steps = append(steps, runtime.MoveContainer{From: now, To: to})
		now = to
	}
	// A stop comes before other changes, so that they need no restart; a
	// start comes after them, so that it sees them.
	if w.Status == runtime.Stopped && now.Status != runtime.Stopped {
		steps = append(steps, runtime.StopContainer{Target: carry(now, w)})
		now.Status, now.Asked = runtime.Stopped, runtime.Stopped
	}
	to := w
	to.Status, to.Asked, to.Asleep = now.Status, now.Asked, now.Asleep
	if w.Status == now.Status { // else a step that follows writes it
		to.Asked = w.Asked
	}
	if !now.Same(to) {
		update := runtime.UpdateContainer{From: now, To: to}
		if update.Restarts() {
			update.To.Status, update.To.Asked, update.To.Asleep = runtime.Running, w.Asked, false
		}
		steps = append(steps, update)
		now = update.To
	}
	rests := h.Asleep && !w.Autostart && h.Asked == w.Asked && len(steps) == 0
	if w.Status != runtime.Stopped && w.Status != now.Status && !rests {
		if now.Status != runtime.Running {
			if now.Status == runtime.Paused {
				steps = append(steps, runtime.ResumeContainer{Target: carry(now, w)})
			} else {
				steps = append(steps, runtime.StartContainer{Target: carry(now, w)})
			}
			now.Status = runtime.Running
		}
		if w.Status == runtime.Paused {
			steps = append(steps, runtime.PauseContainer{Target: carry(now, w)})
		}
	}
	if len(steps) > 0 && h.Applied != "" && h.Applied == w.Applied {
		d.plan.Drift = append(d.plan.Drift, Drift{h.ID, h.Ref(), drifted(h, w)})
		if d.terms.ReportDrift {
			return
		}
	}
	for i, s := range steps {
		if i < len(steps)-1 { // what was applied is known only at the end
			s = withApplied(s, h.Applied)
		}
		d.do(s)
	}
}

// carry is the container as it is, with what a step on it notes.
func carry(now, w runtime.Container) runtime.Container {
	now.Commit, now.Applied = w.Commit, w.Applied
	return now
}

func withApplied(s runtime.Step, digest string) runtime.Step {
	switch s := s.(type) {
	case runtime.MoveContainer:
		s.To.Applied = digest
		return s
	case runtime.UpdateContainer:
		s.To.Applied = digest
		return s
	case runtime.StartContainer:
		s.Target.Applied = digest
		return s
	case runtime.StopContainer:
		s.Target.Applied = digest
		return s
	case runtime.ResumeContainer:
		s.Target.Applied = digest
		return s
	}
	return s
}

// drifted names what is no longer as it was applied.
func drifted(h, w runtime.Container) []string {
	w.Asked = h.Asked
	out := runtime.Changes(w, h)
	if h.Status != w.Status {
		out = append(out, fmt.Sprintf("state %s", h.Status))
	}
	return out
}

// deletions come last; a project goes when nobody asks for it and the plan
// leaves nothing in it.
func (d *differ) deletions() {
	leaves := map[runtime.ID]bool{}
	for _, s := range d.plan.Steps {
		switch s := s.(type) {
		case runtime.MoveContainer:
			leaves[s.From.ID] = true
		case runtime.DeleteArchive:
			leaves[s.Archive.ID] = true
		}
	}
	used := map[string]bool{}
	for _, w := range d.want.Projects {
		used[w.Name] = true
	}
	for _, c := range d.have.Conflicts { // it stands there, most likely
		used[c.Project] = true
	}
	for _, h := range d.gone() {
		if why, ok := d.kept[h.ID]; ok {
			why.What, why.Container, why.Ref = "delete container "+h.Ref(), h.ID, h.Ref()
			d.plan.Held = append(d.plan.Held, why)
			continue
		}
		s := runtime.DeleteContainer{Target: h, Keep: d.terms.ArchiveFor}
		s.Archives = s.Keep > 0 || len(d.have.Snapshots[h.ID]) > 0
		if s.Archives {
			used[h.Project] = true
		}
		leaves[h.ID] = true
		d.do(s)
	}
	for _, h := range d.have.Containers {
		if !leaves[h.ID] {
			used[h.Project] = true
		}
	}
	for _, a := range d.have.Archives {
		if !leaves[a.ID] {
			used[a.Project] = true
		}
	}
	for _, h := range d.have.Projects {
		if used[h.Name] {
			continue
		}
		for _, s := range d.have.Spares {
			if s.Project == h.Name {
				d.do(runtime.DeleteSpare{Spare: s})
			}
		}
		d.do(runtime.DeleteProject{Project: h})
	}
}

func (d *differ) do(s runtime.Step) { d.plan.Steps = append(d.plan.Steps, s) }

func (d *differ) keep(h runtime.Container, why string, args ...any) {
	d.kept[h.ID] = Held{Why: fmt.Sprintf(why, args...)}
}

func held(what, why string, args ...any) Held {
	return Held{What: what, Why: fmt.Sprintf(why, args...)}
}
