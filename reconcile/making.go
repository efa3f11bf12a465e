package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"swage/runtime"
	"swage/schema"
)

// copies gives what is copied the image and kit of its source, which are never
// written beside it.
func (d *differ) copies() {
	d.want.Containers = slices.Clone(d.want.Containers)
	for i := range d.want.Containers {
		w := &d.want.Containers[i]
		m := d.terms.Making[w.Ref()]
		if m.Copy == nil {
			continue
		}
		if j, ok := d.match[i]; ok {
			w.Image, w.Kit = d.have.Containers[j].Image, d.have.Containers[j].Kit
		} else if _, image, kit, _, why := d.source(*w, m.Copy); why == "" {
			w.Image, w.Kit = image, kit
		}
	}
}

// source finds what is to be copied: what is there, or what the same plan
// makes, which has no ID yet unless it is written; or what another server has.
func (d *differ) source(w runtime.Container, from *schema.CopyFrom) (id runtime.ID, image string, kit bool, ref, why string) {
	if m := d.terms.Making[w.Ref()]; m.Origin != nil {
		if m.Found != nil {
			id, image, kit = m.Found.ID, m.Found.Image, m.Found.Kit
		}
		return id, image, kit, m.Origin.Name(), ""
	}
	project := from.Project
	if project == "" {
		project = w.Project
	}
	if from.Archive != "" {
		for _, a := range d.have.Archives {
			if string(a.ID) == from.Archive {
				return a.ID, a.Image, a.Kit, a.Project + "/" + a.Name, d.snapshotOf(a.ID, from.Snapshot)
			}
		}
		return "", "", false, "", fmt.Sprintf("copy_from: there is no archive %s here; swage snapshots lists them", from.Archive)
	}
	ref = project + "/" + from.Container
	for i, c := range d.want.Containers {
		if j, ok := d.match[i]; ok && c.Ref() == ref {
			h := d.have.Containers[j]
			return h.ID, h.Image, h.Kit, ref, d.snapshotOf(h.ID, from.Snapshot)
		}
	}
	for _, h := range d.have.Containers {
		if h.Ref() == ref {
			return h.ID, h.Image, h.Kit, ref, d.snapshotOf(h.ID, from.Snapshot)
		}
	}
	for _, c := range d.want.Containers {
		if c.Ref() == ref && from.Snapshot == "" {
			if m := d.terms.Making[ref]; m.Copy != nil {
				_, c.Image, c.Kit, _, why = d.source(c, m.Copy) // circles are refused before
			}
			return c.ID, c.Image, c.Kit, ref, why
		}
	}
	return "", "", false, ref, fmt.Sprintf("copy_from: there is no container %s here", ref)
}

// snapshotOf says why a snapshot cannot be copied; empty if it can.
func (d *differ) snapshotOf(id runtime.ID, name string) string {
	list := d.have.Snapshots[id]
	if name == "" || slices.ContainsFunc(list, func(s runtime.Snapshot) bool { return s.Name == name }) {
		return ""
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return fmt.Sprintf("copy_from: there is no snapshot %s, nor any other", name)
	}
	return fmt.Sprintf("copy_from: there is no snapshot %s; there are %s", name, strings.Join(names, ", "))
}

// cannotMake says why a container is not made; empty if it is.
func (d *differ) cannotMake(w runtime.Container) string {
	m := d.terms.Making[w.Ref()]
	archive, archived := d.archive(w.ID)
	switch {
	case d.terms.Maintenance:
		return "the server has maintenance: true and makes nothing new"
	case archived && m != (Making{Fresh: m.Fresh, NoClaim: m.NoClaim}):
		return fmt.Sprintf("its id is that of the archive of %s/%s, which comes back with it; take copy_from and adopt away, or write another id", archive.Project, archive.Name)
	case archived && (archive.Image != w.Image || archive.Kit != w.Kit):
		return fmt.Sprintf("its id is that of the archive of %s/%s, which has container_image %q and kit %t; write those to have it back, or another id for a new container",
			archive.Project, archive.Name, archive.Image, archive.Kit)
	case m.Origin != nil && m.NotFound != nil:
		return "copy_from: " + m.NotFound.Error()
	case m.Copy != nil:
		_, _, _, _, why := d.source(w, m.Copy)
		return why
	case m.NotFound != nil:
		return "adopt: " + m.NotFound.Error()
	case m.Adopt != "" && m.Found != nil:
		return d.cannotAdopt(w, *m.Found)
	}
	return ""
}

// archive is the one that a deleted container with this id left.
func (d *differ) archive(id runtime.ID) (runtime.Archive, bool) {
	for _, a := range d.have.Archives {
		if id != "" && a.ID == id {
			return a, true
		}
	}
	return runtime.Archive{}, false
}

// restore brings a container back from its archive, first to where it was
// deleted.
func (d *differ) restore(a runtime.Archive, w runtime.Container) {
	if d.restored == nil {
		d.restored = map[runtime.ID]bool{}
	}
	d.restored[a.ID] = true
	if a.Project == w.Project {
		d.do(runtime.RestoreContainer{New: w})
		return
	}
	back := w
	back.Project, back.Name, back.Status, back.Asked, back.Applied = a.Project, a.Name, runtime.Stopped, runtime.Stopped, ""
	d.do(runtime.RestoreContainer{New: back})
	d.change(back, w)
}

