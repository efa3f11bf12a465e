package firewall

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LostAddrs are those of the addresses that the bridge should have and has not,
// with the length of their subnets. Without them this host is no neighbour of its
// containers.
func (f *Firewall) LostAddrs(want []netip.Prefix) ([]netip.Prefix, error) {
	link, err := netlink.LinkByName(f.Bridge)
	if err != nil {
		return want, nil // the bridge is gone, and they with it
	}
	have, err := netlink.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("firewall: addresses of the bridge %s: %w", f.Bridge, err)
	}
	there := map[netip.Addr]bool{}
	for _, a := range have {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			there[ip.Unmap()] = true
		}
	}
	var lost []netip.Prefix
	for _, p := range want {
		if !there[p.Addr()] {
			lost = append(lost, p)
		}
	}
	return lost, nil
}

// GiveAddr gives the bridge an address again, and with it the way to its subnet.
func (f *Firewall) GiveAddr(p netip.Prefix) error {
	link, err := netlink.LinkByName(f.Bridge)
	if err != nil {
		return fmt.Errorf("the bridge %s is gone: %w", f.Bridge, err)
	}
	addr, err := netlink.ParseAddr(p.String())
	if err != nil {
		return err
	}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // its container's neighbour at once
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give the bridge %s the address %s: %w", f.Bridge, p, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set the bridge %s up: %w", f.Bridge, err)
	}
	return nil
}
