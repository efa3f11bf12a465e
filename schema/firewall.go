package schema

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// firewall reads the rules of a container and refuses those that contradict
// each other: the same match with different actions.
func (r *resolver) firewall(d declared[rawContainer]) []FirewallRule {
	var out []FirewallRule
	type first struct {
		action string
		pos    Pos
	}
	seen := map[string]first{}
	for i, raw := range d.raw.Firewall {
		at := d.in("firewall", i)
		rule := FirewallRule{
			Direction: raw.Direction, Action: raw.Action, Protocol: raw.Protocol,
			Sources:          r.networks(at.in("source"), raw.Source),
			Destinations:     r.networks(at.in("destination"), raw.Destination),
			SourcePorts:      r.portList(at.in("source_port"), raw.SourcePort),
			DestinationPorts: r.portList(at.in("destination_port"), raw.DestinationPort),
			Description:      raw.Description, Enabled: raw.Enabled,
		}
		for _, name := range []string{"source_port", "destination_port"} {
			if at.v.get(name) != nil && raw.Protocol != "tcp" && raw.Protocol != "udp" {
				r.add(at.in(name), "needs protocol: \"tcp\" or protocol: \"udp\" beside it")
			}
		}
		out = append(out, rule)
		if !rule.Enabled {
			continue
		}
		key := fmt.Sprint(rule.Direction, rule.Protocol, rule.Sources, rule.Destinations, rule.SourcePorts, rule.DestinationPorts)
		if other, ok := seen[key]; ok && other.action != rule.Action {
			r.add(at.in("action"), "%s contradicts the rule at %s, which matches the same and says %s", rule.Action, other.pos, other.action)
		} else if !ok {
			seen[key] = first{rule.Action, at.pos}
		}
	}
	return out
}

// networks reads a list of networks, sorted so that equal lists are equal.
func (r *resolver) networks(at spot, s string) []netip.Prefix {
	var out []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, r.prefix(at, part))
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
