package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Ports are the ports of the bridge, by the names of their interfaces, and
// whether each is isolated. There are none while there is no bridge.
func (f *Firewall) Ports() (isolated map[string]bool, err error) {
	link, err := net.InterfaceByName(f.Bridge)
	if err != nil {
		return nil, nil // it may come
	}
	if isolated, err = bridgePorts(link.Index); err != nil {
		return nil, fmt.Errorf("firewall: list the ports of %s: %w", f.Bridge, err)
	}
	return isolated, nil
}

func bridgePorts(bridge int) (map[string]bool, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	ports := map[string]bool{}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttrAsMap(m[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, err
		}
		master := attrs[unix.IFLA_MASTER].Value
		if len(master) < 4 || int(binary.NativeEndian.Uint32(master)) != bridge {
			continue
		}
		settings, err := nl.ParseRouteAttrAsMap(attrs[unix.IFLA_PROTINFO|unix.NLA_F_NESTED].Value)
		if err != nil {
			return nil, err
		}
		isolated := settings[nl.IFLA_BRPORT_ISOLATED].Value
		name := strings.TrimRight(string(attrs[unix.IFLA_IFNAME].Value), "\x00")
		ports[name] = len(isolated) > 0 && isolated[0] != 0
	}
	return ports, nil
}

// Isolate closes the short way from a port of the bridge to the other isolated
// ones. One that is gone is no error: who makes it the next time sees to it.
func (f *Firewall) Isolate(port string) error {
	link, err := net.InterfaceByName(port)
	if err != nil {
		return nil
	}
	if err := netlink.LinkSetIsolated(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: link.Index}}, true); err != nil {
		return fmt.Errorf("firewall: isolate the port %s: %w", port, err)
	}
	return nil
}
