package firewall

import (
	"net/netip"
	"testing"
)

// TestS7OneFamily: a container is guarded at every address that it has, also
// where it has none of IPv4 or several of one family.
func TestS7OneFamily(t *testing.T) {
	w := newWorld(t)
	only6 := func(c *Container) { c.Addr = netip.Addr{} }
	only4 := func(c *Container) { c.Addr6 = netip.Addr{} }
	// What it lacks here it lacks there.
	for name, addr := range map[string]string{"shop/web": "198.18.0.10/24", "shop/db": "198.18.0.11/24", "blog/mail": "fd00:18::20/64"} {
		w.sh(name, "ip addr del "+addr+" dev eth0")
	}
	w.sh("shop/db", "ip addr add fd00:18::111/64 dev eth0 nodad")
	second := func(c *Container) { c.More = []netip.Addr{netip.MustParseAddr("fd00:18::111")} }
	f := w.firewall()
	f.apply([]Container{container("shop/web", only6), container("shop/db", only6, second), container("blog/mail", only4)})
	w.try(t, []attempt{
		{"outside", "tcp6", "shop/web:80", "silent"},
		{"outside", "tcp6", "shop/db:80", "silent"},
		{"outside", "tcp6", "[fd00:18::111]:80", "silent"},
		{"outside", "tcp", "blog/mail:80", "silent"},
		{"shop/web", "tcp6", "shop/db:80", "open"},
		{"shop/web", "tcp6", "[fd00:18::111]:80", "open"},
		{"shop/db", "tcp6", "shop/web:80", "open"},
		{"host", "tcp6", "[fd00:18::111]:80", "open"},
		{"host", "tcp", "blog/mail:80", "open"},
	})
}
