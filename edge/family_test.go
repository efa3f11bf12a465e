package edge

import (
	"net/netip"
	"testing"
)

// A container that has an address of IPv6 only is reached there by everybody,
// and its own rules hold there.
func TestS7AContainerWithoutIPv4IsReached(t *testing.T) {
	six := netip.MustParseAddr("fd00::5")
	table, err := Compile(Config{Zone: "node.example.com", Containers: []Container{{
		ProjectID: "67e89abc123def456789abcd", ID: "890abcdef12345678901cdef", Name: "shop/web", Addr6: six, Catalogue: &Catalogue{},
		Ingress: []Rule{{Action: Deny, Protocol: "tcp", Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")}, Destinations: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		client string
		want   Verdict
	}{{"203.0.113.2", Allow}, {"2001:db8::2", Allow}, {"203.0.113.9", Deny}} {
		d := table.Decide(Request{Host: "67e89abc123def456789abcd-890abcdef12345678901cdef-http.node.example.com", Path: "/", Client: netip.MustParseAddr(c.client)})
		if d.Verdict != c.want {
			t.Errorf("%s: %v (%s), want %v", c.client, d.Verdict, d.Why, c.want)
		}
		if d.Verdict == Allow && d.Route.Addr.Addr() != six {
			t.Errorf("%s is led to %v", c.client, d.Route.Addr)
		}
	}
}
