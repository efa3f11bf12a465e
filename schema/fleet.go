package schema

import (
	"net/netip"
	"time"
)

// Fleet is a whole repository that was found to be right: every reference
// resolves, every default is filled in. It is never written after Load.
type Fleet struct {
	own    spot // swage.cue
	ID     string
	Domain string
	// Commit that the fleet was read from; filled in by who knows it.
	Commit string
	// MaxDeletes is how many containers of a server may go at once.
	MaxDeletes int
	// ArchiveDays is how long a deleted container is kept; 0: not.
	ArchiveDays int
	// Signers whose commits are applied; none: everyone's.
	Signers Signers
	// ReportDrift says that changes made behind swage's back are not put back.
	ReportDrift bool
	// AutoRollback puts a commit that fails back to the one before.
	AutoRollback bool
	// Settle is how long a container without a health check must stay up.
	Settle   time.Duration
	Parallel int // containers worked on at once, on each server
	Events   Events

	// Programs is the kit catalogue of the fleet, by name.
	Programs map[string]Program

	Servers  map[string]Server
	Projects []Project // sorted by name

	// Warnings are what is allowed and yet most likely a mistake.
	Warnings Problems
}

// Zone is the domain below which the hosts of a server live.
func (f *Fleet) Zone(server string) string { return server + "." + f.Domain }

// Signers are keys in the formats of OpenSSH and OpenPGP.
type Signers struct {
	SSH     []string // lines of an allowed_signers file
	OpenPGP []string // armored
}

// Events is where events are sent to; an empty URL: nowhere.
type Events struct {
	URL    string
	Secret Secret
}

// Program is an entry of the catalogue.
type Program struct {
	Port         uint16
	Instances    int
	InstanceBase uint16   // port of instance 1; 0: all share Port
	Slug         string   // stands in host names
	Names        []string // that reach it too
	Levels       []string // from the least to the full one
	HonoursLevel bool
	NoCache      bool
}

// Server is one machine of the fleet.
type Server struct {
	Pos Pos // of its file

	Listen        []string       // addresses of the edge for HTTPS
	Balancers     []netip.Prefix // that name their client on Listen
	HTTP          []string
	SSH           []string
	PublicAddrs   []netip.Addr
	TLS           TLS
	Bridge        string
	Subnets       []netip.Prefix
	StoragePool   string
	MaxContainers int   // -1: no limit
	MaxMemory     int64 // bytes; 0: no limit

	IncusSocket string // empty: that of the node file
	IncusRemote string // of the agent without IncusSocket; of other servers always
	// IncusCertificate is that of IncusRemote, in PEM; empty: a public one.
	IncusCertificate string
	ProjectPrefix    string
	ImageServer      string // asked for images that the server lacks
	Member, Group    string // of an Incus cluster; empty: as Incus chooses

	AgeRecipients []string
	Tokens        map[string]Token
	Webhooks      map[string]Secret // by forge
	Forge         Forge
	StatusPage    *Permissions // nil: closed
	Maintenance   bool

	own spot
}

// TLS is where certificates come from.
type TLS struct {
	Type         string // acme, files, internal, or empty: not said
	Email        string
	Directory    string
	DNSProvider  string
	DNSOptions   map[string]Secret
	Certificates []Certificate
}

// Certificate names files on the node.
type Certificate struct{ Certificate, Key string }

// Token lets its holder in.
type Token struct {
	Value     Secret
	SHA256    string // instead of Value
	SSHKey    []byte // instead of both: a public key as SSH sends it (RFC 4253, section 6.6)
	Allow     []string
	Realm     string
	ExpiresAt time.Time // zero: never
}

// Forge is where the status of commits is told; an empty Type: nowhere.
type Forge struct {
	Type, URL, Repository string
	Token                 Secret
}

// Project is one folder below projects/.
type Project struct {
	Pos           Pos // of its declaration; without one, of its first file
	Name          string
	ID            string // empty: drawn at creation
	Color         string
	Comment       string
	MaxContainers int // -1: no limit
	RealmIDs      []string
	EnableProxy   *bool // nil: true
	Prespawn      []Prespawn
	Protected     bool
	Permissions   *Permissions // nil: everything is allowed
	Containers    []Container  // sorted by name
	Aliases       []Alias      // sorted by name

	own spot // the declaration
}

// Prespawn is a part of the warm pool.
type Prespawn struct {
	Image string
	Kit   bool
	Count int
}

