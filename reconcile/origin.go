package reconcile

import (
	"strings"

	"swage/runtime"
	"swage/schema"
)

// Origin is a field that asks for a step, and where it stands.
type Origin struct {
	Field string `json:"field,omitempty"` // "environment_vars.PORT"; empty: the declaration itself
	At    string `json:"at"`              // file:line:column
}

// declarations are what a fleet says of one server, for many questions.
type declarations struct {
	projects map[string]schema.Pos
	byID     map[string]*schema.Container
	byRef    map[string]*schema.Container // project/name
}

func declarationsOf(f *schema.Fleet, server string) declarations {
	d := declarations{map[string]schema.Pos{}, map[string]*schema.Container{}, map[string]*schema.Container{}}
	for i := range f.Projects {
		p := &f.Projects[i]
		d.projects[p.Name] = p.Pos
		for j := range p.Containers {
			c := &p.Containers[j]
			if c.Server != server {
				continue
			}
			d.byRef[p.Name+"/"+c.Name] = c
			if c.ID != "" {
				d.byID[c.ID] = c
			}
		}
	}
	return d
}

// of is a container: by its ID, else by name.
func (d declarations) of(c runtime.Container) *schema.Container {
	if found := d.byID[string(c.ID)]; found != nil && c.ID != "" {
		return found
	}
	return d.byRef[c.Ref()]
}

// origins finds what in the fleet asks for a step. Nothing does for a
// deletion: its declaration is gone.
func (d declarations) origins(s runtime.Step) []Origin {
	if p, ok := s.(runtime.CreateProject); ok {
		if at, ok := d.projects[p.Project.Name]; ok {
			return []Origin{{At: at.String()}}
		}
		return nil
	}
	c := d.of(s.Container())
	if c == nil {
		return nil
	}
	switch s := s.(type) {
	case runtime.UpdateContainer:
		var out []Origin
		for _, change := range s.Changes() {
			field, _, _ := strings.Cut(change, " ")
			if field == "name" {
				out = append(out, Origin{At: c.Pos.String()})
				continue
			}
			out = append(out, Origin{field, c.At(strings.Split(field, ".")...).String()})
		}
		return out
	case runtime.StartContainer, runtime.StopContainer, runtime.PauseContainer, runtime.ResumeContainer:
		return []Origin{{"state", c.At("state").String()}}
	case runtime.CopyContainer:
		return []Origin{{"copy_from", c.At("copy_from").String()}}
	case runtime.AdoptContainer:
		return []Origin{{"adopt", c.At("adopt").String()}}
	}
	return []Origin{{At: c.Pos.String()}}
}

// declaration is what a fleet says of a container: by its ID, else by name.
func declaration(f *schema.Fleet, server string, c runtime.Container) *schema.Container {
	var named *schema.Container
	for i := range f.Projects {
		for j := range f.Projects[i].Containers {
			x := &f.Projects[i].Containers[j]
			switch {
			case x.Server != server:
			case x.ID != "" && x.ID == string(c.ID):
				return x
			case f.Projects[i].Name == c.Project && x.Name == c.Name:
				named = x
			}
		}
	}
	return named
}
