package incus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// attachment is a container's place on the bridge. Containers have static
// addresses that Incus configures before their init runs: they are known at
// once, and need nothing inside.
type attachment struct {
	bridge
	addr netip.Addr
}

// bridge is what there is to know of the network of all containers.
type bridge struct {
	name    string
	subnet  netip.Prefix   // with the bridge's own address
	subnet6 netip.Prefix   // invalid: none
	leases6 bool           // it hands out IPv6 addresses itself
	pools   []netip.Prefix // that addresses are taken from; none: all of subnet
}

// mac is made from the address: a neighbour that remembers it is then right,
// whichever container had it before.
func (a attachment) mac() [6]byte {
	b := a.addr.As4()
	return [6]byte{0x10, 0x66, b[0], b[1], b[2], b[3]}
}

// addr6 is the one that a guest makes of its MAC and the bridge's prefix
// (RFC 4291, appendix A), so that both agree.
func (a attachment) addr6() netip.Addr {
	if !a.subnet6.IsValid() {
		return netip.Addr{}
	}
	b, m := a.subnet6.Addr().As16(), a.mac()
	copy(b[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	return netip.AddrFrom16(b)
}

func (a attachment) hwaddr() string {
	m := a.mac()
	return net.HardwareAddr(m[:]).String()
}

func (a attachment) device() device {
	out := device{
		"type":         "nic",
		"name":         nic,
		"network":      a.name,
		"ipv4.address": a.addr.String(),
		"hwaddr":       a.hwaddr(),
		// Containers reach each other through this host or not at all.
		"security.port_isolation": "true",
		// The firewall knows them by these addresses; they have no others.
		"security.mac_filtering": "true", "security.ipv4_filtering": "true",
	}
	if a.leases6 && a.subnet6.IsValid() { // Incus refuses it elsewhere
		out["ipv6.address"], out["security.ipv6_filtering"] = a.addr6().String(), "true"
	}
	return out
}

// The lines of raw.lxc that are the attachment's.
const (
	lineNet   = "lxc.net.0.ipv"
	lineAddr6 = lineNet + "6.address"
)

// raw replaces those lines in what raw.lxc has.
func (a attachment) raw(have string) string {
	var out strings.Builder
	for line := range strings.Lines(have) {
		if key, _ := rawLine(line); key != "" && !strings.HasPrefix(key, lineNet) {
			out.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	say := func(family int, addr netip.Addr, subnet netip.Prefix) {
		if subnet.IsValid() {
			fmt.Fprintf(&out, "%s%d.address = %s/%d\n%s%d.gateway = %s\n", lineNet, family, addr, subnet.Bits(), lineNet, family, subnet.Addr())
		}
	}
	say(4, a.addr, a.subnet)
	say(6, a.addr6(), a.subnet6)
	return out.String()
}

// addr6 is the IPv6 address that an instance starts with.
func addr6(config map[string]string) netip.Addr {
	for line := range strings.Lines(config[rawLXC]) {
		if key, value := rawLine(line); key == lineAddr6 {
			p, _ := netip.ParsePrefix(value)
			return p.Addr()
		}
	}
	return netip.Addr{}
}

func (r *Runtime) readBridge(ctx context.Context) (bridge, error) {
	b := bridge{name: r.scope.Bridge}
	network, _, err := r.in(ctx, "default").GetNetwork(b.name)
	if err != nil {
		return b, fmt.Errorf("network %s: %w", b.name, err)
	}
	b.subnet, err = netip.ParsePrefix(network.Config["ipv4.address"])
	if err != nil || !b.subnet.Addr().Is4() || b.subnet.Bits() > 30 {
		return b, fmt.Errorf("network %s: ipv4.address is %q; swage needs a bridge with an IPv4 subnet", b.name, network.Config["ipv4.address"])
	}
	// The second half of an address is the container's own.
	if p, err := netip.ParsePrefix(network.Config["ipv6.address"]); err == nil && p.Bits() <= 64 {
		b.subnet6 = p
	}
	for _, text := range strings.Fields(r.scope.Subnets) {
		pool, err := netip.ParsePrefix(text)
		own := b.subnet
		if err == nil && pool.Addr().Is6() {
			own = b.subnet6
		}
		switch {
		case err != nil:
			return b, err
		case !own.IsValid() || !own.Contains(pool.Addr()) || pool.Bits() < own.Bits():
			return b, fmt.Errorf("network %s has no addresses of %s: its subnets are %s and %s", b.name, pool, b.subnet, b.subnet6)
		case pool.Addr().Is6() && pool.Bits() > own.Bits():
			return b, fmt.Errorf("network %s: an IPv6 address is made from the IPv4 one in all of %s; %s cannot narrow it", b.name, own, pool)
		case pool.Addr().Is4():
			b.pools = append(b.pools, pool)
		}
	}
	b.leases6 = network.Config["ipv6.dhcp"] != "false" && network.Config["ipv6.dhcp.stateful"] == "true"
	return b, nil
}

// offers reports whether containers may have an address.
func (b bridge) offers(addr netip.Addr) bool {
	return len(b.pools) == 0 || slices.ContainsFunc(b.pools, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// allocate reserves a free address of the bridge. The search begins at a place
// that the ID gives, so that two agents on one bridge seldom want the same
// address and one that was given back is seldom used again soon. The
// reservation lasts until the next Observe, which sees the instance.
func (r *Runtime) allocate(ctx context.Context, id runtime.ID) (attachment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == nil {
		b, err := r.readBridge(ctx)
		if err != nil {
			return attachment{}, err
		}
		taken, err := r.inUse(ctx)
		if err != nil {
			return attachment{}, err
		}
		r.bridge, r.taken = b, taken
	}
	b := r.bridge
	// All but the network's own address and the broadcast address.
	first := binary.BigEndian.Uint32(b.subnet.Masked().Addr().AsSlice()) + 1
	size := uint32(1)<<(32-b.subnet.Bits()) - 2
	hash := fnv.New32a()
	hash.Write([]byte(id))
	for i := range size {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], first+(hash.Sum32()%size+i)%size)
		a := attachment{b, netip.AddrFrom4(n)}
		if a.addr != b.subnet.Addr() && b.offers(a.addr) && !r.taken[a.addr] && !r.taken[a.addr6()] {
			r.taken[a.addr] = true
			return a, nil
		}
	}
	return attachment{}, errors.New("network " + b.name + " has no free IPv4 address; give it a larger subnet, or more of it in network.subnets")
}

// inUse gathers the addresses of all instances, ours or not, and those that
// the bridge has leased.
func (r *Runtime) inUse(ctx context.Context) (map[netip.Addr]bool, error) {
	c := r.in(ctx, "default")
	taken := map[netip.Addr]bool{}
	instances, err := c.GetInstancesAllProjects(api.InstanceTypeAny)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	for i := range instances {
		for _, d := range instances[i].ExpandedDevices {
			for _, key := range []string{"ipv4.address", "ipv6.address"} {
				if a, err := netip.ParseAddr(d[key]); err == nil {
					taken[a] = true
				}
			}
		}
	}
	leases, err := c.GetNetworkLeases(r.scope.Bridge)
	if err != nil {
		return nil, fmt.Errorf("leases of network %s: %w", r.scope.Bridge, err)
	}
	for _, l := range leases {
		if a, err := netip.ParseAddr(l.Address); err == nil {
			taken[a] = true
		}
	}
	return taken, nil
}

// readdress gives a container that could not start another address, when the
// reason was that somebody else on the bridge took its own at the same time.
// It reports whether a new start is worth trying.
func (r *Runtime) readdress(ctx context.Context, at *place, started error) (bool, error) {
	if !strings.Contains(started.Error(), "already defined on another NIC") {
		return false, nil
	}
	in, _, err := r.in(ctx, at.project).GetInstance(at.name)
	if err != nil {
		return false, err
	}
	id := runtime.ID(in.Config[keyID])
	r.mu.Lock()
	r.taken = nil // what is known is out of date
	r.mu.Unlock()
	a, err := r.allocate(ctx, id)
	if err != nil {
		return false, err
	}
	if err := r.patch(ctx, *at, map[string]any{
		"config":  map[string]string{rawLXC: a.raw(in.Config[rawLXC])},
		"devices": map[string]device{nic: a.device()},
	}); err != nil {
		return false, err
	}
	at.addr, at.addr6 = a.addr, a.addr6()
	r.remember(id, *at)
	return true, r.guard.readdress(ctx, id, a)
}
