// Package runtime says what swage can ask of the thing that runs containers:
// the State it compares, the Steps it performs, and the Runtime that does both.
//
// Observed and desired are the same type in the same normal form, so that
// comparing them is structural and "nothing to do" is the common answer.
package runtime

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ID is 24 lower-case hexadecimal digits and is the identity of a container
// or of a project. The empty ID asks the Runtime to draw one at creation.
type ID string

// Status is what a container does, or is asked to do.
type Status string

// The statuses of a container. Other is anything the runtime reports that
// swage never asks for (error, half made); it is always a difference.
const (
	Running Status = "running"
	Paused  Status = "paused"
	Stopped Status = "stopped"
	Other   Status = "other"
)

// Project is a group of containers.
type Project struct {
	Name string // folder name in the fleet repository
	ID   ID     // part of every generated host name
}

// Container is one container, in normal form: of slices and maps nil and empty
// are equal, and lists whose order means nothing are sorted.
type Container struct {
	ID      ID
	Project string
	Name    string
	Image   string // os/release, as the fleet repository writes it
	Kit     bool   // fixed at creation, as Image is
	Status  Status

	Env       map[string]string
	Keys      []string // lines of root's authorized_keys, sorted, each once
	Ramdisk   bool     // a tmpfs at /ramdisk
	Autostart bool     // with the host
	Resources Resources
	Firewall  []Rule    // in the order written, those that are enabled
	Publish   []Publish // sorted
	Snapshots Schedule
	DependsOn []string // names in the same project, sorted
	Color     string
	Comment   string
	Realms    []string // sorted

	// Protected containers are not deleted. It stands on the object too, so
	// that a file that is gone does not take the protection along.
	Protected bool

	// Asked is the Status that swage was last asked for, running when paused
	// is. It tells a container that somebody stopped from one that rests.
	Asked Status

	// Commit last changed the container. It is carried, never compared:
	// a commit that leaves a container as it is does not touch it.
	Commit string
	// Declared is the last commit that declared the container, written once
	// none does any more. Carried, never compared.
	Declared string
	// Replaced: its deletion is held because a commit took every container of
	// the server away, whatever it added. Carried, never compared.
	Replaced bool
	// Applied is the Digest of what was asked when all of it was last done,
	// and is written last of all. Carried, never compared: it tells what
	// changed behind swage's back from what a commit changes.
	Applied string
	// Asleep: stopped since the host's last start. Observed, never asked for.
	Asleep bool
	// Unwritten: the files inside, from which services and logins have the
	// environment, do not hold Env. Observed, never asked for.
	Unwritten bool
}

// DefaultProcesses is how many a container may have of whom nothing else is said.
const DefaultProcesses = 4096

// NoLimit in the place of a number of processes.
const NoLimit = -1

// Resources bound what a container may use. Zero: no limit.
type Resources struct {
	CPU    float64 // cores
	Memory int64   // bytes
	Disk   int64   // bytes of the root disk
	// Processes and threads at once; 0 stands for DefaultProcesses, so that it
	// is never written otherwise.
	Processes int
}

// Rule is one firewall rule; an empty part matches everything.
type Rule struct {
	Direction        string // ingress or egress
	Action           string // allow, reject or drop
	Protocol         string // tcp, udp, icmp4 or icmp6
	Sources          []netip.Prefix
	Destinations     []netip.Prefix
	SourcePorts      []Ports
	DestinationPorts []Ports
}

// Ports is a range that includes both ends.
type Ports struct{ From, To uint16 }

// Publish leads a port of the host to one of the container.
type Publish struct {
	Listen   netip.AddrPort // unspecified address: all of the host's, of both families
	Protocol string         // tcp or udp
	Port     uint16
}

// Schedule is when snapshots are taken and how long they are kept.
type Schedule struct {
	Cron string // five fields or @daily and the like; empty: never
	Days int    // 0: no expiry
	Keep int    // 0: all
}

// Snapshot is one snapshot of a container or an archive.
type Snapshot struct {
	Name    string
	Taken   time.Time
	Expires time.Time // zero: never
}

// snapshotPrefix begins the names of snapshots that are taken by schedule.
const snapshotPrefix = "swage-"

// SnapshotName is the name of a snapshot that is taken by schedule.
func SnapshotName(at time.Time) string { return snapshotPrefix + at.UTC().Format("20060102-150405") }

// Scheduled reports whether the schedule took the snapshot, and nobody else. Only
// such are ever removed or given another end.
func (s Snapshot) Scheduled() bool {
	taken, ok := strings.CutPrefix(s.Name, snapshotPrefix)
	_, err := time.Parse("20060102-150405", taken)
	return ok && err == nil
}

// Archive is what is kept of a deleted container. It counts against no limit
// of containers, and nothing reaches it.
type Archive struct {
	ID      ID // that the container had
	Project string
	Name    string
	Image   string
	Kit     bool
	Realms  []string // of the container, sorted
	// Until is when it may go, to the second; it stays as long as it has
	// snapshots, too.
	Until time.Time
}

