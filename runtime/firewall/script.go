package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// family is one of IPv4 and IPv6.
type family struct {
	digit string // ends the names of sets and maps
	word  string // in expressions
	kind  string // of a set's elements
}

var (
	v4       = family{"4", "ip", "ipv4_addr"}
	v6       = family{"6", "ip6", "ipv6_addr"}
	families = []family{v4, v6}
)

func (f family) of(c Container) netip.Addr {
	if f == v4 {
		return c.Addr
	}
	return c.Addr6
}

// all are the addresses of a container in this family, the one that ports are
// published to first.
func (f family) all(c Container) (out []netip.Addr) {
	if addr := f.of(c); addr.IsValid() {
		out = append(out, addr)
	}
	for _, addr := range c.More {
		if addr.Is4() == (f == v4) {
			out = append(out, addr)
		}
	}
	return out
}

// Script is both tables as one transaction for `nft -f`. Equal containers
// make equal scripts, whatever their order. What a packet costs does not
// depend on the number of containers: every step is a lookup by address.
//
// The addresses that are asked for are those of the flow, not of the packet:
// "ct original saddr" is who began it, "ct reply saddr" who really answers it,
// behind a published port too.
func Script(table, bridge string, containers []Container) string {
	containers, _, _ = sorted(containers)
	s := &script{Builder: new(strings.Builder)}
	s.line("table inet %s", table)
	s.line("delete table inet %s", table)
	s.line("table arp %s", table)
	s.line("delete table arp %s", table)
	s.open("table arp %s", table)
	s.holdARP(bridge, containers)
	s.close()
	s.open("table inet %s", table)
	s.hold(bridge, containers)
	s.projects(containers)
	hasIngress := s.rules(containers, "ingress")
	hasEgress := s.rules(containers, "egress")
	hasServices := s.rules(containers, "services")
	s.publish(bridge, containers)

	if len(containers) > 0 {
		s.open("chain forward")
		s.line("type filter hook forward priority filter; policy accept;")
		s.line("# Errors about a flow, as when a packet is too big, help even when the flow is refused.")
		s.line("meta l4proto { icmp, ipv6-icmp } ct state related accept")
		s.lookup("ct original %s saddr", "egress", hasEgress)
		s.lookup("ct reply %s saddr", "ingress", hasIngress)
		s.lookup("ct reply %s saddr", "project", families)
		s.line("# What belongs to no flow was not judged: it ends in a project's last rule.")
		s.lookup("ct state invalid,untracked %s daddr", "project", families)
		s.lookup("ct state invalid,untracked %s saddr", "project", families)
		s.close()
	}
	if len(hasIngress) > 0 {
		s.open("chain output")
		s.line("type filter hook output priority filter; policy accept;")
		s.line("# Only what this host sends in the name of somebody else.")
		s.lookup("ct direction original fib saddr type != local ct reply %s saddr", "ingress", hasIngress)
		s.close()
	}
	s.open("chain input")
	s.line("type filter hook input priority filter; policy accept;")
	s.line("# The host answers for neighbours that cannot hear each other. It must not answer")
	s.line("# a container that asks whether its own new address is free.")
	s.line("iifname %q ip6 saddr :: icmpv6 type nd-neighbor-solicit drop", bridge)
	if len(hasEgress) > 0 {
		s.line("ct direction reply accept")
		s.line("# Neighbour discovery belongs to no flow, so no rule meets it.")
		s.lookup("ct original %s saddr", "services", hasServices)
		s.line("%s accept", servicePorts)
		s.lookup("ct original %s saddr", "egress", hasEgress)
	}
	s.close()
	s.open("chain output-bridge")
	s.line("type filter hook output priority filter; policy accept;")
	s.line("# A redirect would tell an IPv6 neighbour a way that the isolated ports close.")
	s.line("oifname %q icmpv6 type nd-redirect drop", bridge)
	s.close()
	s.close()
	return s.String()
}

