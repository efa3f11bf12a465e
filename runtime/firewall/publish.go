package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"swage/runtime"
)

// port is one that the host listens on. An invalid address stands for all.
type port struct {
	addr     netip.Addr
	protocol string
	number   uint16
}

func listens(p runtime.Publish) port {
	addr := p.Listen.Addr().Unmap().WithZone("")
	if addr.IsUnspecified() {
		addr = netip.Addr{}
	}
	return port{addr, p.Protocol, p.Listen.Port()}
}

// ConflictError names the ports that two containers want. The first has them.
type ConflictError struct{ Ports []string }

func (e *ConflictError) Error() string { return strings.Join(e.Ports, "\n") }

func publishConflict(containers []Container) error {
	var problems []string
	owner := map[port]string{}
	for _, c := range containers {
		for _, p := range c.Publish {
			if other, taken := owner[listens(p)]; taken {
				problems = append(problems, fmt.Sprintf("publish %s/%s of %s: %s has it", p.Listen, p.Protocol, c.Name, other))
				continue
			}
			owner[listens(p)] = c.Name
		}
	}
	if problems == nil {
		return nil
	}
	return &ConflictError{problems}
}

// publish writes the ways from the host's ports to the containers'. The
// container sees the true client; only when it calls itself must the source
// change, since no host takes a packet from its own address.
//
// Loopback addresses of the host are not served: what has one as its source
// cannot leave the host.
func (s *script) publish(bridge string, containers []Container) {
	if len(containers) == 0 {
		return
	}
	type elements struct{ published, self, one, all []string }
	lists := map[family]*elements{v4: {}, v6: {}}
	taken := map[port]bool{}
	none := true
	for _, c := range containers {
		opened := map[string]bool{}
		for _, p := range c.Publish {
			at := listens(p)
			if taken[at] {
				continue
			}
			taken[at] = true
			for _, f := range families {
				addr, l := f.of(c), lists[f]
				if !addr.IsValid() || at.addr.IsValid() && at.addr.Is4() != (f == v4) {
					continue
				}
				none = false
				if at.addr.IsValid() {
					l.one = append(l.one, fmt.Sprintf("%s . %s . %d : %s . %d", at.addr, p.Protocol, at.number, addr, p.Port))
				} else {
					l.all = append(l.all, fmt.Sprintf("%s . %d : %s . %d", p.Protocol, at.number, addr, p.Port))
				}
				if open := fmt.Sprintf("%s . %s . %d", addr, p.Protocol, p.Port); !opened[open] {
					opened[open] = true
					l.published = append(l.published, open)
				}
				if self := fmt.Sprintf("%s . %s", addr, addr); !opened[self] {
					opened[self] = true
					l.self = append(l.self, self)
				}
			}
		}
	}
	for _, f := range families {
		l := lists[f]
		if len(l.published) == 0 {
			continue
		}
		target := " : " + f.kind + " . inet_service"
		s.set("published"+f.digit, f.kind+" . inet_proto . inet_service", l.published)
		s.set("self"+f.digit, f.kind+" . "+f.kind, l.self)
		s.mapping("listen"+f.digit, f.kind+" . inet_proto . inet_service"+target, l.one)
		s.mapping("listen-all"+f.digit, "inet_proto . inet_service"+target, l.all)
	}
	s.open("chain published")
	for _, f := range families {
		if len(lists[f].published) > 0 {
			s.line("ct status dnat ct direction original %s daddr . meta l4proto . th dport @published%s accept", f.word, f.digit)
			s.line("ct status dnat ct direction reply %s saddr . meta l4proto . th sport @published%s accept", f.word, f.digit)
		}
	}
	s.line("drop")
	s.close()
	if none {
		return
	}
	for _, hook := range []string{"prerouting", "output"} {
		s.open("chain publish-%s", hook)
		s.line("type nat hook %s priority -100; policy accept;", hook)
		s.line("# Ports of other hosts are not ours to lead away.")
		s.line("fib daddr type != local accept")
		s.line("ip daddr 127.0.0.0/8 accept")
		s.line("ip6 daddr ::1 accept")
		for _, f := range families {
			if len(lists[f].published) > 0 {
				s.line("dnat %s to %s daddr . meta l4proto . th dport map @listen%s", f.word, f.word, f.digit)
			}
		}
		if hook == "prerouting" {
			s.line("# A port that is published on all addresses does not take the bridge's own services away.")
			s.line("iifname %q %s accept", bridge, servicePorts)
		}
		for _, f := range families {
			if len(lists[f].published) > 0 {
				s.line("meta nfproto ipv%s dnat %s to meta l4proto . th dport map @listen-all%s", f.digit, f.word, f.digit)
			}
		}
		s.close()
	}
	s.open("chain publish-postrouting")
	s.line("type nat hook postrouting priority srcnat; policy accept;")
	for _, f := range families {
		if len(lists[f].published) > 0 {
			s.line("ct status dnat %s saddr . %s daddr @self%s masquerade", f.word, f.word, f.digit)
		}
	}
	s.close()
}