// Spare is a container of the warm pool: it runs and is nobody's yet. One that
// does not run, or was not made to its end, has no Image: it is good for
// nothing but to be deleted.
type Spare struct {
	ID      ID // empty in a desired State
	Project string
	Image   string
	Kit     bool
}

// Kind is what spares of one kind have in common: the Spare without its ID.
func (s Spare) Kind() Spare {
	s.ID = ""
	return s
}

// Ref is the name that people use: project/container.
func (c Container) Ref() string { return c.Project + "/" + c.Name }

// Same reports whether two containers are equal in all that swage compares.
func (c Container) Same(d Container) bool {
	return c.Project == d.Project && c.Image == d.Image && c.Kit == d.Kit && c.Status == d.Status && !differ(c, d)
}

// Digest is a short name for all of a container that is compared.
func (c Container) Digest() string {
	b := make([]byte, 0, 512)
	text := func(list ...string) { // each with its length, so that none runs into the next
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
	}
	text(c.Project, c.Name, c.Image, string(c.Status), string(c.Asked), c.Color, c.Comment, c.Snapshots.Cron)
	for _, yes := range []bool{c.Kit, c.Ramdisk, c.Autostart, c.Protected} {
		b = strconv.AppendBool(b, yes)
	}
	b = fmt.Append(b, c.Resources.CPU, c.Resources.Memory, c.Resources.Disk, c.Snapshots.Days, c.Snapshots.Keep)
	if c.Resources.Processes != NoLimit { // as before there was one
		b = fmt.Append(b, " processes ", c.Resources.Processes)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		text(k, c.Env[k])
	}
	text(c.Keys...)
	text(c.DependsOn...)
	text(c.Realms...)
	if len(c.Firewall) > 0 || len(c.Publish) > 0 {
		b = fmt.Append(b, c.Firewall, c.Publish)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// State is what swage owns on one server. The zero State owns nothing.
type State struct {
	Projects   []Project   // sorted by name
	Containers []Container // sorted by project, name, ID
	Spares     []Spare     // sorted by project, image, ID
	Archives   []Archive   // sorted by project, name, ID
	// Snapshots of containers and archives, the oldest first.
	Snapshots map[ID][]Snapshot
	Conflicts []Conflict // sorted by object
	// Listeners are the sockets of the host, where the containers' ports are
	// published; none where they are not.
	Listeners []Listener
}

// Sort puts s into its normal order.
func (s *State) Sort() {
	slices.SortFunc(s.Projects, func(a, b Project) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Containers, func(a, b Container) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Name, b.Name), strings.Compare(string(a.ID), string(b.ID)))
	})
	slices.SortFunc(s.Spares, func(a, b Spare) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Image, b.Image), strings.Compare(string(a.ID), string(b.ID)))
	})
	slices.SortFunc(s.Archives, func(a, b Archive) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Name, b.Name), strings.Compare(string(a.ID), string(b.ID)))
	})
	sortConflicts(s.Conflicts)
	for _, list := range s.Snapshots {
		slices.SortStableFunc(list, func(a, b Snapshot) int { return a.Taken.Compare(b.Taken) })
	}
}

// Actual is an observed State together with what only the node knows.
type Actual struct {
	State
	// Addr and Addr6 hold the addresses of each running container that has
	// them, paused ones included.
	Addr, Addr6 map[ID]netip.Addr
	// Started is when the init of each container was started last, whoever
	// asked: another value means another init. A container that was never
	// started has none. It is told by Observe alone, by the engine's clock.
	Started map[ID]time.Time
	// Faults of this host keep callers from all containers, for people.
	Faults []string
	// Notes are what swage itself remembers on this server; see Runtime.Note.
	Notes map[string]string
}

// Reached is the address at which a running container is called: that of IPv4,
// else that of IPv6. It is invalid where none is known.
func (a Actual) Reached(id ID) netip.Addr {
	if addr := a.Addr[id]; addr.IsValid() {
		return addr
	}
	return a.Addr6[id]
}

// Clone returns a copy that shares nothing that changes.
func (a Actual) Clone() Actual {
	return Actual{
		State: State{
			Projects: slices.Clone(a.Projects), Containers: slices.Clone(a.Containers),
			Spares: slices.Clone(a.Spares), Archives: slices.Clone(a.Archives), Snapshots: maps.Clone(a.Snapshots),
			Conflicts: slices.Clone(a.Conflicts), Listeners: slices.Clone(a.Listeners),
		},
		Faults: slices.Clone(a.Faults), Addr: maps.Clone(a.Addr), Addr6: maps.Clone(a.Addr6), Started: maps.Clone(a.Started), Notes: maps.Clone(a.Notes),
	}
}
