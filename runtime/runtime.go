package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"
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
	Placement   string // cluster member, or "@" and a group, of new containers; empty: as the engine chooses
	Subnets     string // CIDRs that addresses are taken from, with blanks between; empty: those of the bridge
	Ramdisks    string // folder of this host below which ramdisks are mounted
	Daemon      Daemon
	Identity    string // folder of this host with the client certificate for daemons elsewhere
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

	// Inspect returns an instance that is not ours, named
	// "<incus project>/<instance>", in normal form with neither ID, Project
	// nor Name, to compare it before it is adopted.
	Inspect(ctx context.Context, instance string) (Container, error)

	// Seek returns a container or an archive of another server of the fleet,
	// in normal form, to be copied. Its error is for people.
	Seek(ctx context.Context, o Origin) (Container, error)

	// Do performs one step and returns when it is done. Doing a step twice
	// is as good as once, also after a crash half-way. An object that is in
	// the way and is not ours is an error; it is left as it is. The returned
	// Container is the one changed as it is now (with the ID drawn for it),
	// the zero Container for steps on other things and for deletions. Where a
	// step takes its time, it names what it waits for with Phase.
	Do(ctx context.Context, s Step) (Done, error)

	// Watch sends to changed, without blocking, when something may have
	// changed, until ctx ends; it mends its own connection. Each time it begins
	// to listen it sends one, for what happened before. A hint can be late,
	// doubled or lost.
	Watch(ctx context.Context, changed chan<- struct{}) error

	// Guard puts back, within about a second, what somebody else takes away of
	// what this host needs for the containers beside the engine's own record:
	// rules, settings of the kernel, isolation. It tells of each Repair, also of
	// one that failed, until ctx ends. Only the holder of the lease calls it.
	// Whoever destroys in a loop gets one repair a second.
	Guard(ctx context.Context, tell func(Repair)) error

	// Note keeps a short value under a key for the whole scope, where the
	// next agent finds it with Observe. An empty value takes it away. Watch
	// tells neither of notes nor of the lease.
	Note(ctx context.Context, key, value string) error

	// Lease takes the lease on the scope for h, or renews it. While another
	// holds it the error is a *Taken, and nothing may be done. A lease ends
	// with Release, when it is not renewed for LeaseTime, or when its holder
	// is seen to be dead.
	Lease(ctx context.Context, h Holder) error
	// Release gives up the lease if h has it.
	Release(ctx context.Context, h Holder) error
}

// Repair is something of this host that was put back, or could not be.
type Repair struct {
	What string // for people: "the nftables table inet swage-…"
	Err  error  // why it could not be; nil: it is as it was
	// Faulted: Observe may have told it among the Faults.
	Faulted bool
}

// LeaseTime is how long a lease lasts that is not renewed.
const LeaseTime = time.Minute

// Holder is a process that changes what runs.
type Holder struct {
	Name string // for people: "agent, process 4711 on node-us"
	// Process identifies it on its host, so that another there can see
	// whether it lives; empty where nobody can.
	Process string
}

// Taken is the error of a Lease that another holds.
type Taken struct {
	Holder Holder
	Until  time.Time
}

func (t *Taken) Error() string {
	return fmt.Sprintf("another process works on this server: %s (until %s unless it goes on); stop it, or ask it with swage status", t.Holder.Name, t.Until.Format(time.TimeOnly))
}

type phaseKey struct{}

// WithPhase has tell called with what a step waits for, in words for people.
func WithPhase(ctx context.Context, tell func(phase string)) context.Context {
	return context.WithValue(ctx, phaseKey{}, tell)
}

// Phase says what a step waits for now.
func Phase(ctx context.Context, phase string) {
	if tell, ok := ctx.Value(phaseKey{}).(func(string)); ok {
		tell(phase)
	}
}

// Done is what a step left behind.
type Done struct {
	Project   Project    // set by CreateProject
	Container Container  // set by steps on a container that still exists
	Addr      netip.Addr // set when the container runs and its address is known
	Addr6     netip.Addr // the same for IPv6
	Spare     Spare      // set by CreateSpare
}

// NewID draws an ID from the system's random source.
func NewID() ID {
	var b [12]byte
	rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return ID(hex.EncodeToString(b[:]))
}
