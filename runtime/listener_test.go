package runtime_test

import (
	"net/netip"
	"testing"

	"swage/runtime"
)

func TestD7WhoLosesCallersToAPublishedPort(t *testing.T) {
	for _, c := range []struct {
		listens, publishes string
		both, hears        bool
	}{
		{"0.0.0.0:22", "[::]:22", false, true},
		{"[::]:22", "[::]:22", true, true},
		{"203.0.113.5:22", "[::]:22", false, true},
		{"203.0.113.5:22", "203.0.113.5:22", false, true},
		{"203.0.113.6:22", "203.0.113.5:22", false, false},
		{"0.0.0.0:22", "203.0.113.5:22", false, true},
		{"[::]:22", "203.0.113.5:22", true, true},
		{"[::]:22", "203.0.113.5:22", false, false},
		{"0.0.0.0:22", "[2001:db8::5]:22", false, false},
		{"[::]:22", "[2001:db8::5]:22", false, true},
		{"127.0.0.1:22", "[::]:22", false, false},
		{"[::1]:22", "[::]:22", false, false},
		{"[fe80::1%eth0]:22", "[fe80::1]:22", false, true},
		{"0.0.0.0:23", "[::]:22", false, false},
	} {
		l := runtime.Listener{Addr: netip.MustParseAddrPort(c.listens), Protocol: "tcp", Both: c.both}
		p := runtime.Publish{Listen: netip.MustParseAddrPort(c.publishes), Protocol: "tcp", Port: 80}
		if got := l.Hears(p); got != c.hears {
			t.Errorf("%s and %s: %t", c.listens, c.publishes, got)
		}
		if p.Protocol = "udp"; l.Hears(p) {
			t.Errorf("%s takes UDP", c.listens)
		}
	}
}
