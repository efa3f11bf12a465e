// Package reconcile turns a fleet into what runs: it compares what is asked
// for with what is there, does the difference, and tells the edge.
//
// Desired, Diff and Routes are pure and hold the thought; Agent does the IO
// around them.
package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"swage/runtime"
	"swage/schema"
)

// Desired is what the fleet asks of one server.
func Desired(f *schema.Fleet, server string) runtime.State {
	var s runtime.State
	for _, p := range f.Projects {
		here := false
		for _, c := range p.Containers {
			if c.Server != server {
				continue
			}
			here = true
			s.Containers = append(s.Containers, runtime.Container{
				ID: runtime.ID(c.ID), Project: p.Name, Name: c.Name,
				Image: c.Image, Env: environment(c), Status: runtime.Status(c.State),
				Protected: c.Protected || p.Protected, Commit: f.Commit,
			})
		}
		if here {
			s.Projects = append(s.Projects, runtime.Project{Name: p.Name, ID: runtime.ID(p.ID)})
		}
	}
	s.Sort()
	return s
}

// environment is what of a container's environment is at hand. A container
// that lacks a value is Unready, so that it is never run without.
func environment(c schema.Container) map[string]string {
	env := make(map[string]string, len(c.Env))
	for name, secret := range c.Env {
		if value, err := secret.Reveal(schema.Keys{}); err == nil {
			env[name] = value
		}
	}
	return env
}

// Scope is what a Runtime for one server of the fleet must know.
func Scope(f *schema.Fleet, server string) runtime.Scope {
	s := f.Servers[server]
	return runtime.Scope{
		Fleet: runtime.ID(f.ID), Server: server,
		Bridge: s.Bridge, StoragePool: s.StoragePool, Prefix: s.ProjectPrefix, ImageServer: s.ImageServer,
	}
}

// DeleteLimits is what bounds deletions on one server of the fleet.
func DeleteLimits(f *schema.Fleet, server string) Limits {
	l := Limits{MaxDeletes: f.MaxDeletes, Elsewhere: map[string]string{}, Unready: map[string]string{}}
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			if c.Server == server {
				for _, name := range slices.Sorted(maps.Keys(c.Env)) {
					if _, err := c.Env[name].Reveal(schema.Keys{}); err != nil {
						l.Unready[p.Name+"/"+c.Name] = fmt.Sprintf("environment_vars.%s: %v", name, err)
					}
				}
				continue
			}
			l.Elsewhere[p.Name+"/"+c.Name] = c.Server
			if c.ID != "" {
				l.Elsewhere[c.ID] = c.Server
			}
		}
	}
	return l
}

// Between is the plan from one fleet to another for one server, as if the
// first were what runs: what a commit would do, with no server at hand.
func Between(before, after *schema.Fleet, server string) Plan {
	before, after = opaque(before), opaque(after)
	have := Desired(before, server)
	for i, c := range have.Containers {
		if c.ID == "" { // some ID was drawn; only the server knows which
			have.Containers[i].ID = runtime.ID("(the id of " + c.Ref() + ")")
		}
	}
	return Diff(have, Desired(after, server), DeleteLimits(after, server))
}
