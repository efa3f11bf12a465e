package certs

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// dialer connects without TLS to a server that the settings name. It refuses
// this machine itself, where a service may trust whoever reaches it, unless the
// operator allows that service.
func (n Node) dialer(server string) *net.Dialer {
	d := &net.Dialer{Timeout: 10 * time.Second}
	if slices.Contains(n.Services, server) {
		return d
	}
	d.Control = func(_, address string, _ syscall.RawConn) error { // what a name resolved to
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !onThisMachine(to.Addr()) || slices.Contains(n.Services, to.String()) {
			return nil
		}
		return fmt.Errorf("%s is this machine itself, and not among the services that its operator allows (local_services of the node file)", to)
	}
	return d
}

// onThisMachine reports whether an address is one of this machine, or one that
// has no meaning beyond its links. Whatever cannot be told counts as such.
func onThisMachine(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() { // loopback, link-local, multicast, unspecified
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(own, func(addr net.Addr) bool {
		p, err := netip.ParsePrefix(addr.String())
		return err == nil && p.Addr().Unmap() == a
	})
}