// cannotAdopt refuses what would change the instance.
func (d *differ) cannotAdopt(w, found runtime.Container) string {
	found.ID, found.Project, found.Name, found.Kit, found.Asked = w.ID, w.Project, w.Name, w.Kit, w.Asked
	found.DependsOn, found.Color, found.Realms, found.Protected = w.DependsOn, w.Color, w.Realms, w.Protected
	differ := runtime.Changes(found, w)
	if found.Status != w.Status {
		differ = append(differ, fmt.Sprintf("state %s → %s", found.Status, w.Status))
	}
	if found.Image != "" && found.Image != w.Image {
		differ = append(differ, fmt.Sprintf("container_image %s → %s", found.Image, w.Image))
	}
	if len(differ) == 0 {
		return ""
	}
	return fmt.Sprintf("adopt: it would change the instance: %s; declare it as it is first", strings.Join(differ, ", "))
}

// quotas refuses new containers where those that are kept leave no room.
func (d *differ) quotas() {
	count := map[string]int{}
	for _, h := range d.gone() {
		if _, ok := d.kept[h.ID]; ok {
			count[h.Project]++
		}
	}
	for i, w := range d.want.Containers {
		if _, present := d.match[i]; present {
			count[w.Project]++
		}
	}
	for i, w := range d.want.Containers {
		_, present := d.match[i]
		_, refused := d.refused[i]
		if present || refused {
			continue
		}
		if most, ok := d.terms.Quota[w.Project]; ok && count[w.Project] >= most {
			d.refused[i] = held("create container "+w.Ref(),
				"project %s may have %d containers (max_containers), and some that are no longer declared are kept", w.Project, most)
			continue
		}
		count[w.Project]++
	}
}

// sources refuses copies of what is itself refused.
func (d *differ) sources() {
	refused := map[string]bool{}
	for more := true; more; {
		more = false
		for i, w := range d.want.Containers {
			_, present := d.match[i]
			m := d.terms.Making[w.Ref()]
			if _, ok := d.refused[i]; ok {
				if !present && !refused[w.Ref()] {
					refused[w.Ref()], more = true, true
				}
			} else if m.Copy != nil && !present {
				if id, _, _, ref, _ := d.source(w, m.Copy); id == "" && refused[ref] || d.waits(id, refused) {
					d.refused[i] = held("create container "+w.Ref(), "copy_from: %s is not made either", ref)
				}
			}
		}
	}
}

// waits reports whether an ID is of a container that is declared, not there,
// and refused.
func (d *differ) waits(id runtime.ID, refused map[string]bool) bool {
	for i, w := range d.want.Containers {
		if _, present := d.match[i]; id != "" && w.ID == id && !present {
			return refused[w.Ref()]
		}
	}
	return false
}

// make plans a new container in the way that is asked for.
func (d *differ) make(w runtime.Container) {
	m := d.terms.Making[w.Ref()]
	w.Applied = w.Digest()
	if a, ok := d.archive(w.ID); ok {
		d.restore(a, w)
		return
	}
	switch {
	case m.Adopt != "":
		d.do(runtime.AdoptContainer{New: w, Instance: m.Adopt})
		return
	case m.Copy != nil:
		id, _, _, ref, _ := d.source(w, m.Copy)
		step := runtime.CopyContainer{New: w, From: id, Of: ref, Snapshot: m.Copy.Snapshot, Origin: m.Origin}
		d.do(step)
		return
	}
	// A spare has a ramdisk, and runs.
	if !m.Fresh && !m.NoClaim && w.Ramdisk && w.Status == runtime.Running {
		for _, s := range d.have.Spares {
			if s.Project == w.Project && s.Image == w.Image && s.Kit == w.Kit && !d.claimed[s.ID] && d.contested(s.ID) == "" {
				d.claim(s)
				d.do(runtime.ClaimContainer{New: w, Spare: s})
				return
			}
		}
	}
	d.do(runtime.CreateContainer{New: w, Fresh: m.Fresh})
}

func (d *differ) claim(s runtime.Spare) {
	if d.claimed == nil {
		d.claimed = map[runtime.ID]bool{}
	}
	d.claimed[s.ID] = true
}

// spares fills the warm pool behind what was claimed.
func (d *differ) spares() {
	missing := map[runtime.Spare]int{} // by kind
	for _, w := range d.want.Spares {
		missing[w.Kind()]++
	}
	going := map[string]bool{} // projects
	for _, s := range d.plan.Steps {
		if p, ok := s.(runtime.DeleteProject); ok {
			going[p.Project.Name] = true
		}
	}
	for _, h := range d.have.Spares {
		switch {
		case d.claimed[h.ID] || going[h.Project] || d.contested(h.ID) != "":
		case missing[h.Kind()] > 0:
			missing[h.Kind()]--
		default:
			d.do(runtime.DeleteSpare{Spare: h})
		}
	}
	if d.terms.Maintenance {
		return
	}
	for _, w := range d.want.Spares {
		if missing[w.Kind()] > 0 {
			missing[w.Kind()]--
			d.do(runtime.CreateSpare{Spare: w})
		}
	}
}
