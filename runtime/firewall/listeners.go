package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"swage/runtime"
)

// States of sockets (include/net/tcp_states.h): those of UDP that have no peer are
// closed.
const (
	stateClosed = 7
	stateListen = 10
)

const (
	sizeofDiagRequest = 56 // struct inet_diag_req_v2
	sizeofDiagMessage = 72 // struct inet_diag_msg
	diagV6Only        = 11 // INET_DIAG_SKV6ONLY
)

// diagRequest asks for the sockets of a family and a protocol in one state.
type diagRequest struct {
	family, protocol uint8
	state            uint
}

func (r diagRequest) Len() int { return sizeofDiagRequest }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, sizeofDiagRequest)
	b[0], b[1] = r.family, r.protocol
	binary.NativeEndian.PutUint32(b[4:], 1<<r.state)
	return b
}

// Listeners are the sockets of this host at which programs await callers, but for
// the bridge's own DNS and DHCP, which published ports leave alone.
func (f *Firewall) Listeners() ([]runtime.Listener, error) {
	own := f.bridgeAddrs()
	var out []runtime.Listener
	for _, p := range []struct {
		name   string
		number uint8
		state  uint
	}{{"tcp", unix.IPPROTO_TCP, stateListen}, {"udp", unix.IPPROTO_UDP, stateClosed}} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			request.AddData(diagRequest{family, p.number, p.state})
			messages, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
			if err != nil {
				return nil, fmt.Errorf("firewall: list the %s sockets of this host: %w", p.name, err)
			}
			for _, m := range messages {
				l, ok := listener(m, p.name)
				if ok && !(slices.Contains(own, l.Addr.Addr().WithZone("")) && slices.Contains(bridgeServices, l.Addr.Port())) {
					out = append(out, l)
				}
			}
		}
	}
	return out, nil
}

// bridgeServices are the ports of servicePorts.
var bridgeServices = []uint16{53, 67, 547}

func (f *Firewall) bridgeAddrs() (out []netip.Addr) {
	link, err := net.InterfaceByName(f.Bridge)
	if err != nil {
		return nil
	}
	addrs, _ := link.Addrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// listener reads one answer (struct inet_diag_msg).
func listener(m []byte, protocol string) (l runtime.Listener, ok bool) {
	if len(m) < sizeofDiagMessage {
		return l, false
	}
	port := binary.BigEndian.Uint16(m[4:])
	addr := netip.AddrFrom4([4]byte(m[8:12]))
	if m[0] == unix.AF_INET6 {
		addr = netip.AddrFrom16([16]byte(m[8:24]))
		l.Both = addr.IsUnspecified()
		for rest := m[sizeofDiagMessage:]; len(rest) >= unix.SizeofRtAttr; {
			size := int(binary.NativeEndian.Uint16(rest))
			if size < unix.SizeofRtAttr || size > len(rest) {
				break
			}
			if binary.NativeEndian.Uint16(rest[2:]) == diagV6Only && size > unix.SizeofRtAttr && rest[4] != 0 {
				l.Both = false
			}
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
	l.Addr, l.Protocol = netip.AddrPortFrom(addr, port), protocol
	return l, port != 0
}
