// Package limit bounds what clients may take of a server before it knows who
// they are: connections, guesses at credentials, and time. A client is an
// address of IPv4, or a /64 of IPv6, which is what one subscriber has.
package limit

import (
	"net"
	"net/netip"
)

// prefixes are the networks that a client's address is counted in, from the
// narrowest on: /64, /56 and /48 of IPv6, /32 and /24 of IPv4. The zero address
// is in one network of its own.
type prefixes struct{ client, site, network netip.Prefix }

func prefixesOf(addr netip.Addr) (p prefixes) {
	bits := [3]int{64, 56, 48}
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = [3]int{32, 32, 24}
	}
	if addr.IsValid() { // then no prefix fails
		p.client, _ = addr.Prefix(bits[0])
		p.site, _ = addr.Prefix(bits[1])
		p.network, _ = addr.Prefix(bits[2])
	}
	return p
}

// AddrOf is the IP address of a. The zero Addr: it has none.
func AddrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr()
	case *net.UDPAddr:
		return a.AddrPort().Addr()
	case nil:
		return netip.Addr{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr()
}
