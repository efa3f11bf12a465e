package runtime

import "net/netip"

// Listener is a socket of the host at which a program awaits callers. Ports that
// containers publish are none.
type Listener struct {
	Addr     netip.AddrPort // unspecified address: all of the host's of its family
	Protocol string         // tcp or udp
	// Both: an unspecified IPv6 address takes the calls to those of IPv4, too.
	Both bool
}

// Hears reports whether the listener would lose callers to a published port.
// What listens on loopback keeps them: no port is published there.
func (l Listener) Hears(p Publish) bool {
	if l.Protocol != p.Protocol || l.Addr.Port() != p.Listen.Port() {
		return false
	}
	at, to := l.Addr.Addr().Unmap().WithZone(""), p.Listen.Addr().Unmap().WithZone("")
	switch {
	case at.IsLoopback():
		return false
	case to.IsUnspecified(), at == to:
		return true
	}
	return at.IsUnspecified() && (at.Is4() == to.Is4() || l.Both)
}
