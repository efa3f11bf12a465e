package transparent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// look reads what obstacle must know of a bridge. A bridge that is not there is
// no error: it may come.
func look(bridge string) (*view, error) {
	link, err := netlink.LinkByName(bridge)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return &view{why: fmt.Sprintf("there is no bridge %s here", bridge)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the bridge %s: %w", bridge, err)
	}
	if link.Type() != "bridge" { // a name is easily another interface's
		return &view{why: fmt.Sprintf("%s is no bridge", bridge)}, nil
	}
	v := &view{}
	for _, family := range families() {
		addrs, err := netlink.AddrList(link, family)
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", bridge, err)
		}
		for _, a := range addrs {
			addr, ok := netip.AddrFromSlice(a.IP)
			if ones, _ := a.Mask.Size(); ok {
				v.prefixes = append(v.prefixes, netip.PrefixFrom(addr.Unmap(), ones))
			}
		}
	}
	if isolated, err := portsIsolated(link.Attrs().Index); err != nil {
		return nil, fmt.Errorf("list the ports of %s: %w", bridge, err)
	} else if isolated {
		// Who cannot hear another asks for its address; the host must answer.
		v.between4 = isSet("ipv4/conf", bridge, "proxy_arp_pvlan")
		v.between6 = isSet("ipv6/conf", bridge, "proxy_ndp")
	}
	return v, nil
}

// portsIsolated reports whether no port of a bridge reaches another one.
func portsIsolated(bridge int) (bool, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttrAsMap(m[unix.SizeofIfInfomsg:])
		if err != nil {
			return false, err
		}
		master, ok := attrs[unix.IFLA_MASTER]
		if !ok || len(master.Value) < 4 || int(binary.NativeEndian.Uint32(master.Value)) != bridge {
			continue
		}
		if int(nl.DeserializeIfInfomsg(m).Index) == bridge { // listed as a port of its own
			continue
		}
		settings, err := nl.ParseRouteAttrAsMap(attrs[unix.IFLA_PROTINFO|unix.NLA_F_NESTED].Value)
		if err != nil {
			return false, err
		}
		if isolated := settings[nl.IFLA_BRPORT_ISOLATED].Value; len(isolated) == 0 || isolated[0] == 0 {
			return false, nil
		}
	}
	return true, nil
}

func isSet(folder, bridge, name string) bool {
	value, err := os.ReadFile(filepath.Join("/proc/sys/net", folder, bridge, name))
	return err == nil && strings.TrimSpace(string(value)) == "1"
}
