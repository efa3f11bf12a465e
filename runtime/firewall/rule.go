package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"swage/runtime"
)

// servicePorts match what the bridge's DNS and DHCP server listens on.
const servicePorts = "meta l4proto . th dport { tcp . 53, udp . 53, udp . 67, udp . 547 }"

// check refuses what would otherwise be read as a wider or narrower rule.
func check(r runtime.Rule) error {
	for _, word := range []struct {
		name, value string
		known       []string
	}{
		{"direction", r.Direction, []string{"ingress", "egress"}},
		{"action", r.Action, []string{"allow", "reject", "drop"}},
		{"protocol", r.Protocol, []string{"", "tcp", "udp", "icmp4", "icmp6"}},
	} {
		if !slices.Contains(word.known, word.value) {
			return fmt.Errorf("unknown %s %q", word.name, word.value)
		}
	}
	if len(r.SourcePorts)+len(r.DestinationPorts) > 0 && r.Protocol != "tcp" && r.Protocol != "udp" {
		return errors.New("ports need the protocol tcp or udp")
	}
	return nil
}

// namesService tells whether a rule closes one of the ports of the bridge's
// own services by its number.
func namesService(r runtime.Rule) bool {
	return r.Action != "allow" && slices.ContainsFunc(r.DestinationPorts, func(p runtime.Ports) bool {
		return slices.ContainsFunc([]uint16{53, 67, 547}, func(port uint16) bool { return p.From <= port && port <= p.To })
	})
}

// rules writes a chain for each container that has rules of this kind, and the
// maps that lead to them. It returns the families that have such a map.
func (s *script) rules(containers []Container, kind string) (has []family) {
	lead := map[family][]string{}
	for _, c := range containers {
		lines := judge(c.Rules, kind)
		if len(lines) == 0 {
			continue
		}
		chain := kind + "-" + chainName(c)
		s.open("chain %s", chain)
		s.line("# %s", comment(c.Name))
		for _, l := range lines {
			s.line("%s", l)
		}
		s.close()
		for _, f := range families {
			for _, addr := range f.all(c) {
				lead[f] = append(lead[f], fmt.Sprintf("%s : jump %s", addr, chain))
			}
		}
	}
	for _, f := range families {
		if len(lead[f]) > 0 {
			s.mapping(kind+f.digit, f.kind+" : verdict", lead[f])
			has = append(has, f)
		}
	}
	return has
}

// chainName is the container's address: unlike its name it is unique.
func chainName(c Container) string {
	if own := v4.all(c); len(own) > 0 {
		return own[0].String()
	}
	return strings.ReplaceAll(v6.all(c)[0].StringExpanded(), ":", "-")
}

// judge is the body of a chain: what is dropped, then rejected, then allowed,
// then what becomes of the rest when something was to be allowed. What comes
// to the end of the chain is not decided.
func judge(rules []runtime.Rule, kind string) []string {
	var refused, allowed []string
	closed := false
	for _, action := range []string{"drop", "reject", "allow"} {
		for _, r := range rules {
			if r.Action != action || kind != "services" && r.Direction != kind {
				continue
			}
			if kind == "services" && (r.Direction != "egress" || !namesService(r)) {
				continue
			}
			for _, m := range matches(r) {
				switch action {
				case "drop":
					refused = append(refused, m+"drop")
				case "reject":
					refused = append(refused, reject(m, r.Protocol)...)
				case "allow":
					// Ingress is decided by that, egress is still to be
					// judged by who receives it.
					allowed = append(allowed, m+map[string]string{"ingress": "accept", "egress": "return"}[kind])
				}
			}
			closed = closed || action == "allow"
		}
	}
	lines := append(refused, allowed...)
	switch {
	case closed && kind == "ingress":
		lines = append(lines, "drop")
	case closed:
		lines = append(lines, reject("", "")...)
	}
	return lines
}

