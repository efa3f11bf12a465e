package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Step is one change to what runs. A plan is an ordered list of them.
type Step interface {
	fmt.Stringer
	// Effect says what the step does to what runs now.
	Effect() Effect
	// Container is the container that the step changes; its zero value for
	// steps that change a project.
	Container() Container
}

// Effect is what a step does to what runs now.
type Effect string

// The effects, from harmless to final.
const (
	Live    Effect = "live"    // nothing that runs is interrupted
	Restart Effect = "restart" // the container stops and starts again
	Stop    Effect = "stop"    // the container stops
	Destroy Effect = "destroy" // the container and its data are gone
)

type (
	// CreateProject makes a project.
	CreateProject struct{ Project Project }
	// DeleteProject removes a project that has no containers left.
	DeleteProject struct{ Project Project }
	// CreateContainer makes a container from its image, and starts it if
	// its Status says so. An empty ID is drawn by the Runtime.
	CreateContainer struct{ New Container }
	// UpdateContainer makes From equal to To in everything but Project,
	// Image and Status. The ID of both is the same.
	UpdateContainer struct{ From, To Container }
	// MoveContainer puts a container into another project.
	MoveContainer struct{ From, To Container }
	// StartContainer starts a stopped container.
	StartContainer struct{ Target Container }
	// StopContainer stops a running container.
	StopContainer struct{ Target Container }
	// DeleteContainer stops a container and removes it with its data.
	DeleteContainer struct{ Target Container }
)

// Restarts reports whether the update interrupts what runs, frozen or not: the
// environment of a process cannot change under it. It runs afterwards.
func (s UpdateContainer) Restarts() bool {
	return s.From.Status != Stopped && !maps.Equal(s.From.Env, s.To.Env)
}

func (s CreateProject) Effect() Effect   { return Live }
func (s DeleteProject) Effect() Effect   { return Live }
func (s CreateContainer) Effect() Effect { return Live }
func (s UpdateContainer) Effect() Effect {
	if s.Restarts() {
		return Restart
	}
	return Live
}

func (s MoveContainer) Effect() Effect {
	if s.From.Status == Running {
		return Restart
	}
	return Live
}
func (s StartContainer) Effect() Effect  { return Live }
func (s StopContainer) Effect() Effect   { return Stop }
func (s DeleteContainer) Effect() Effect { return Destroy }

func (s CreateProject) Container() Container   { return Container{} }
func (s DeleteProject) Container() Container   { return Container{} }
func (s CreateContainer) Container() Container { return s.New }
func (s UpdateContainer) Container() Container { return s.To }
func (s MoveContainer) Container() Container   { return s.To }
func (s StartContainer) Container() Container  { return s.Target }
func (s StopContainer) Container() Container   { return s.Target }
func (s DeleteContainer) Container() Container { return s.Target }

func (s CreateProject) String() string { return "create project " + s.Project.Name }
func (s DeleteProject) String() string { return "delete project " + s.Project.Name }

func (s CreateContainer) String() string {
	return fmt.Sprintf("create container %s (%s, %s)", s.New.Ref(), s.New.Image, s.New.Status)
}

func (s UpdateContainer) String() string {
	return fmt.Sprintf("update container %s: %s", s.From.Ref(), strings.Join(s.Changes(), ", "))
}

func (s MoveContainer) String() string {
	return fmt.Sprintf("move container %s to %s", s.From.Ref(), s.To.Ref())
}
func (s StartContainer) String() string  { return "start container " + s.Target.Ref() }
func (s StopContainer) String() string   { return "stop container " + s.Target.Ref() }
func (s DeleteContainer) String() string { return "delete container " + s.Target.Ref() }

// Changes names what differs, field by field, in a fixed order. Values of
// environment variables may be secrets, so only their names are said.
func (s UpdateContainer) Changes() []string {
	var out []string
	if s.From.Name != s.To.Name {
		out = append(out, "name "+s.From.Name+" → "+s.To.Name)
	}
	if s.From.Protected != s.To.Protected {
		out = append(out, fmt.Sprintf("protected %t", s.To.Protected))
	}
	for _, k := range slices.Sorted(maps.Keys(union(s.From.Env, s.To.Env))) {
		old, had := s.From.Env[k]
		now, has := s.To.Env[k]
		switch {
		case !had:
			out = append(out, "environment_vars."+k+" added")
		case !has:
			out = append(out, "environment_vars."+k+" removed")
		case old != now:
			out = append(out, "environment_vars."+k+" changed")
		}
	}
	return out
}

func union(a, b map[string]string) map[string]string {
	u := maps.Clone(b)
	if u == nil {
		u = map[string]string{}
	}
	maps.Copy(u, a)
	return u
}
