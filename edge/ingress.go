package edge

import (
	"fmt"
	"net/netip"

	"github.com/gaissmai/bart"
)

// Rule is a firewall rule about what reaches a container. The kernel applies
// the same rules to connections that carry the client's address; the edge must
// judge by itself because its own may carry the host's, and so that a caller
// who is refused gets an answer.
//
// The order of rules means nothing: one that refuses wins over all that allow,
// and once there is one that allows, what none allows is refused.
type Rule struct {
	Action   Verdict // Allow, or Deny for both reject and drop
	Protocol string  // tcp, udp, icmp4 or icmp6; empty: all of them

	// Empty: everywhere. Prefixes are canonical, as those of a Group.
	Sources, Destinations []netip.Prefix

	// Of the container. Empty: every port.
	Ports []PortRange

	// SourcePorts says that the rule is about some ports of the caller only.
	// The caller has none on the way from the edge to the container, so such
	// a rule matches nobody here.
	SourcePorts bool
}

// ingress are the compiled rules of one container that TCP can meet.
type ingress struct {
	refuse, admit []ingressRule
	closed        bool // what no rule admits is refused
	both          bool // the container has a second address, of IPv6

	// For comparing: what stands for each rule, and for all.
	allows, denies []Digest
	says           Digest
}

type ingressRule struct {
	callers *bart.Lite // nil: everyone
	ports   cell

	// at says which of the container's addresses are destinations: the one
	// that everybody is led to, and that of IPv6.
	at, at6 bool
}

func (r *ingressRule) matches(client netip.Addr, port uint16) bool {
	return r.ports.allows(port) && (r.callers == nil || r.callers.Contains(client))
}

// decide reports whether the rules let a client reach a port, and if not why. A
// client of IPv6 calls the container's address of IPv6, if there is one, and may
// be led to the other where that cannot be: neither may be refused.
func (in *ingress) decide(client netip.Addr, port uint16) (ok bool, why string) {
	if in == nil {
		return true, ""
	}
	six := in.both && client.Is6()
	for i := range in.refuse {
		if r := &in.refuse[i]; (r.at || six && r.at6) && r.matches(client, port) {
			return false, "refused by a rule of the container's firewall"
		}
	}
	for i := range in.admit {
		if r := &in.admit[i]; (r.at && !six || six && r.at6) && r.matches(client, port) {
			return true, ""
		}
	}
	return !in.closed, "no rule of the container's firewall allows it"
}

// compileIngress reads the rules of a container at its addresses, which are
// invalid for one that does not run.
func compileIngress(rules []Rule, addr, addr6 netip.Addr) (*ingress, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	in := &ingress{both: addr6.IsValid(), says: digestOf(rules)}
	for i, r := range rules {
		if r.Action != Allow && r.Action != Deny {
			return nil, fmt.Errorf("firewall rule %d: the action is %q", i+1, r.Action)
		}
		// A rule closes what it does not allow even if it cannot match here.
		in.closed = in.closed || r.Action == Allow
		if r.Action == Allow {
			in.allows = append(in.allows, digestOf(r))
		} else {
			in.denies = append(in.denies, digestOf(r))
		}
		out := ingressRule{ports: cell{all: len(r.Ports) == 0}, at: reaches(r.Destinations, addr), at6: reaches(r.Destinations, addr6)}
		for _, p := range append(r.Sources[:len(r.Sources):len(r.Sources)], r.Destinations...) {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
				return nil, fmt.Errorf("firewall rule %d: %v is not a canonical range", i+1, p)
			}
		}
		if len(r.Sources) > 0 {
			out.callers = new(bart.Lite)
		}
		for _, p := range r.Sources {
			out.callers.Insert(p)
		}
		if !out.ports.all {
			var err error
			if out.ports, err = compileCell(Cell{Ports: r.Ports}); err != nil {
				return nil, fmt.Errorf("firewall rule %d: %w", i+1, err)
			}
		}
		if r.SourcePorts || r.Protocol != "" && r.Protocol != "tcp" || !out.at && !out.at6 {
			continue
		}
		if r.Action == Allow {
			in.admit = append(in.admit, out)
		} else {
			in.refuse = append(in.refuse, out)
		}
	}
	return in, nil
}

// reaches reports whether an address is one of a rule's destinations.
func reaches(destinations []netip.Prefix, addr netip.Addr) bool {
	for _, p := range destinations {
		if p.Contains(addr) {
			return true
		}
	}
	return len(destinations) == 0
}
