package firewall

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ntfSticky (NTF_STICKY) keeps an entry of a bridge where it is.
const ntfSticky = 0x40

// Pinned are the MACs that the bridge looks for at one port and no other,
// whatever it hears, and the names of these ports.
//
// A bridge learns where a MAC is from each frame that names it as its source,
// before any table of the family inet, or the filters of Incus, can drop it. So
// whoever sends such frames gets what this host sends to another, until that one
// is heard again.
func (f *Firewall) Pinned() (ports map[string]string, err error) {
	link, err := net.InterfaceByName(f.Bridge)
	if err != nil {
		return nil, nil // it may come
	}
	entries, err := netlink.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("firewall: list where %s looks for MACs: %w", f.Bridge, err)
	}
	ports = map[string]string{}
	names := map[int]string{}
	for _, e := range entries {
		if e.MasterIndex != link.Index || e.Flags&ntfSticky == 0 {
			continue
		}
		if _, known := names[e.LinkIndex]; !known {
			if port, err := net.InterfaceByIndex(e.LinkIndex); err == nil {
				names[e.LinkIndex] = port.Name
			}
		}
		ports[e.HardwareAddr.String()] = names[e.LinkIndex]
	}
	return ports, nil
}

// Pin has the bridge look for a MAC at this port only. One that is gone is no
// error; its entry goes with it.
func (f *Firewall) Pin(port, mac string) error {
	link, err := net.InterfaceByName(port)
	if err != nil {
		return nil
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("firewall: pin %q to the port %s: %w", mac, port, err)
	}
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Index, Family: unix.AF_BRIDGE, State: netlink.NUD_NOARP,
		Flags: netlink.NTF_MASTER | ntfSticky, HardwareAddr: hw,
	}); err != nil {
		return fmt.Errorf("firewall: pin %s to the port %s: %w", mac, port, err)
	}
	return nil
}
