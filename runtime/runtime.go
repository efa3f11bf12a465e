package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
)

// Scope says whose objects a Runtime sees and where it puts new ones.
// Everything outside the scope is foreign: never changed, never deleted.
type Scope struct {
	Fleet  ID     // fleet id from swage.cue
	Server string // name of this server in the fleet

	Bridge      string // network that containers are attached to
	StoragePool string // pool that holds their disks
	Prefix      string // put before a project's name to make its Incus project
	ImageServer string // simplestreams server for images that are not here
}

// Runtime runs containers. Implementations hold no truth of their own: all
// that must be remembered stands on the objects themselves, so a new Runtime
// for the same Scope sees exactly what an older one left.
//
// All methods return soon after their context is cancelled. What was asked
// for may still come to pass; the next Observe tells.
type Runtime interface {
	// Observe returns all that carries the mark of the scope, in normal
	// form. An answer that may be incomplete is an error, never a shorter
	// State: a shorter State would read as "all of it was deleted".
	Observe(ctx context.Context) (Actual, error)

	// Do performs one step and returns when it is done. Doing a step twice
	// is as good as once, also after a crash half-way. An object that is in
	// the way and is not ours is an error; it is left as it is. The returned
	// Container is the one changed as it is now (with the ID drawn for it),
	// the zero Container for steps on projects and for deletions.
	Do(ctx context.Context, s Step) (Done, error)

	// Watch sends to changed, without blocking, when something may have
	// changed, until ctx ends; it mends its own connection. A hint can be late,
	// doubled or lost.
	Watch(ctx context.Context, changed chan<- struct{}) error
}

// Done is what a step left behind.
type Done struct {
	Project   Project    // set by CreateProject
	Container Container  // set by steps on a container that still exists
	Addr      netip.Addr // set when the container runs and its address is known
}

// NewID draws an ID from the system's random source.
func NewID() ID {
	var b [12]byte
	rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return ID(hex.EncodeToString(b[:]))
}