// reject answers in the way that a closed port would.
func reject(match, protocol string) []string {
	switch protocol {
	case "tcp":
		return []string{match + "reject with tcp reset"}
	case "":
		return []string{match + "meta l4proto tcp reject with tcp reset", match + "reject"}
	default:
		return []string{match + "reject"}
	}
}

// matches are the conditions of a rule, each ending in a blank unless empty;
// one of them must hold. A rule whose two sides are of different families has
// none.
func matches(r runtime.Rule) []string {
	ends := []string{""}
	if len(r.Sources)+len(r.Destinations) > 0 {
		ends = nil
		for _, f := range families {
			from, ok := f.networks("ct original", r.Sources)
			to, ok2 := f.networks("ct reply", r.Destinations)
			if ok && ok2 {
				ends = append(ends, from+to)
			}
		}
	}
	var out []string
	for _, e := range ends {
		for _, p := range protocol(r) {
			out = append(out, e+p)
		}
	}
	return out
}

// protocol matches protocol and ports. Ports are those of a packet, so each
// direction of a flow has its own.
func protocol(r runtime.Rule) []string {
	switch r.Protocol {
	case "icmp4":
		return []string{"meta l4proto icmp "}
	case "icmp6":
		return []string{"meta l4proto ipv6-icmp "}
	case "tcp", "udp":
	default:
		return []string{""}
	}
	from, to := ports(r.SourcePorts), ports(r.DestinationPorts)
	if from == "" && to == "" {
		return []string{"meta l4proto " + r.Protocol + " "}
	}
	match := func(direction, sport, dport string) string {
		m := "ct direction " + direction + " "
		if sport != "" {
			m += r.Protocol + " sport " + sport + " "
		}
		if dport != "" {
			m += r.Protocol + " dport " + dport + " "
		}
		return m
	}
	return []string{match("original", from, to), match("reply", to, from)}
}

// networks matches one end of a flow. It reports false when the networks have
// none of this family.
func (f family) networks(end string, networks []netip.Prefix) (match string, ok bool) {
	if len(networks) == 0 {
		return "", true
	}
	var own []netip.Prefix
	for _, p := range networks {
		if p.Addr().Is4() == (f == v4) {
			own = append(own, p.Masked())
		}
	}
	if len(own) == 0 {
		return "", false
	}
	// nft refuses elements that overlap. A network comes right after those
	// around it.
	slices.SortFunc(own, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	var disjoint []string
	last := netip.Prefix{}
	for _, p := range own {
		if last.IsValid() && last.Contains(p.Addr()) {
			continue
		}
		last = p
		if p.Bits() == 0 {
			return "meta nfproto ipv" + f.digit + " ", true
		}
		if p.IsSingleIP() {
			disjoint = append(disjoint, p.Addr().String())
		} else {
			disjoint = append(disjoint, p.String())
		}
	}
	return fmt.Sprintf("%s %s saddr %s ", end, f.word, oneOf(disjoint)), true
}

// ports is the right side of a match, empty for none.
func ports(in []runtime.Ports) string {
	in = slices.SortedFunc(slices.Values(in), func(a, b runtime.Ports) int { return int(a.From) - int(b.From) })
	var merged []runtime.Ports
	for _, p := range in {
		if n := len(merged); n > 0 && int(p.From) <= int(merged[n-1].To)+1 {
			merged[n-1].To = max(merged[n-1].To, p.To)
			continue
		}
		merged = append(merged, p)
	}
	var text []string
	for _, p := range merged {
		if p.From == p.To {
			text = append(text, fmt.Sprint(p.From))
		} else {
			text = append(text, fmt.Sprintf("%d-%d", p.From, p.To))
		}
	}
	return oneOf(text)
}

func oneOf(elements []string) string {
	if len(elements) < 2 {
		return strings.Join(elements, "")
	}
	return "{ " + strings.Join(elements, ", ") + " }"
}
