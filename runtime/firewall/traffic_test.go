package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"swage/runtime"
)

// attempt is one row: who calls whom, and what becomes of it.
type attempt struct {
	from     string // "host as 203.0.113.2": a transparent socket
	protocol string // tcp, udp, icmp4, icmp6; tcp6 and udp6 go to the IPv6 address
	to       string // somebody, with a port unless it is icmp; or an address
	want     string // open, refused or silent
}

func (w *world) try(t *testing.T, rows []attempt) {
	t.Helper()
	var all sync.WaitGroup
	for _, r := range rows {
		all.Go(func() {
			to, port, hasPort := r.to, "", false
			if !strings.HasPrefix(r.protocol, "icmp") {
				i := strings.LastIndexByte(r.to, ':')
				to, port, hasPort = r.to[:i], r.to[i+1:], true
			}
			if p, known := people[to]; known {
				to = p.addr
				if strings.HasSuffix(r.protocol, "6") {
					to = p.addr6
				}
			}
			if hasPort {
				to = net.JoinHostPort(strings.Trim(to, "[]"), port)
			}
			patience, tries := hearing, 1
			switch {
			case r.want == "silent":
				patience = silence
			case r.want == "refused" && !strings.HasPrefix(r.protocol, "tcp"):
				patience, tries = hearing/10, 10 // the kernel leaves some out, see settings
			}
			got, _ := w.call(r.from, r.protocol, to, patience)
			for ; got == "silent" && tries > 1; tries-- {
				got, _ = w.call(r.from, r.protocol, to, patience)
			}
			if got != r.want {
				t.Errorf("%-10s -> %-5s %-20s %s, want %s", r.from, r.protocol, r.to, got, r.want)
			}
		})
	}
	all.Wait()
}

// TestRejectWhileTheyTalk: what containers just sent each other over IPv6 delays
// no refusal of TCP, and leaves those of others to be had by asking again.
func TestRejectWhileTheyTalk(t *testing.T) {
	w := newWorld(t)
	w.firewall().apply(containers(container("shop/web", func(c *Container) {
		c.Rules = []runtime.Rule{
			{Direction: "ingress", Action: "reject", Protocol: "tcp", DestinationPorts: onPorts(81)},
			{Direction: "ingress", Action: "reject", Protocol: "icmp6"},
		}
	})))
	for _, row := range []attempt{
		{"shop/db", "tcp6", "shop/web:80", "open"},
		{"shop/db", "tcp6", "shop/web:81", "refused"},
		{"shop/db", "icmp6", "shop/web", "refused"},
	} {
		w.try(t, []attempt{row})
	}
}

// TestBasePolicy: no container has a rule or publishes a port.
func TestBasePolicy(t *testing.T) {
	w := newWorld(t)
	w.firewall().apply(containers())
	t.Run("", func(t *testing.T) { w.try(t, basePolicy) })
	t.Run("bridge netfilter", func(t *testing.T) {
		if !w.bridgeNetfilter("1") {
			t.Skip("this kernel does not show bridged packets to our table")
		}
		w.try(t, basePolicy)
	})
}

var basePolicy = []attempt{
	// Containers of one project reach each other.
	{"shop/web", "tcp", "shop/db:80", "open"},
	{"shop/web", "tcp6", "shop/db:80", "open"},
	{"shop/db", "udp", "shop/web:80", "open"},
	{"shop/db", "udp6", "shop/web:80", "open"},
	{"shop/web", "icmp4", "shop/db", "open"},
	{"shop/web", "icmp6", "shop/db", "open"},
	{"shop/web", "tcp", "shop/db:79", "refused"}, // nobody listens: the container says it

	// Those of others do not.
	{"blog/mail", "tcp", "shop/web:80", "silent"},
	{"blog/mail", "tcp6", "shop/web:80", "silent"},
	{"blog/mail", "udp", "shop/web:80", "silent"},
	{"blog/mail", "udp6", "shop/web:80", "silent"},
	{"blog/mail", "icmp4", "shop/web", "silent"},
	{"blog/mail", "icmp6", "shop/web", "silent"},
	{"shop/web", "tcp", "blog/mail:80", "silent"},
	{"shop/web", "tcp6", "blog/mail:80", "silent"},

	// Nor does the outside.
	{"outside", "tcp", "shop/web:80", "silent"},
	{"outside", "tcp6", "shop/web:80", "silent"},
	{"outside", "udp", "shop/web:80", "silent"},
	{"outside", "udp6", "shop/web:80", "silent"},
	{"outside", "icmp4", "shop/web", "silent"},
	{"outside", "icmp6", "shop/web", "silent"},

	// The host does.
	{"host", "tcp", "shop/web:80", "open"},
	{"host", "tcp6", "shop/web:80", "open"},
	{"host", "udp", "shop/web:80", "open"},
	{"host", "icmp6", "shop/web", "open"},

	// Out of a container all is open.
	{"shop/web", "tcp", "outside:80", "open"},
	{"shop/web", "tcp6", "outside:80", "open"},
	{"shop/web", "udp", "outside:80", "open"},
	{"shop/web", "icmp4", "outside", "open"},
	{"shop/web", "icmp6", "outside", "open"},
	{"shop/web", "tcp", "host:80", "open"},
	{"shop/web", "udp6", "host:53", "open"},

	// Who is not ours is not touched.
	{"outside", "tcp", "host:80", "open"},
	{"host", "tcp", "outside:80", "open"},
}

