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

// origins finds what in the fleet asks for a step. Nothing does for a
// deletion: its declaration is gone.
func origins(f *schema.Fleet, server string, s runtime.Step) []Origin {
	if p, ok := s.(runtime.CreateProject); ok {
		for _, x := range f.Projects {
			if x.Name == p.Project.Name {
				return []Origin{{At: x.Pos.String()}}
			}
		}
		return nil
	}
	c := declaration(f, server, s.Container())
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