// Container is what an author asks of one container.
type Container struct {
	Pos            Pos
	Name           string
	ID             string // empty: drawn at creation
	Server         string
	Image          string
	Kit            bool
	Env            map[string]Secret
	PublicKey      string
	AuthorizedKeys []string
	Color          string
	Comment        string
	Autostart      bool
	AI             bool
	Cache          bool
	BypassPrespawn bool
	Ramdisk        bool
	RealmIDs       []string
	State          string // running, stopped or paused
	ProxyOpen      bool   // enable_proxy of the container, else of the project, else true
	StaysOpen      bool   // it is open although its project is closed
	// Permissions are what applies, merged with the project's; containers
	// without a document of their own share the project's. Nil: everything is
	// allowed.
	Permissions *Permissions
	Programs    map[string]Program // the catalogue of this container; without kit none
	CPU         float64            // cores; 0: no limit
	Memory      int64              // bytes; 0: no limit
	Disk        int64              // bytes; 0: no limit
	Processes   int                // and threads; 0: the default
	Firewall    []FirewallRule
	Publish     []Publish
	Snapshots   Snapshots
	CopyFrom    *CopyFrom // nil: made from Image
	DependsOn   []string
	Health      *Health // nil: running is healthy
	Protected   bool
	Adopt       string // "<incus project>/<instance>"; empty: made anew

	// own is the declaration, for messages about single fields. A broken one
	// never leaves Load.
	own    spot
	broken bool
}

// FirewallRule matches where every part that it has matches.
type FirewallRule struct {
	Direction        string // ingress or egress
	Action           string // allow, reject or drop
	Protocol         string // tcp, udp, icmp4, icmp6; empty: all
	Sources          []netip.Prefix
	Destinations     []netip.Prefix
	SourcePorts      []PortRange
	DestinationPorts []PortRange
	Description      string
	Enabled          bool
}

// Publish leads a port of the host to one of the container.
type Publish struct {
	Listen   string
	Protocol string
	Port     uint16
}

// Snapshots that are taken by themselves.
type Snapshots struct {
	Schedule string // empty: none
	Expiry   time.Duration
	Keep     int // 0: all
}

// CopyFrom is the source of a copy. Either Container or Archive is set.
type CopyFrom struct {
	Project, Server, Container string
	Archive                    string // id of a deleted container
	Snapshot                   string // empty: as it is; of an archive, the newest
}

// Health is a check that gates a deploy.
type Health struct {
	Program      string
	Port         uint16 // of http and https
	Index        int    // of other programs
	Path         string
	Interval     time.Duration
	Timeout      time.Duration
	HealthyAfter int
	Deadline     time.Duration
}

// Alias is a short host name for one program of one container.
type Alias struct {
	Pos               Pos
	Name              string
	Containers        []string // names, in the same project; one for each server
	Program           string
	Port              uint16 // of http and https
	Index             int    // of other programs
	TargetPath        string
	AllowPathOverride bool
	Paths             []AliasPath // the longest first
	Enabled           bool
	ExpiresAt         time.Time // zero: never
	Domains           []string

	own spot // the declaration
}

// AliasPath leads a path of an alias elsewhere.
type AliasPath struct {
	Path      string
	Container string
	Program   string
	Port      uint16
	Index     int
}

// Permissions is one document.
type Permissions struct {
	Pos          Pos // of the document; of its default, where it has one
	DefaultAllow bool
	Groups       map[string]Group
	Cells        map[string]map[string]Cell // group → program → what it may reach
}

// Group is a set of requests. Exactly one of its parts is set beside Pos.
type Group struct {
	Pos      Pos
	Ranges   []netip.Prefix
	Password *Password
	Token    *TokenGroup
	JWT      *JWT
	All      []Group // none of which has All
}

// Password is HTTP Basic.
type Password struct {
	Username string
	Hash     Secret
}

// TokenGroup is a token in a request. Exactly one of Header, Cookie and Param
// is set, and exactly one of Value and SHA256.
type TokenGroup struct {
	Header, Cookie, Param string
	Value                 Secret
	SHA256                string
}

// JWT is a JSON Web Token.
type JWT struct {
	Algorithm string
	Secret    Secret // of HS…
	PublicKey string // PEM
	JWKSURL   string
	Sources   []JWTSource      // never empty
	Claims    map[string][]any // one of the values must be there
	Issuer    string
	Audience  string
}

// JWTSource is where a JWT stands; one of its fields is set.
type JWTSource struct{ Header, Cookie, Param string }

// Cell is what a group may reach of a program; the zero Cell refuses all.
type Cell struct {
	Pos   Pos
	Ports []PortRange // of http and https; instances of another program
	Level string      // of the program's levels; empty: the full one
}

// PortRange includes both ends.
type PortRange struct{ From, To uint16 }
