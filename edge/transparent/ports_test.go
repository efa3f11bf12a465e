package transparent_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"swage/edge/transparent"
)

// TestPortsUsedUp: a client that has no port left to a target is told so by an
// error of its own, and has them all again to another target.
func TestPortsUsedUp(t *testing.T) {
	w := newWorld(t, 1)
	w.tellCaller("web")
	w.tellCaller("db")
	w.setup()
	const ports = 10
	w.sh("", "echo 40000 40009 > /proc/sys/net/ipv4/ip_local_port_range")
	t.Cleanup(func() { w.sh("", "echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range") })
	for _, family := range []struct{ client, web, db string }{{clients4 + "2", web4, db4}, {clients6 + "2", web6, db6}} {
		client := netip.MustParseAddr(family.client)
		opened := 0
		for _, at := range []string{family.web, family.db} {
			for {
				conn, err := transparent.Dial(t.Context(), client, netip.AddrPortFrom(netip.MustParseAddr(at), 80))
				if err != nil {
					if !errors.Is(err, syscall.EADDRNOTAVAIL) {
						t.Errorf("%s: %v", at, err)
					}
					break
				}
				defer conn.Close()
				opened++
			}
		}
		if opened != 2*ports {
			t.Errorf("%v opened %d connections, want %d", client, opened, 2*ports)
		}
	}
}
