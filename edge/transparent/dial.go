package transparent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dial connects to target from the client's address and a port that the kernel
// chooses. It asks nothing of the way back: without [Path.Setup] no answer
// arrives. Between one client and one target about 28,000 connections can be
// open (ip(7), ip_local_port_range).
func Dial(ctx context.Context, client netip.Addr, target netip.AddrPort) (net.Conn, error) {
	client = client.Unmap().WithZone("")
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, 0)),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			control := raw.Control(func(fd uintptr) { err = prepare(int(fd), client.Is4()) })
			return errors.Join(err, control)
		},
	}
	return d.DialContext(ctx, "tcp", target.String())
}

// Dial is the function Dial.
func (*Path) Dial(ctx context.Context, client netip.Addr, target netip.AddrPort) (net.Conn, error) {
	return Dial(ctx, client, target)
}

// prepare sets up a socket before it is bound. The port is chosen when it
// connects: then only connections to the same target must have other ports,
// instead of all that are bound to the client's address.
func prepare(fd int, is4 bool) error {
	level, option := unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	if is4 {
		level, option = unix.SOL_IP, unix.IP_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}
