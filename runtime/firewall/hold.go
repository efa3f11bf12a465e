package firewall

import (
	"fmt"
	"net/netip"
)

// hold keeps the addresses of containers whose addresses were given to the
// interfaces that have them, since all other rules know a container by its
// address:
//
//   - nobody else on the bridge sends from such an address, or tells this host
//     that it has it, by ARP or by neighbour discovery,
//   - its owner sends from no other, but link-local ones, and those that stand
//     for none while one is asked for.
//
// Incus does this for IPv4 alone where the bridge has no stateful DHCPv6, and
// not at all for instances that others made. Ports are isolated, so that what
// one sends another comes by here.
//
// An advertisement's target is read where the transport header is, so that
// extension headers do not hide it. It comes before the kernel tracks a flow.
func (s *script) hold(bridge string, containers []Container) {
	var macs, targets, told []string
	own, pairs := map[family][]string{}, map[family][]string{}
	for _, c := range containers {
		if !c.Given || c.MAC == "" {
			continue
		}
		macs = append(macs, c.MAC)
		for _, f := range families {
			for _, addr := range f.all(c) {
				own[f] = append(own[f], addr.String())
				pairs[f] = append(pairs[f], fmt.Sprintf("%s . %s", c.MAC, addr))
			}
		}
		for _, addr := range v6.all(c) {
			targets = append(targets, number(addr))
			told = append(told, fmt.Sprintf("%s . %s", c.MAC, number(addr)))
		}
	}
	if len(macs) == 0 {
		return
	}
	s.set("held", "ether_addr", macs)
	for _, f := range families {
		s.set("given"+f.digit, f.kind, own[f])
		s.set("pairs"+f.digit, "ether_addr . "+f.kind, pairs[f])
	}
	s.elements("set", "targets", "typeof @th,64,128", targets)
	s.elements("set", "told", "typeof ether saddr . @th,64,128", told)
	s.open("chain hold")
	s.line("type filter hook prerouting priority raw; policy accept;")
	s.line("iifname != %q accept", bridge)
	for _, f := range families {
		s.line("%[1]s saddr @given%[2]s ether saddr . %[1]s saddr != @pairs%[2]s drop", f.word, f.digit)
	}
	s.line("icmpv6 type nd-neighbor-advert @th,64,128 @targets ether saddr . @th,64,128 != @told drop")
	s.line("ether saddr != @held accept")
	s.line("ip saddr != 0.0.0.0 ether saddr . ip saddr != @pairs4 drop")
	s.line("ip6 saddr != { ::, fe80::/10 } ether saddr . ip6 saddr != @pairs6 drop")
	s.line("icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa ether saddr . @th,64,128 != @told drop")
	s.close()
}

// holdARP writes the part of hold that no table of the family inet sees. What
// counts is the MAC that the message names: the kernel remembers that one.
func (s *script) holdARP(bridge string, containers []Container) {
	var own, pairs []string
	for _, c := range containers {
		if !c.Given || c.MAC == "" {
			continue
		}
		for _, addr := range v4.all(c) {
			own = append(own, addr.String())
			pairs = append(pairs, fmt.Sprintf("%s . %s", c.MAC, addr))
		}
	}
	if len(own) == 0 {
		return
	}
	s.set("given4", v4.kind, own)
	s.set("pairs4", "ether_addr . "+v4.kind, pairs)
	s.open("chain hold")
	s.line("type filter hook input priority filter; policy accept;")
	s.line("iifname %q arp saddr ip @given4 arp saddr ether . arp saddr ip != @pairs4 drop", bridge)
	s.close()
}

// number is an address as nft writes 16 bytes that it knows no type of.
func number(addr netip.Addr) string { return fmt.Sprintf("%#x", addr.As16()) }
