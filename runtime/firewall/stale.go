package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows ends the UDP flows that were led elsewhere than they now should
// be. The kernel chooses a flow's way at its first packet only, and a client
// that goes on sending from the same port, as tunnels and resolvers do, would
// keep the old way for ever. A TCP client calls again from another port.
func forgetFlows(containers []Container) error {
	w := ways{to: map[port]netip.AddrPort{}}
	for _, c := range containers {
		w.guarded = append(append(w.guarded, v4.all(c)...), v6.all(c)...)
	}
	for _, c := range slices.Backward(containers) { // the first in order wins
		for _, p := range slices.Backward(c.Publish) {
			if p.Protocol != "udp" {
				continue
			}
			for _, f := range families {
				at, addr := listens(p), f.of(c)
				if !addr.IsValid() || at.addr.IsValid() && at.addr.Is4() != (f == v4) {
					continue
				}
				if !at.addr.IsValid() {
					at.protocol = f.word
				}
				w.to[at] = netip.AddrPortFrom(addr, p.Port)
			}
		}
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("firewall: addresses of the host: %w", err)
	}
	for _, a := range local {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			w.local = append(w.local, p.Addr())
		}
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		// An entry that ends by itself meanwhile is no fault.
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, w); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("firewall: end flows to ports that were published differently: %w", err)
		}
	}
	return nil
}

// ways are where UDP to the host's ports goes.
type ways struct {
	to      map[port]netip.AddrPort // on all addresses: by the family's word
	local   []netip.Addr
	guarded []netip.Addr
}

// MatchConntrackFlow reports whether a flow has another way than it should.
func (w ways) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	asked, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	answers, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	asked, answers = asked.Unmap(), answers.Unmap()
	is := netip.AddrPortFrom(answers, flow.Reverse.SrcPort)
	if slices.Contains(w.local, asked) {
		f := v6
		if asked.Is4() {
			f = v4
		}
		want, published := w.to[port{asked, "udp", flow.Forward.DstPort}]
		if !published {
			want, published = w.to[port{netip.Addr{}, f.word, flow.Forward.DstPort}]
		}
		if published {
			return is != want
		}
	}
	return asked != answers && slices.Contains(w.guarded, answers)
}
