// Package edge is the proxy in front of a server's containers: it maps a host
// to a container, judges the caller by the container's permissions, and passes
// the request on.
//
// A [Config] is compiled into a [Table], which answers [Table.Decide] and is
// never written again. A [Proxy] outlives its tables: it owns connections and
// live requests, and changes tables by [Proxy.Swap].
package edge

import (
	"net/netip"
	"time"
)

// Config is everything the edge must know about the server it stands before.
type Config struct {
	// Zone is "<server>.<domain>" in lower case, without a trailing dot.
	// Every host lies exactly one label below it.
	Zone string

	// Version names the commit the Config was made from, for logs.
	Version string

	// API says that the host "api.{Zone}" is that of [Options].API.
	API bool

	// Git says that the host "git.{Zone}" is that of [Options].Git.
	Git bool

	Containers []Container
	Aliases    []Alias

	// Where finds what asks for a change of access: the field, and its place as
	// file:line:column. An empty place: the fleet of this Config has no such
	// thing. It is pure, and may be nil.
	Where func(Cause) (field, at string)
}

// Container is a target. Its hosts are
// "{ProjectID}-{ID}-{program}-{n}.{Zone}", and without "-{n}".
type Container struct {
	// 24 lower-case hexadecimal digits each; ID is unique. Both are empty for
	// a container that is not made yet: it has no host of its own.
	ProjectID, ID string

	// Name is "project/name", unique, for aliases and logs.
	Name string

	// Addr is where the container is reached. The zero Addr says that it has no
	// address of IPv4; it is reached at Addr6 then. Without either it is not
	// running.
	Addr netip.Addr

	// Addr6 is a second address, of IPv6, for callers of IPv6 whose own
	// address the container shall see. The zero Addr: there is none.
	Addr6 netip.Addr

	// Closed says that nothing may reach the container through the edge,
	// whatever its permissions say.
	Closed bool

	// Catalogue is what the container offers. Nil is nothing at all, as of a
	// container without kit. Containers should share one: it is compiled once.
	Catalogue *Catalogue

	// Ingress are the rules of the container's firewall about what reaches
	// it. They judge callers that Permissions let in. None: all do.
	Ingress []Rule

	// Permissions is the document that applies, already merged with the
	// project's. Nil means that there is none, which allows everyone.
	// Containers may share one document.
	Permissions *Permissions
}

// Catalogue is a set of programs of the kit. Every catalogue has http and https
// beside them, whose number is any port (80 and 443 without one).
type Catalogue struct{ Programs []Program }

// Program is a service of the kit.
type Program struct {
	Name  string   // by which permissions know it
	Names []string // by which hosts and aliases may call it too

	// Port is reached by hosts without a number, which stand for instance 1.
	Port uint16

	// Instances are numbered from 1. Instance n listens on InstanceBase+n-1;
	// if that is 0 all listen on Port, and are told apart by the header
	// Swage-Instance.
	Instances    int
	InstanceBase uint16

	// Levels that a cell may grant, from the least to the full one. None:
	// all or nothing. HonoursLevel says that the program keeps to what the
	// header Swage-Level tells it, so that a WebSocket may pass below the
	// full level.
	Levels       []string
	HonoursLevel bool
}

// Permissions is a permissions document. Its zero value denies everyone.
type Permissions struct {
	// Default is Allow or Deny. It is used when no group that the caller
	// belongs to has a cell for the program.
	Default Verdict

	Groups map[string]Group           // by name
	Cells  map[string]map[string]Cell // by group, then program
}

// Cell is what a group may reach of a program: ports of http and https,
// instances of others. A port that belongs to a program of the kit is that
// program's, however it is asked for. The zero value denies.
type Cell struct {
	All   bool        // every number
	Ports []PortRange // otherwise these, in any order

	// Level is the highest of the program's levels that is granted. Empty is
	// the full one; one that the program does not have grants nothing.
	Level string
}

// PortRange holds the numbers from First to Last, both included. For one
// number the two are equal.
type PortRange struct{ First, Last uint16 }

// Alias is the host "{Name}.{Zone}", which leads to one program of one
// container; paths of it may lead to others. The permissions of the container
// that a request is led to decide.
type Alias struct {
	Name string // a DNS label in lower case, unlike any generated host

	// Domains are further hosts of the alias: DNS names in lower case,
	// internationalised ones in their A-label form, outside the zone.
	Domains []string

	Target

	// TargetPath is where "/" leads; other paths are joined to it unless
	// they lie below it already. It is percent-encoded and absolute. Empty
	// means "/".
	TargetPath string

	// AllowPathOverride admits paths other than "/" and TargetPath.
	AllowPathOverride bool

	// Paths lead elsewhere than the alias itself; of those that match the
	// longest wins. What they match is passed on as it came.
	Paths []AliasPath

	// ExpiresAt is the first moment at which the alias is unknown. Zero
	// means never.
	ExpiresAt time.Time
}

// AliasPath is a part of an alias that has a target of its own.
type AliasPath struct {
	// Path matches itself and all that follows it after a slash, byte for
	// byte. It is percent-encoded, absolute and has no slash at its end,
	// except "/", which matches everything.
	Path string

	Target
}

// Target names a program of a container. The zero Target, and one that its
// container does not have, leads nowhere: 404.
type Target struct {
	Container string // the Name of one of Containers
	Program   string
	Port      uint16 // of http and https; 0: 80 or 443
	Index     int    // of other programs; 0: as a host without a number
}
