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

	Containers []Container
	Aliases    []Alias
}

// Container is a target. Its hosts are
// "{ProjectID}-{ID}-{program}-{n}.{Zone}".
type Container struct {
	// 24 lower-case hexadecimal digits each; ID is unique. Both are empty for
	// a container that is not made yet: it has no host of its own.
	ProjectID, ID string

	// Name is "project/name", unique, for aliases and logs.
	Name string

	// Addr is where the container is reached. The zero Addr says that it is
	// not running.
	Addr netip.Addr

	// Ingress are the rules of the container's firewall about what reaches
	// it. They judge callers that Permissions let in. None: all do.
	Ingress []Rule

	// Permissions is the document that applies, already merged with the
	// project's. Nil means that there is none, which allows everyone.
	// Containers may share one document.
	Permissions *Permissions
}

// Permissions is a permissions document. Its zero value denies everyone.
type Permissions struct {
	// Default is Allow or Deny. It is used when no group that the caller
	// belongs to has a cell for the program.
	Default Verdict

	Groups map[string]Group           // by name
	Cells  map[string]map[string]Cell // by group, then program
}

// Group is a set of callers, by address. Its zero value matches nobody.
type Group struct {
	// Ranges are canonical: no bits are set behind the prefix length, and
	// IPv4 is not written as IPv6.
	Ranges []netip.Prefix
}

// Cell is what a group may reach of a program. Its zero value denies.
type Cell struct {
	All   bool        // every port
	Ports []PortRange // otherwise these, in any order
}

// PortRange holds the ports from First to Last, both included. For one port
// the two are equal.
type PortRange struct{ First, Last uint16 }

// Alias is the host "{Name}.{Zone}", which leads to one port of one container.
// The container's permissions decide.
type Alias struct {
	Name      string // a DNS label in lower case, unlike any generated host
	Container string // the Name of one of Containers
	Program   string // "http"
	Port      uint16 // never 0

	// TargetPath is where "/" leads; other paths are joined to it unless
	// they lie below it already. It is percent-encoded and absolute. Empty
	// means "/".
	TargetPath string

	// AllowPathOverride admits paths other than "/" and TargetPath.
	AllowPathOverride bool

	// ExpiresAt is the first moment at which the alias is unknown. Zero
	// means never.
	ExpiresAt time.Time
}