func prefixes(text ...string) (out []netip.Prefix) {
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func onPorts(numbers ...uint16) (out []runtime.Ports) {
	for _, n := range numbers {
		out = append(out, runtime.Ports{From: n, To: n})
	}
	return out
}

func rules(rs ...runtime.Rule) func(*Container) {
	return func(c *Container) { c.Rules = append(c.Rules, rs...) }
}

// TestRules: shop/web has the rules, the others have none.
func TestRules(t *testing.T) {
	w := newWorld(t)
	f := w.firewall()
	for _, test := range []struct {
		name  string
		rules []runtime.Rule
		rows  []attempt
	}{
		{"ingress allow tcp 80", []runtime.Rule{
			{Direction: "ingress", Action: "allow", Protocol: "tcp", DestinationPorts: onPorts(80)},
		}, []attempt{
			{"outside", "tcp", "shop/web:80", "open"},
			{"outside", "tcp6", "shop/web:80", "open"},
			{"blog/mail", "tcp", "shop/web:80", "open"},
			{"shop/db", "tcp", "shop/web:80", "open"},
			{"outside", "tcp", "shop/web:81", "silent"},
			{"outside", "udp", "shop/web:80", "silent"},
			{"shop/db", "tcp", "shop/web:81", "silent"}, // what no rule allows is closed to the project too
			{"shop/db", "icmp4", "shop/web", "silent"},
			{"host", "tcp", "shop/web:81", "open"},
			{"host as 203.0.113.2", "tcp", "shop/web:80", "open"},
			{"host as 203.0.113.2", "tcp", "shop/web:81", "silent"},
			{"host as 2001:db8::2", "tcp6", "shop/web:80", "open"},
			{"host as 2001:db8::2", "tcp6", "shop/web:81", "silent"},
			{"shop/web", "tcp", "outside:81", "open"}, // the way out stays open, with the answers
			{"shop/web", "tcp", "shop/db:81", "open"},
			{"outside", "tcp", "shop/db:80", "silent"}, // rules of one are not those of another
		}},
		{"ingress allow by source", []runtime.Rule{
			{Direction: "ingress", Action: "allow", Sources: prefixes("203.0.113.2/32", "198.18.0.11/32", "2001:db8::/64")},
		}, []attempt{
			{"outside", "tcp", "shop/web:5432", "open"},
			{"outside", "udp", "shop/web:80", "open"},
			{"outside", "icmp4", "shop/web", "open"},
			{"outside", "tcp6", "shop/web:80", "open"},
			{"shop/db", "tcp", "shop/web:80", "open"},
			{"shop/db", "tcp6", "shop/web:80", "silent"}, // its IPv6 address is not among them
			{"blog/mail", "tcp", "shop/web:80", "silent"},
			{"host as 203.0.113.2", "tcp", "shop/web:80", "open"},
			{"host as 203.0.113.3", "tcp", "shop/web:80", "silent"},
			{"host as 2001:db8::2", "tcp6", "shop/web:80", "open"},
			{"host as 2001:db9::2", "tcp6", "shop/web:80", "silent"},
		}},
		{"ingress drop alone keeps the base policy", []runtime.Rule{
			{Direction: "ingress", Action: "drop", Sources: prefixes("198.18.0.11/32"), Protocol: "tcp", DestinationPorts: []runtime.Ports{{From: 80, To: 82}}},
			{Direction: "ingress", Action: "drop", Sources: prefixes("203.0.113.3/32")},
		}, []attempt{
			{"shop/db", "tcp", "shop/web:80", "silent"},
			{"shop/db", "tcp", "shop/web:81", "silent"},
			{"shop/db", "tcp", "shop/web:5432", "open"},
			{"shop/db", "tcp6", "shop/web:80", "open"},
			{"outside", "tcp", "shop/web:5432", "silent"},
			{"host as 203.0.113.2", "tcp", "shop/web:80", "open"},
			{"host as 203.0.113.3", "tcp", "shop/web:80", "silent"},
			{"host", "tcp", "shop/web:80", "open"},
		}},
		{"ingress reject answers", []runtime.Rule{
			{Direction: "ingress", Action: "reject", Sources: prefixes("198.18.0.0/24", "fd00:18::/64")},
		}, []attempt{
			{"shop/db", "tcp", "shop/web:80", "refused"},
			{"shop/db", "tcp6", "shop/web:80", "refused"},
			{"shop/db", "udp", "shop/web:80", "refused"},
			{"shop/db", "udp6", "shop/web:80", "refused"},
			{"shop/db", "icmp4", "shop/web", "refused"},
			{"outside", "tcp", "shop/web:80", "silent"},
			{"shop/web", "tcp", "shop/db:80", "open"},
		}},
		{"drop wins over reject over allow", []runtime.Rule{
			{Direction: "ingress", Action: "allow", Protocol: "tcp"},
			{Direction: "ingress", Action: "reject", Protocol: "tcp", DestinationPorts: onPorts(80, 81)},
			{Direction: "ingress", Action: "drop", Protocol: "tcp", DestinationPorts: onPorts(81)},
		}, []attempt{
			{"outside", "tcp", "shop/web:5432", "open"},
			{"outside", "tcp", "shop/web:80", "refused"},
			{"outside", "tcp", "shop/web:81", "silent"},
			{"shop/db", "udp", "shop/web:80", "silent"},
		}},
		{"ingress by protocol", []runtime.Rule{
			{Direction: "ingress", Action: "drop", Protocol: "udp"},
			{Direction: "ingress", Action: "drop", Protocol: "icmp4"},
			{Direction: "ingress", Action: "reject", Protocol: "icmp6"},
		}, []attempt{
			{"shop/db", "udp", "shop/web:80", "silent"},
			{"shop/db", "icmp4", "shop/web", "silent"},
			{"shop/db", "icmp6", "shop/web", "refused"},
			{"shop/db", "tcp", "shop/web:80", "open"},
			{"shop/db", "tcp6", "shop/web:80", "open"},
		}},
		{"ingress allow icmp4 only", []runtime.Rule{
			{Direction: "ingress", Action: "allow", Protocol: "icmp4"},
		}, []attempt{
			{"outside", "icmp4", "shop/web", "open"},
			{"outside", "icmp6", "shop/web", "silent"},
			{"outside", "tcp", "shop/web:80", "silent"},
			{"shop/db", "udp", "shop/web:80", "silent"},
		}},
		{"ingress allow icmp6 only", []runtime.Rule{
			{Direction: "ingress", Action: "allow", Protocol: "icmp6"},
		}, []attempt{
			{"outside", "icmp6", "shop/web", "open"},
			{"outside", "icmp4", "shop/web", "silent"},
		}},
		{"ingress by destination", []runtime.Rule{
			{Direction: "ingress", Action: "allow", Destinations: prefixes("198.18.0.10/32")},
		}, []attempt{
			{"outside", "tcp", "shop/web:80", "open"},
			{"outside", "tcp6", "shop/web:80", "silent"},
		}},
		{"ingress by source port", []runtime.Rule{
			{Direction: "ingress", Action: "drop", Protocol: "udp", SourcePorts: []runtime.Ports{{From: 1024, To: 65535}}},
			{Direction: "ingress", Action: "reject", Protocol: "tcp", SourcePorts: []runtime.Ports{{From: 1, To: 1023}}},
		}, []attempt{
			{"shop/db", "udp", "shop/web:80", "silent"},
			{"shop/db", "tcp", "shop/web:80", "open"},
		}},
		{"egress drop and reject", []runtime.Rule{
			{Direction: "egress", Action: "reject", Destinations: prefixes("203.0.113.0/24")},
			{Direction: "egress", Action: "drop", Protocol: "tcp", Destinations: prefixes("2001:db8::/32"), DestinationPorts: onPorts(80)},
			{Direction: "egress", Action: "drop", Protocol: "tcp", DestinationPorts: onPorts(5432)},
		}, []attempt{
			{"shop/web", "tcp", "outside:80", "refused"},
			{"shop/web", "udp", "outside:80", "refused"},
			{"shop/web", "icmp4", "outside", "refused"},
			{"shop/web", "tcp6", "outside:80", "silent"},
			{"shop/web", "tcp6", "outside:81", "open"},
			{"shop/web", "tcp", "shop/db:5432", "silent"},
			{"shop/web", "tcp", "host:5432", "silent"}, // the host is judged as everybody
			{"shop/web", "tcp", "shop/db:80", "open"},
			{"shop/web", "tcp", "host:80", "open"},
			{"shop/db", "tcp", "shop/web:5432", "open"}, // answers are no egress
			{"host", "tcp", "shop/web:5432", "open"},
			{"host as 198.18.0.10", "tcp", "shop/db:5432", "open"}, // shop/web asked the edge, not shop/db
			{"shop/db", "tcp", "outside:80", "open"},
		}},
		{"egress allow closes the rest", []runtime.Rule{
			{Direction: "egress", Action: "allow", Protocol: "tcp", DestinationPorts: onPorts(80)},
			{Direction: "egress", Action: "allow", Protocol: "udp", DestinationPorts: onPorts(79)},
		}, []attempt{
			{"shop/web", "tcp", "outside:80", "open"},
			{"shop/web", "udp", "outside:79", "refused"}, // nobody listens: the error comes through
			{"shop/web", "tcp", "outside:81", "refused"},
			{"shop/web", "udp", "outside:80", "refused"},
			{"shop/web", "tcp", "shop/db:80", "open"},
			{"shop/web", "tcp", "shop/db:81", "refused"},
			{"shop/web", "tcp", "host:81", "refused"},
			{"shop/web", "tcp", "blog/mail:80", "silent"}, // the other side still has a say
			{"shop/db", "tcp", "shop/web:81", "open"},
		}},
		{"DNS of the bridge survives a closed egress", []runtime.Rule{
			{Direction: "egress", Action: "drop"},
		}, []attempt{
			{"shop/web", "udp", "host:53", "open"},
			{"shop/web", "tcp", "host:53", "open"},
			{"shop/web", "udp6", "host:53", "open"},
			{"shop/web", "udp", "host:67", "open"}, // DHCP
			{"shop/web", "udp", "host:80", "silent"},
			{"shop/web", "tcp6", "host:80", "silent"},
			{"shop/web", "udp", "outside:53", "silent"},
			{"shop/web", "icmp6", "host", "silent"},
			{"host", "tcp", "shop/web:80", "open"},
			{"host", "tcp6", "shop/web:80", "open"},
			{"shop/db", "tcp6", "shop/web:80", "open"},
		}},
		{"DNS of the bridge ends when a rule names it", []runtime.Rule{
			{Direction: "egress", Action: "reject", Protocol: "udp", DestinationPorts: onPorts(53)},
		}, []attempt{
			{"shop/web", "udp", "host:53", "refused"},
			{"shop/web", "tcp", "host:53", "open"},
			{"shop/db", "udp", "host:53", "open"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.apply(containers(container("shop/web", rules(test.rules...))))
			w.returnPath()
			w.try(t, test.rows)
		})
	}
}

// returnPath leads answers to transparent sockets back to them, as an edge
// would, in a table that is not ours.
func (w *world) returnPath() {
	w.t.Helper()
	w.sh("host", `
		nft 'table inet return-path; delete table inet return-path; table inet return-path {
			chain c { type filter hook prerouting priority mangle; meta l4proto tcp socket transparent 1 meta mark set 1; }
		}'
		for v in -4 -6; do
			while ip $v rule del fwmark 1 lookup 100 2>/dev/null; do :; done
			ip $v rule add fwmark 1 lookup 100
			ip $v route replace local default dev lo table 100
		done`)
}

func published(listen, protocol string, port uint16) func(*Container) {
	return func(c *Container) {
		c.Publish = append(c.Publish, runtime.Publish{Listen: netip.MustParseAddrPort(listen), Protocol: protocol, Port: port})
	}
}

// TestPublish: shop/web publishes :8080, :53/udp and 203.0.113.1:5353/udp,
// blog/mail publishes :2525 for those that a rule does not refuse.
func TestPublish(t *testing.T) {
	w := newWorld(t)
	f := w.firewall()
	f.apply(containers(
		container("shop/web", published("0.0.0.0:8080", "tcp", 80), published("203.0.113.1:5353", "udp", 53), published("0.0.0.0:53", "udp", 53)),
		container("shop/db", published("203.0.113.2:80", "tcp", 81)), // no address of the host
		container("blog/mail", published("[::]:2525", "tcp", 81),
			rules(runtime.Rule{Direction: "ingress", Action: "drop", Sources: prefixes("198.18.0.11/32")})),
	))
	const host, host6 = "203.0.113.1", "[2001:db8::1]"
	w.try(t, []attempt{
		{"outside", "tcp", host + ":8080", "open"},
		{"outside", "tcp6", host6 + ":8080", "open"},
		{"outside", "udp", host + ":8080", "refused"},
		{"outside", "udp", host + ":5353", "open"},
		{"outside", "udp6", host6 + ":5353", "refused"},
		{"outside", "udp", "198.18.0.1:5353", "refused"}, // another address of the host
		{"outside", "tcp", host + ":2525", "open"},
		{"outside", "tcp6", host6 + ":2525", "open"},
		{"outside", "tcp", "shop/web:80", "silent"}, // published is not open
		{"host", "tcp", host + ":8080", "open"},
		{"host", "tcp6", host6 + ":8080", "open"},
		{"host", "udp", host + ":5353", "open"},
		{"host", "tcp", "127.0.0.1:8080", "refused"},
		{"shop/db", "tcp", host + ":8080", "open"},
		{"blog/mail", "tcp", host + ":8080", "open"},
		{"blog/mail", "tcp6", host6 + ":8080", "open"},
		{"blog/mail", "tcp", "host:8080", "open"},
		{"blog/mail", "tcp", "shop/web:80", "silent"},
		{"shop/web", "tcp", host + ":8080", "open"}, // itself
		{"shop/web", "tcp6", host6 + ":8080", "open"},
		{"shop/web", "tcp", host + ":2525", "open"},
		{"shop/db", "tcp", host + ":2525", "silent"}, // a rule of blog/mail
	})
	for _, row := range []struct{ from, protocol, to, who, seen string }{
		{"outside", "tcp", host + ":8080", "shop/web", "203.0.113.2"},
		{"outside", "tcp", host6 + ":8080", "shop/web", "2001:db8::2"},
		{"host", "tcp", host + ":8080", "shop/web", "203.0.113.1"},
		{"blog/mail", "tcp", host + ":8080", "shop/web", "198.18.0.20"},
		{"blog/mail", "tcp", host6 + ":8080", "shop/web", "fd00:18::20"},
		{"shop/web", "tcp", host + ":8080", "shop/web", "198.18.0.1"},
		// Nobody's traffic to others is led away, nor that to the bridge's DNS.
		{"shop/db", "tcp", "203.0.113.2:80", "outside", "198.18.0.11"},
		{"host", "tcp", "203.0.113.2:80", "outside", "203.0.113.1"},
		{"outside", "udp", host + ":53", "shop/web", "203.0.113.2"},
		{"shop/db", "udp", "198.18.0.1:53", "host", "198.18.0.11"},
	} {
		if _, got := w.call(row.from, row.protocol, row.to, hearing); got.who != row.who || got.from.String() != row.seen {
			t.Errorf("%s calls %s: %s sees %s, want %s and %s", row.from, row.to, got.who, got.from, row.who, row.seen)
		}
	}

	t.Run("an allow rule judges it too", func(t *testing.T) {
		f.apply(containers(container("shop/web", published("0.0.0.0:8080", "tcp", 80), published("0.0.0.0:8081", "tcp", 81),
			rules(runtime.Rule{Direction: "ingress", Action: "allow", Protocol: "tcp", DestinationPorts: onPorts(80)}))))
		w.try(t, []attempt{
			{"outside", "tcp", host + ":8080", "open"},
			{"outside", "tcp", host + ":8081", "silent"},
			{"outside", "tcp", host + ":2525", "refused"}, // no longer published
		})
	})
}

// TestEstablishedFlowsEnd: a flow lives as long as the rules let it in,
// whoever sends.
func TestEstablishedFlowsEnd(t *testing.T) {
	w := newWorld(t)
	f := w.firewall()
	open := container("shop/web", published("0.0.0.0:8080", "tcp", 80), published("0.0.0.0:9000", "udp", 9000))
	for _, test := range []struct {
		name   string
		closed Container
		tcp    string // what the caller then hears
	}{
		{"a new drop", container("shop/web", rules(runtime.Rule{Direction: "ingress", Action: "drop"}),
			published("0.0.0.0:8080", "tcp", 80), published("0.0.0.0:9000", "udp", 9000)), "silent"},
		{"a new reject", container("shop/web", rules(runtime.Rule{Direction: "ingress", Action: "reject"}),
			published("0.0.0.0:8080", "tcp", 80), published("0.0.0.0:9000", "udp", 9000)), "refused"},
		{"a new drop of a port", container("shop/web",
			rules(runtime.Rule{Direction: "ingress", Action: "drop", Protocol: "tcp", DestinationPorts: onPorts(80)}),
			rules(runtime.Rule{Direction: "ingress", Action: "drop", Protocol: "udp", DestinationPorts: onPorts(9000)}),
			published("0.0.0.0:8080", "tcp", 80), published("0.0.0.0:9000", "udp", 9000)), "silent"},
		{"no longer published", container("shop/web"), "refused"}, // by the host, whose port it is again
	} {
		t.Run(test.name, func(t *testing.T) {
			f.apply(containers(open))
			var tcp, udp net.Conn
			var answers net.PacketConn
			w.in("shop/web", func() (err error) { answers, err = net.ListenPacket("udp", ":9000"); return err })
			defer answers.Close()
			w.in("outside", func() (err error) {
				if tcp, err = dial("tcp", "", "203.0.113.1:8080", hearing); err != nil {
					return err
				}
				udp, err = dial("udp", "", "203.0.113.1:9000", hearing)
				return err
			})
			defer tcp.Close()
			defer udp.Close()
			if _, err := ask(tcp, hearing); err != nil {
				t.Fatalf("before: %v", err)
			}
			fmt.Fprint(udp, "hello")
			_, caller, err := answers.ReadFrom(make([]byte, 9))
			if err != nil {
				t.Fatal(err)
			}
			reply := func(patience time.Duration) string {
				answers.WriteTo([]byte("shop/web 198.18.0.10:1"), caller)
				_, err := ask(udp, patience)
				return verdictOf(err)
			}
			if got := reply(hearing); got != "open" {
				t.Fatalf("before: the container's answer is %s", got)
			}

			f.apply(containers(test.closed))
			patience := hearing
			if test.tcp == "silent" {
				patience = silence
			}
			_, err = ask(tcp, patience)
			if got := verdictOf(err); got != test.tcp {
				t.Errorf("the connection is %s, want %s", got, test.tcp)
			}
			// What the container sends by itself does not keep a flow alive.
			if got := reply(silence); got == "open" {
				t.Error("the container still answers a datagram of a flow that is refused")
			}
		})
	}
}

// TestPublishedUDPMoves: a client that never changes its port follows what is
// published, whenever it began to send.
func TestPublishedUDPMoves(t *testing.T) {
	w := newWorld(t)
	// Only where nobody translates addresses do old translations end by themselves.
	w.sh("host", `nft 'table inet nat-of-another {
		chain in { type nat hook prerouting priority dstnat; }
		chain out { type nat hook postrouting priority srcnat; }
	}'`)
	f := w.firewall()
	f.apply(containers())
	for _, host := range []string{"203.0.113.1:9000", "[2001:db8::1]:9000"} {
		var client net.Conn
		w.in("outside", func() (err error) { client, err = net.Dial("udp", host); return err })
		defer client.Close()
		for _, step := range []struct {
			name string
			in   []Container
			want string // who answers
		}{
			{"not published", containers(), ""},
			{"published", containers(container("shop/web", published("0.0.0.0:9000", "udp", 80))), "shop/web"},
			{"moved to another container", containers(container("shop/db", published("0.0.0.0:9000", "udp", 80))), "shop/db"},
			{"moved to another port", containers(container("shop/db", published("203.0.113.1:9000", "udp", 81), published("[2001:db8::1]:9000", "udp", 81))), "shop/db"},
			{"the container is gone", containers(container("shop/web", published("0.0.0.0:9000", "udp", 80)))[:1], "shop/web"},
			{"not published any more", containers(), ""},
		} {
			f.apply(step.in)
			got, err := ask(client, hearing)
			if got.who != step.want || step.want == "" && verdictOf(err) != "refused" {
				t.Errorf("%s, %s: %q answers, want %q (%v)", host, step.name, got.who, step.want, err)
			}
		}
	}
}
