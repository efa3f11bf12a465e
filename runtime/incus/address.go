package incus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// nic is the device that swage gives every container.
const nic = "eth0"

// Containers have a static address that Incus configures before their init
// runs: it is known at once, and needs nothing inside.
func (r *Runtime) device(subnet netip.Prefix, addr netip.Addr) (device map[string]string, rawLXC string) {
	b := addr.As4()
	return map[string]string{
		"type":         "nic",
		"name":         nic,
		"network":      r.scope.Bridge,
		"ipv4.address": addr.String(),
		// From the address: a neighbour that remembers it is then right,
		// whichever container had it before.
		"hwaddr": fmt.Sprintf("10:66:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]),
		// Containers reach each other through this host or not at all.
		"security.port_isolation": "true",
	}, fmt.Sprintf("lxc.net.0.ipv4.address = %s/%d\nlxc.net.0.ipv4.gateway = %s\n", addr, subnet.Bits(), subnet.Addr())
}

// allocate reserves a free address of the bridge. The search begins at a place
// that the ID gives, so that two agents on one bridge seldom want the same
// address and one that was given back is seldom used again soon. The
// reservation lasts until the next Observe, which sees the instance.
func (r *Runtime) allocate(ctx context.Context, id runtime.ID) (subnet netip.Prefix, addr netip.Addr, err error) {
	c := r.in(ctx, "default")
	network, _, err := c.GetNetwork(r.scope.Bridge)
	if err != nil {
		return subnet, addr, fmt.Errorf("network %s: %w", r.scope.Bridge, err)
	}
	subnet, err = netip.ParsePrefix(network.Config["ipv4.address"])
	if err != nil || !subnet.Addr().Is4() || subnet.Bits() > 30 {
		return subnet, addr, fmt.Errorf("network %s: ipv4.address is %q; swage needs a bridge with an IPv4 subnet", r.scope.Bridge, network.Config["ipv4.address"])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == nil {
		taken, err := r.inUse(ctx)
		if err != nil {
			return subnet, addr, err
		}
		r.taken = taken
	}
	// All but the network's own address and the broadcast address.
	first := binary.BigEndian.Uint32(subnet.Masked().Addr().AsSlice()) + 1
	size := uint32(1)<<(32-subnet.Bits()) - 2
	hash := fnv.New32a()
	hash.Write([]byte(id))
	for i := range size {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], first+(hash.Sum32()%size+i)%size)
		if a := netip.AddrFrom4(b); a != subnet.Addr() && !r.taken[a] {
			r.taken[a] = true
			return subnet, a, nil
		}
	}
	return subnet, addr, errors.New("network " + r.scope.Bridge + " has no free IPv4 address; give it a larger subnet")
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
			if a, err := netip.ParseAddr(d["ipv4.address"]); err == nil {
				taken[a] = true
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
	subnet, addr, err := r.allocate(ctx, id)
	if err != nil {
		return false, err
	}
	device, rawLXC := r.device(subnet, addr)
	in.Devices[nic] = device
	if err := r.patch(ctx, *at, map[string]any{
		"config":  map[string]string{"raw.lxc": rawLXC},
		"devices": in.Devices,
	}); err != nil {
		return false, err
	}
	at.addr = addr
	r.remember(id, *at)
	return true, nil
}