// projects writes who is in which project, and what the project's containers
// let in when no rule has decided.
func (s *script) projects(containers []Container) {
	if len(containers) == 0 {
		return
	}
	byProject := map[string][]Container{}
	var names []string
	for _, c := range containers {
		if byProject[c.Project] == nil {
			names = append(names, c.Project)
		}
		byProject[c.Project] = append(byProject[c.Project], c)
	}
	for _, f := range families {
		var lead []string
		for _, name := range names {
			var members []string
			for _, c := range byProject[name] {
				for _, addr := range f.all(c) {
					members = append(members, addr.String())
					lead = append(lead, fmt.Sprintf("%s comment %s : goto project-%s", addr, comment(c.Name), word(name)))
				}
			}
			s.set("project-"+word(name)+"-"+f.digit, f.kind, members)
		}
		s.mapping("project"+f.digit, f.kind+" : verdict", lead)
	}
	for _, name := range names {
		s.open("chain project-%s", word(name))
		for _, f := range families {
			s.line("ct original %s saddr @project-%s-%s accept", f.word, word(name), f.digit)
		}
		s.line("goto published")
		s.close()
	}
}

// script builds the text.
type script struct {
	*strings.Builder
	depth int
}

func (s *script) line(format string, args ...any) {
	s.WriteString(strings.Repeat("\t", s.depth))
	fmt.Fprintf(s, format, args...)
	s.WriteByte('\n')
}

func (s *script) open(format string, args ...any) {
	s.line(format+" {", args...)
	s.depth++
}

func (s *script) close() {
	s.depth--
	s.line("}")
}

func (s *script) set(name, kind string, elements []string) {
	s.collection("set", name, kind, elements)
}

func (s *script) mapping(name, kind string, elements []string) {
	s.collection("map", name, kind, elements)
}

func (s *script) collection(what, name, kind string, elements []string) {
	s.elements(what, name, "type "+kind, elements)
}

func (s *script) elements(what, name, kind string, elements []string) {
	s.open("%s %s", what, name)
	s.line("%s", kind)
	if len(elements) > 0 {
		s.open("elements =")
		for _, e := range elements {
			s.line("%s,", e)
		}
		s.close()
	}
	s.close()
}

// lookup follows the map of each family to a verdict; key has a place for the
// family's word.
func (s *script) lookup(key, name string, in []family) {
	for _, f := range in {
		s.line(key+" vmap @%s%s", f.word, name, f.digit)
	}
}

// sorted puts containers into their one order and says what cannot be: an
// address that two have is an error as an unknown word is, a port that two
// publish a conflict.
func sorted(containers []Container) (out []Container, conflict, err error) {
	out = slices.Clone(containers)
	for i := range out {
		out[i].Addr, out[i].Addr6 = out[i].Addr.Unmap(), out[i].Addr6.WithZone("")
		out[i].More = slices.Clone(out[i].More)
		for j, addr := range out[i].More {
			out[i].More[j] = addr.Unmap().WithZone("")
		}
	}
	slices.SortFunc(out, func(a, b Container) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr), a.Addr6.Compare(b.Addr6))
	})
	out = slices.DeleteFunc(out, func(c Container) bool { return len(v4.all(c))+len(v6.all(c)) == 0 })
	owner := map[netip.Addr]string{}
	for _, c := range out {
		for i, r := range c.Rules {
			if err := check(r); err != nil {
				return nil, nil, fmt.Errorf("firewall of %s: rule %d: %w", c.Name, i+1, err)
			}
		}
		for _, f := range families {
			if addr := f.of(c); addr.IsValid() && addr.Is4() != (f == v4) {
				return nil, nil, fmt.Errorf("firewall of %s: %s is not an address of its family", c.Name, addr)
			}
			for _, addr := range f.all(c) {
				if other, taken := owner[addr]; taken {
					return nil, nil, fmt.Errorf("firewall: %s and %s have the same address %s", other, c.Name, addr)
				}
				owner[addr] = c.Name
			}
		}
	}
	return out, publishConflict(out), nil
}

// word makes an identifier of a project's name. Names that it changes cannot
// meet those it leaves alone.
func word(name string) string {
	plain := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
	if plain && name != "" && len(name) <= 100 {
		return name
	}
	return fmt.Sprintf("x.%.100x", name)
}

// comment quotes a text that nft keeps: at most 127 bytes and no quote inside.
func comment(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, text)
	return `"` + text[:min(len(text), 120)] + `"`
}
