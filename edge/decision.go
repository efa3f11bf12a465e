package edge

import (
	"net/http"
	"net/netip"
	"time"
)

// Verdict is what becomes of a request. Its zero value is Deny.
type Verdict uint8

const (
	Deny        Verdict = iota // the caller may not: 401 or 403
	Allow                      // passed on
	NotFound                   // nothing has this host or path: 404
	Unavailable                // the container does not run, or is closed: 503
	Elsewhere                  // names a second target that is not to be had with the first: 502
)

// String returns the verdict as it stands in logs.
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case NotFound:
		return "not found"
	case Unavailable:
		return "unavailable"
	case Elsewhere:
		return "elsewhere"
	default:
		return "deny"
	}
}

// Request is all of a request that decides its fate.
type Request struct {
	Host   string     // as received: any letter case, port and trailing dot allowed
	Client netip.Addr // the socket's; IPv4 in IPv6 is read as IPv4
	Path   string     // percent-encoded, as received, without the query
	Time   time.Time

	Method   string // empty: GET
	Upgrade  bool   // asks for a WebSocket or another protocol on the connection
	Override bool   // names another method than Method, as some frameworks heed

	// Targets are the other resources that the header names: the values of
	// Destination, and the resource tags of If (RFC 4918, sections 10.3 and
	// 10.4.2), as received. One that cannot be read is empty.
	Targets []string

	// Overwrite says that the header Overwrite is there and is not "F" (RFC
	// 4918, section 10.6): what Destination names is deleted first.
	Overwrite bool

	Identity Identity
}

// Ask is a set of ways to ask a caller for a credential (RFC 9110, section
// 11.6.1).
type Ask uint8

const (
	AskBasic  Ask = 1 << iota // RFC 7617
	AskBearer                 // RFC 6750; also for tokens that stand elsewhere
)

// Decision is the answer to a Request. Its zero value denies.
type Decision struct {
	Verdict Verdict

	// Closed tells, of an Unavailable, that it is not for want of a running
	// container.
	Closed bool

	Why   string // for logs; never for the caller, who may be a stranger
	Route Route  // zero unless the verdict is Allow

	// Container is the Name of the container that the host leads to, empty
	// when it leads nowhere.
	Container string

	// Program and Number are what permissions know the target as: a port of
	// http and https, an instance of another program. Group is that whose cell
	// decided; empty when none did.
	Program string
	Number  uint16
	Group   string

	// Ask tells, of a Deny, how to ask for credentials that would help.
	Ask Ask

	// Generated says that the host has the form of a container's own host,
	// known or not. Such a host is hard to guess and works as a credential.
	Generated bool

	// Until ends an Allow that would otherwise last for as long as the
	// table. Zero means no end.
	Until time.Time
}

// Route is where an allowed request goes.
type Route struct {
	// API says that [Options].API answers; all else is zero then.
	API bool

	// Git says the same of [Options].Git.
	Git bool

	TLS         bool   // the container is spoken to over TLS
	Instance    uint16 // what the header Swage-Instance says; 0: no such header
	Level       string // what the header Swage-Level says; empty: no such header
	ContainerID string
	Addr        netip.AddrPort
	Addr6       netip.Addr // where callers of IPv6 may be led instead; may be zero

	// Path, when not empty, replaces the path of the request. Prefix is put
	// before it otherwise.
	Path, Prefix string
}

// Status is the status of HTTP that answers a refusal; 200 for what is passed
// on.
func (d Decision) Status() int {
	if d.Verdict == Allow {
		return http.StatusOK
	}
	return d.refusal().status
}
