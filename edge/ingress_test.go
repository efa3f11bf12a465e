package edge

import (
	"net/netip"
	"strings"
	"testing"
)

func networks(text ...string) (out []netip.Prefix) {
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestIngressRules: the container is at 10.0.0.1 and has no permissions
// document. Who reaches which of its ports?
func TestIngressRules(t *testing.T) {
	const (
		office   = "192.0.2.9"
		office6  = "2001:db8:0:1::9"
		stranger = "198.51.100.7"
	)
	officeNetworks := networks("192.0.2.0/24", "2001:db8:0:1::/64")
	type row struct {
		client string
		port   string
		want   Verdict
	}
	for _, test := range []struct {
		name  string
		rules []Rule
		rows  []row
	}{
		{"no rules", nil, []row{{stranger, "80", Allow}}},
		{"allow the office", []Rule{{Action: Allow, Sources: officeNetworks}}, []row{
			{office, "80", Allow},
			{office6, "80", Allow},
			{"::ffff:" + office, "80", Allow},
			{stranger, "80", Deny},
		}},
		{"allow two ports", []Rule{{Action: Allow, Protocol: "tcp", Ports: []PortRange{{80, 80}, {3000, 3999}}}}, []row{
			{stranger, "80", Allow},
			{stranger, "3999", Allow},
			{stranger, "4000", Deny},
		}},
		{"deny the office, the rest as without rules", []Rule{{Action: Deny, Sources: officeNetworks}}, []row{
			{office, "80", Deny},
			{office6, "80", Deny},
			{stranger, "80", Allow},
		}},
		{"deny wins, in whatever order", []Rule{
			{Action: Allow},
			{Action: Deny, Sources: officeNetworks, Ports: []PortRange{{22, 22}}},
			{Action: Allow, Sources: officeNetworks},
		}, []row{
			{office, "22", Deny},
			{office, "80", Allow},
			{stranger, "22", Allow},
		}},
		{"other protocols match no request, but allowing one closes the rest", []Rule{
			{Action: Allow, Protocol: "udp"},
		}, []row{{stranger, "80", Deny}}},
		{"denying other protocols changes nothing", []Rule{
			{Action: Deny, Protocol: "udp"}, {Action: Deny, Protocol: "icmp4"},
		}, []row{{stranger, "80", Allow}}},
		{"destinations are the container's address", []Rule{
			{Action: Deny, Destinations: networks("10.0.0.0/24"), Ports: []PortRange{{80, 80}}},
			{Action: Deny, Destinations: networks("10.0.1.0/24"), Ports: []PortRange{{81, 81}}},
		}, []row{
			{stranger, "80", Deny},
			{stranger, "81", Allow},
		}},
		{"allowing another destination only", []Rule{{Action: Allow, Destinations: networks("10.0.1.0/24")}}, []row{{office, "80", Deny}}},
		{"source ports are nobody's here", []Rule{
			{Action: Deny, Protocol: "tcp", SourcePorts: true},
		}, []row{{stranger, "80", Allow}}},
		{"allowing source ports only", []Rule{
			{Action: Allow, Protocol: "tcp", SourcePorts: true},
		}, []row{{stranger, "80", Deny}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := fixture()
			c.Containers[0].Ingress = test.rules
			table := mustCompile(t, c)
			for _, r := range test.rows {
				d := table.Decide(Request{Host: shop + "-" + web + "-http-" + r.port + "." + zone, Client: netip.MustParseAddr(r.client), Path: "/", Time: noon})
				if d.Verdict != r.want {
					t.Errorf("%s -> %s: %v (%s), want %v", r.client, r.port, d.Verdict, d.Why, r.want)
				}
				if d.Verdict == Deny && (!strings.Contains(d.Why, "firewall") || d.Route != (Route{}) || d.Container != "shop/web") {
					t.Errorf("%s -> %s: %+v", r.client, r.port, d)
				}
			}
		})
	}

	t.Run("permissions come first, the state of the container last", func(t *testing.T) {
		c := fixture()
		for i := range c.Containers {
			c.Containers[i].Ingress = []Rule{{Action: Deny, Sources: officeNetworks}}
		}
		table := mustCompile(t, c)
		for host, why := range map[string]string{
			"secret": "firewall", // blog/gated allows the office, its firewall does not
			"sleepy": "firewall", // shop/asleep does not run
			"my-api": "firewall", // an alias is judged as the container is
		} {
			d := table.Decide(Request{Host: host + "." + zone, Client: netip.MustParseAddr(office), Path: "/", Time: noon})
			if d.Verdict != Deny || !strings.Contains(d.Why, why) {
				t.Errorf("%s: %v: %s", host, d.Verdict, d.Why)
			}
		}
		d := table.Decide(Request{Host: "secret." + zone, Client: netip.MustParseAddr(stranger), Path: "/", Time: noon})
		if d.Verdict != Deny || strings.Contains(d.Why, "firewall") {
			t.Errorf("a stranger at blog/gated: %v: %s", d.Verdict, d.Why)
		}
	})
}

// TestIngressRulesOfIPv6: the container is at 10.0.0.1 and at fd00::1. Callers
// of IPv6 are judged by the rules for its address of IPv6, which the kernel
// applies to them, and by those that refuse them the other.
func TestIngressRulesOfIPv6(t *testing.T) {
	const client4, client6 = "192.0.2.9", "2001:db8::9"
	for _, test := range []struct {
		name      string
		rules     []Rule
		four, six Verdict
	}{
		{"deny IPv6", []Rule{{Action: Deny, Destinations: networks("fd00::1/128")}}, Allow, Deny},
		{"deny IPv6, another port", []Rule{{Action: Deny, Destinations: networks("fd00::1/128"), Ports: []PortRange{{81, 81}}}}, Allow, Allow},
		{"deny another's IPv6", []Rule{{Action: Deny, Destinations: networks("fd00::2/128")}}, Allow, Allow},
		{"allow IPv6 only", []Rule{{Action: Allow, Destinations: networks("fd00::/64")}}, Deny, Allow},
		{"allow IPv4 only", []Rule{{Action: Allow, Destinations: networks("10.0.0.0/24")}}, Allow, Deny},
		{"allow both", []Rule{{Action: Allow, Destinations: networks("10.0.0.0/24", "fd00::/64")}}, Allow, Allow},
		{"allow, and deny IPv4", []Rule{{Action: Allow}, {Action: Deny, Destinations: networks("10.0.0.0/24")}}, Deny, Deny},
		{"everywhere", []Rule{{Action: Deny}}, Deny, Deny},
	} {
		c := fixture()
		c.Containers[0].Addr6 = netip.MustParseAddr("fd00::1")
		c.Containers[0].Ingress = test.rules
		table := mustCompile(t, c)
		for client, want := range map[string]Verdict{client4: test.four, "::ffff:" + client4: test.four, client6: test.six} {
			d := table.Decide(Request{Host: shop + "-" + web + "-http-80." + zone, Client: netip.MustParseAddr(client), Path: "/", Time: noon})
			if d.Verdict != want {
				t.Errorf("%s: %s: %v (%s), want %v", test.name, client, d.Verdict, d.Why, want)
			}
		}
	}
}

// TestIngressRulesThatCannotBe: faults are told by number.
func TestIngressRulesThatCannotBe(t *testing.T) {
	for want, rule := range map[string]Rule{
		`container "shop/web": firewall rule 2: the action is "not found"`:                    {Action: NotFound},
		`container "shop/web": firewall rule 2: 10.0.0.1/8 is not a canonical range`:          {Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}},
		`container "shop/web": firewall rule 2: ::ffff:10.0.0.0/104 is not a canonical range`: {Destinations: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
		`container "shop/web": firewall rule 2: 90-80 is not a range of ports`:                {Ports: []PortRange{{90, 80}}},
	} {
		c := fixture()
		c.Containers[0].Ingress = []Rule{{Action: Allow}, rule}
		if _, err := Compile(c); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}
