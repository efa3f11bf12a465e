// Package runtime says what swage can ask of the thing that runs containers:
// the State it compares, the Steps it performs, and the Runtime that does both.
//
// Observed and desired are the same type in the same normal form, so that
// comparing them is structural and "nothing to do" is the common answer.
package runtime

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// ID is 24 lower-case hexadecimal digits and is the identity of a container
// or of a project. The empty ID asks the Runtime to draw one at creation.
type ID string

// Status is what a container does, or is asked to do.
type Status string

// The statuses of a container. Other is anything the runtime reports that
// swage never asks for (frozen, error); it is always a difference.
const (
	Running Status = "running"
	Stopped Status = "stopped"
	Other   Status = "other"
)

// Project is a group of containers.
type Project struct {
	Name string // folder name in the fleet repository
	ID   ID     // part of every generated host name
}

// Container is one container, in normal form.
type Container struct {
	ID      ID
	Project string
	Name    string
	Image   string            // os/release, as the fleet repository writes it
	Env     map[string]string // nil and empty are equal
	Status  Status

	// Protected containers are not deleted. It stands on the object too, so
	// that a file that is gone does not take the protection along.
	Protected bool

	// Commit last changed the container. It is carried, never compared:
	// a commit that leaves a container as it is does not touch it.
	Commit string
}

// Ref is the name that people use: project/container.
func (c Container) Ref() string { return c.Project + "/" + c.Name }

// Same reports whether two containers are equal in all that swage compares.
func (c Container) Same(d Container) bool {
	return c.ID == d.ID && c.Project == d.Project && c.Name == d.Name &&
		c.Image == d.Image && c.Status == d.Status && c.Protected == d.Protected && maps.Equal(c.Env, d.Env)
}

// State is what swage owns on one server. The zero State owns nothing.
type State struct {
	Projects   []Project   // sorted by name
	Containers []Container // sorted by project, name, ID
}

// Sort puts s into its normal order.
func (s *State) Sort() {
	slices.SortFunc(s.Projects, func(a, b Project) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Containers, func(a, b Container) int {
		if c := strings.Compare(a.Ref(), b.Ref()); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
}

// Actual is an observed State together with what only the node knows.
type Actual struct {
	State
	// Addr holds the address of each running container that has one.
	Addr map[ID]netip.Addr
}

// Clone returns a copy that shares nothing that changes.
func (a Actual) Clone() Actual {
	return Actual{
		State: State{Projects: slices.Clone(a.Projects), Containers: slices.Clone(a.Containers)},
		Addr:  maps.Clone(a.Addr),
	}
}
