package reconcile

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// AccessBetween is what a server's edge would allow for one fleet and not for
// another, and the reverse, at a time, once a plan from one to the other is
// done: what it holds back from deletion stays as it was. A nil fleet allows
// nothing. Secrets are compared by how they are declared and never read.
func AccessBetween(before, after *schema.Fleet, server string, plan Plan, now time.Time) ([]edge.AccessChange, error) {
	here := func(f *schema.Fleet) bool {
		if f == nil {
			return false
		}
		_, ok := f.Servers[server]
		return ok
	}
	var was, is *edge.Table
	var err error
	if here(before) {
		if was, err = declaredTable(before, server, projectView(before)); err != nil {
			return nil, err
		}
	}
	if here(after) {
		view := projectView(after)
		if here(before) {
			view.hold(before, after, server, plan)
		}
		if is, err = declaredTable(after, server, view); err != nil {
			return nil, err
		}
	}
	return edge.CompareAccess(was, is, now), nil
}

// hold keeps what one fleet declares, another does not, and a plan leaves alone.
func (v *View) hold(before, after *schema.Fleet, server string, plan Plan) {
	v.Kept = map[runtime.ID]Declaration{}
	for _, h := range plan.Held {
		project, name, _ := strings.Cut(h.Ref, "/")
		c := runtime.Container{ID: h.Container, Project: project, Name: name}
		if h.Container == "" || declaration(after, server, c) != nil {
			continue
		}
		d, ok := declaredAway(after, server, c)
		if !ok {
			if d, ok = declaredIn(before, nil, server, c); !ok {
				continue
			}
		}
		if c.ID = runtime.ID(d.Container.ID); c.ID == "" {
			c.ID = drawnID(c.Ref()) // only the server knows it
		}
		if d.Project.ID == "" {
			d.Project.ID = string(drawnID(d.Project.Name))
		}
		v.Containers = append(v.Containers, c)
		v.Kept[c.ID] = d
	}
}

// declaredTable is the table of a fleet with no secret in it.
func declaredTable(f *schema.Fleet, server string, v View) (*edge.Table, error) {
	s := sealer{}
	f = s.fleet(f)
	kept := make(map[runtime.ID]Declaration, len(v.Kept))
	for id, d := range v.Kept {
		d.Container.Permissions = s.document(d.Container.Permissions)
		kept[id] = d
	}
	v.Kept = kept
	table, err := edge.Compile(Routes(f, server, v))
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return table, nil
}

// projectView is a view in which every project has an id, so that containers
// with an id of their own have hosts. Others are known by name.
func projectView(f *schema.Fleet) View {
	v := Assumed(f, "")
	v.Containers = nil
	return v
}

// sealer replaces the secrets of documents by what stands for how they are
// declared, in copies. Containers that shared a document share its copy.
type sealer map[*schema.Permissions]*schema.Permissions

func (s sealer) fleet(f *schema.Fleet) *schema.Fleet {
	out := *f
	out.Projects = make([]schema.Project, len(f.Projects))
	for i, p := range f.Projects {
		containers := make([]schema.Container, len(p.Containers))
		for j, c := range p.Containers {
			c.Permissions = s.document(c.Permissions)
			containers[j] = c
		}
		p.Permissions, p.Containers = s.document(p.Permissions), containers
		out.Projects[i] = p
	}
	return &out
}

func (s sealer) document(p *schema.Permissions) *schema.Permissions {
	if p == nil {
		return nil
	}
	if done, ok := s[p]; ok {
		return done
	}
	out := *p
	out.Groups = maps.Clone(p.Groups)
	for name, g := range out.Groups {
		out.Groups[name] = sealedGroup(g)
	}
	s[p] = &out
	return &out
}

func sealedGroup(g schema.Group) schema.Group {
	seal := func(s schema.Secret) schema.Secret {
		if s.IsZero() {
			return s
		}
		return schema.Plain(s.Opaque())
	}
	switch {
	case g.Password != nil:
		p := *g.Password
		p.Hash = seal(p.Hash)
		g.Password = &p
	case g.Token != nil:
		t := *g.Token
		t.Value = seal(t.Value)
		g.Token = &t
	case g.JWT != nil:
		j := *g.JWT
		j.Secret = seal(j.Secret)
		g.JWT = &j
	case len(g.All) > 0:
		all := make([]schema.Group, len(g.All))
		for i, m := range g.All {
			all[i] = sealedGroup(m)
		}
		g.All = all
	}
	return g
}

// accessAfter is what a fleet would change of the access that is in force,
// once a plan for it is done.
func (a *Agent) accessAfter(f *schema.Fleet, state *runtime.Actual, plan Plan) ([]edge.AccessChange, error) {
	inForce := a.inForce()
	if inForce.fleet == nil {
		return AccessBetween(nil, f, a.Server, plan, time.Now())
	}
	view := View{Actual: *state, Token: a.Token}
	kept := map[runtime.ID]Declaration{}
	held := map[runtime.ID]bool{}
	for _, h := range plan.Held {
		held[h.Container] = true
	}
	for _, c := range state.Containers {
		if declaration(f, a.Server, c) != nil || !held[c.ID] {
			continue
		}
		d, ok := declaredAway(f, a.Server, c)
		if !ok {
			d, ok = declaredIn(inForce.fleet, inForce.kept, a.Server, c)
		}
		if ok {
			kept[c.ID] = d
		}
	}
	view.Kept, view.Stay = inForce.kept, inForce.stay
	before, err := declaredTable(inForce.fleet, a.Server, view)
	if err != nil {
		return nil, err
	}
	view.Kept, view.Stay = kept, nil
	after, err := declaredTable(f, a.Server, view)
	if err != nil {
		return nil, err
	}
	return edge.CompareAccess(before, after, time.Now()), nil
}

// inForce is what was published last, or would be now.
func (a *Agent) inForce() *told {
	if published := a.published.Load(); published != nil {
		return published
	}
	return &told{fleet: a.Fleet()}
}
