package schema

import (
	"net/netip"
	"time"
)

// Fleet is a whole repository that was found to be right: every reference
// resolves, every default is filled in. It is never written after Load.
type Fleet struct {
	ID     string
	Domain string
	// Commit that the fleet was read from; filled in by who knows it.
	Commit string
	// MaxDeletes is how many containers of a server may go at once.
	MaxDeletes int

	Servers  map[string]Server
	Projects []Project // sorted by name
}

// Zone is the domain below which the hosts of a server live.
func (f *Fleet) Zone(server string) string { return server + "." + f.Domain }

// Server is one machine of the fleet.
type Server struct {
	Listen        []string // addresses of the edge
	Bridge        string
	StoragePool   string
	ProjectPrefix string
	ImageServer   string // asked for images that the server lacks
}

// Project is one folder below projects/.
type Project struct {
	Name        string
	ID          string       // empty: drawn at creation
	Permissions *Permissions // nil: everything is allowed
	Containers  []Container  // sorted by name
	Aliases     []Alias      // sorted by name
}

// Container is what an author asks of one container.
type Container struct {
	Pos    Pos
	Name   string
	ID     string // empty: drawn at creation
	Server string
	Image  string
	Env    map[string]string
	State  string // running or stopped
}

// Alias is a short host name for one program of one container.
type Alias struct {
	Pos               Pos
	Name              string
	Container         string // name, in the same project
	Program           string
	Port              uint16
	TargetPath        string
	AllowPathOverride bool
	Enabled           bool
	ExpiresAt         time.Time // zero: never
}

// Permissions is one document.
type Permissions struct {
	DefaultAllow bool
	Groups       map[string][]netip.Prefix  // of type ip
	Cells        map[string]map[string]Cell // group → program → ports
}

// Cell is the set of ports that a group may reach; the zero Cell refuses all.
type Cell struct{ Ports []PortRange }

// PortRange includes both ends.
type PortRange struct{ From, To uint16 }
