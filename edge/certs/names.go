package certs

import (
	"maps"
	"strings"
	"time"
)

// Names are all that a server answers for: anything else is refused in the
// handshake. Names are in lower case, in their A-label form.
type Names struct {
	// Zone stands for itself and for every name exactly one label below it.
	Zone string

	// Domains are the others, each with the moment from which on no
	// certificate is made or renewed for it; zero is never. The certificate
	// that is there by then is served further.
	Domains map[string]time.Time
}

// need is what one handshake asks for.
type need struct {
	host    string // as the client asked for it; the zone if it named nothing
	subject string // the zone for all that it stands for, or the domain
	zone    bool
	closed  bool // nothing may be issued
}

// find resolves the name of a ClientHello (RFC 6066, section 3), which is empty
// where a client names nothing, as for an address.
func (n Names) find(serverName string, now time.Time) (need, bool) {
	if n.Zone == "" {
		return need{}, false
	}
	host := strings.ToLower(serverName)
	if host == "" {
		host = n.Zone
	}
	label, parent, _ := strings.Cut(host, ".")
	if host == n.Zone || parent == n.Zone && label != "" {
		return need{host: host, subject: n.Zone, zone: true}, true
	}
	end, ok := n.Domains[host]
	return need{host: host, subject: host, closed: !end.IsZero() && !now.Before(end)}, ok
}

func (n Names) equal(m Names) bool {
	return n.Zone == m.Zone && maps.EqualFunc(n.Domains, m.Domains, time.Time.Equal)
}
