package firewall

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"swage/runtime"
)

// TestD7ListenersOfTheHost: every kind of socket that awaits callers is seen, with
// whether IPv6 takes the calls of IPv4; others are not.
func TestD7ListenersOfTheHost(t *testing.T) {
	only := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1) })
	}}
	var want []runtime.Listener
	add := func(addr net.Addr, protocol string) {
		at := netip.MustParseAddrPort(addr.String())
		want = append(want, runtime.Listener{Addr: at, Protocol: protocol})
	}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := only.Listen(context.Background(), "tcp", at)
		if at[0] != '[' {
			l, err = net.Listen("tcp", at)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		add(l.Addr(), "tcp")
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		calls := netip.MustParseAddrPort(conn.LocalAddr().String())
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		add(u.LocalAddr(), "udp")
		have, err := (&Firewall{Bridge: "none"}).Listeners()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !slices.Contains(have, w) {
				t.Errorf("%v is not among %v", w, have)
			}
		}
		if slices.ContainsFunc(have, func(l runtime.Listener) bool { return l.Addr == calls }) {
			t.Errorf("%v, which calls, is among them", calls)
		}
	}
}

// The reading of answers, as the kernel writes them.
func TestD7AListenerIsRead(t *testing.T) {
	message := func(family byte, addr []byte, attrs ...byte) []byte {
		m := make([]byte, sizeofDiagMessage)
		m[0], m[4], m[5] = family, 0x08, 0xae // 2222
		copy(m[8:], addr)
		return append(m, attrs...)
	}
	v6only := []byte{5, 0, diagV6Only, 0, 1, 0, 0, 0}
	dual := []byte{5, 0, diagV6Only, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		m    []byte
		want string
		both bool
	}{
		{message(unix.AF_INET, []byte{203, 0, 113, 5}), "203.0.113.5:2222", false},
		{message(unix.AF_INET, nil), "0.0.0.0:2222", false},
		{message(unix.AF_INET6, nil, dual...), "[::]:2222", true},
		{message(unix.AF_INET6, nil, v6only...), "[::]:2222", false},
		{message(unix.AF_INET6, nil, 9, 0, 1), "[::]:2222", true}, // an attribute that is cut off
		{message(unix.AF_INET6, nil)[:40], "", false},
	} {
		l, ok := listener(c.m, "tcp")
		if ok != (c.want != "") || ok && (l.Addr.String() != c.want || l.Both != c.both) {
			t.Errorf("%v: %+v, %v; want %s, %v", c.m[:6], l, ok, c.want, c.both)
		}
	}
}
