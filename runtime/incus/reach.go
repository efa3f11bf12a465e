package incus

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// reachesHost fails for an instance whose root has ways to the host beyond
// those of any container. A commit names what is adopted, and says who gets a
// shell in it: of such an instance it would give the host away.
func reachesHost(in *api.Instance) error {
	refuse := func(what string) error {
		return fmt.Errorf("it has %s, by which whoever gets into it may get to the host; take that away first, or leave it unadopted", what)
	}
	config := in.ExpandedConfig
	if len(config) == 0 {
		config = in.Config
	}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		value := config[key]
		switch {
		case value == "" || value == "false":
		case key == "security.privileged", strings.HasPrefix(key, "security.syscalls.intercept.mount"):
			return refuse(key)
		case key == rawLXC:
			for line := range strings.Lines(value) {
				if k, _ := rawLine(line); !harmlessLine(k) {
					return refuse(fmt.Sprintf("%s with %q", key, k))
				}
			}
		case strings.HasPrefix(key, "raw."):
			return refuse(key)
		}
	}
	devices := in.ExpandedDevices
	if len(devices) == 0 {
		devices = in.Devices
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		switch d := devices[name]; d["type"] {
		case "nic", "none", "gpu":
		case "disk":
			if d["pool"] == "" && d["path"] != "/" {
				return refuse(fmt.Sprintf("the device %s (a disk from %s)", name, d["source"]))
			}
		case "proxy":
			if bind := d["bind"]; bind == "instance" || bind == "container" || bind == "guest" {
				return refuse(fmt.Sprintf("the device %s (a proxy to %s of the host)", name, d["connect"]))
			}
		default:
			return refuse(fmt.Sprintf("the device %s (%s)", name, d["type"]))
		}
	}
	return nil
}

// harmlessLine reports whether a key of raw.lxc neither runs nor mounts
// anything.
func harmlessLine(key string) bool {
	return key == "" || strings.HasPrefix(key, "#") || key == "lxc.uts.name" || key == lineVariable ||
		strings.HasPrefix(key, "lxc.net.") && !strings.Contains(key, ".script.")
}

// leadsToContainer reports whether an address that a container gave itself may
// lead to one: it is none of this host's, and means the same on every link.
// Otherwise the edge, which calls it, would be led to the host's own services.
func leadsToContainer(ip netip.Addr, host []net.Addr) bool {
	ip = ip.Unmap()
	return ip.IsGlobalUnicast() && !slices.ContainsFunc(host, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

// isAnothers reports whether another container was given this address.
func (r *Runtime) isAnothers(ip netip.Addr, id runtime.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, at := range r.where {
		if ip.IsValid() && other != id && (at.addr == ip || at.addr6 == ip) {
			return true
		}
	}
	return false
}

// claimed counts who has an address. One that a container gave itself while
// another has it would lead the first one's visitors, by its own permissions,
// to the other.
type claimed map[netip.Addr]int

// only reports whether an address is valid and one container's alone.
func (c claimed) only(addr netip.Addr) bool { return addr.IsValid() && c[addr] == 1 }
