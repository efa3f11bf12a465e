package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"swage/runtime"
)

// given are the containers with their MACs, and held to their addresses; but for
// those named.
func (w *world) given(but ...string) []Container {
	out := containers(container("shop/db", func(c *Container) {
		c.Rules = []runtime.Rule{{Direction: "egress", Action: "drop", Destinations: prefixes("203.0.113.0/24", "2001:db8::/64")}}
	}))
	for i := range out {
		out[i].MAC, out[i].Given = w.mac(out[i].Name, "eth0").String(), true
		for _, name := range but {
			out[i].Given = out[i].Given && out[i].Name != name
		}
	}
	return out
}

func (w *world) mac(name, link string) (mac net.HardwareAddr) {
	w.t.Helper()
	w.in(name, func() error {
		l, err := net.InterfaceByName(link)
		if err == nil {
			mac = l.HardwareAddr
		}
		return err
	})
	return mac
}

// frame has root in a container send whatever it likes to this host.
func (w *world) frame(name string, ethertype uint16, payload []byte) {
	w.t.Helper()
	frame := append([]byte{}, w.mac("host", bridge)...)
	frame = append(frame, w.mac(name, "eth0")...)
	frame = append(binary.BigEndian.AppendUint16(frame, ethertype), payload...)
	w.in(name, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6})
	})
}

// claim tells the host, from the container's own address, that an address is the
// container's: by neighbour discovery, behind an extension header if hidden.
func (w *world) claim(name, addr string, hidden bool) {
	w.t.Helper()
	if !strings.Contains(addr, ":") {
		own, target := netip.MustParseAddr(addr).As4(), netip.MustParseAddr(people["host"].addr).As4()
		arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, w.mac(name, "eth0")...)
		arp = append(append(arp, own[:]...), w.mac("host", bridge)...)
		w.frame(name, unix.ETH_P_ARP, append(arp, target[:]...))
		return
	}
	from, to, target := netip.MustParseAddr(people[name].addr6).As16(), netip.MustParseAddr(people["host"].addr6).As16(), netip.MustParseAddr(addr).As16()
	body := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, target[:]...)
	body = append(append(body, 2, 1), w.mac(name, "eth0")...)
	sum := uint32(len(body)) + unix.IPPROTO_ICMPV6
	for _, b := range [][]byte{from[:], to[:], body} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(body[2:], ^uint16(sum))
	next := byte(unix.IPPROTO_ICMPV6)
	if hidden { // options for each hop, none of them
		body, next = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, body...), unix.IPPROTO_HOPOPTS
	}
	packet := []byte{0x60, 0, 0, 0, 0, byte(len(body)), next, 255}
	packet = append(append(append(packet, from[:]...), to[:]...), body...)
	w.frame(name, unix.ETH_P_IPV6, packet)
}

// believed is the MAC that the host sends to for an address; empty: none.
func (w *world) believed(addr string) string {
	fields := strings.Fields(w.output("host", "ip neigh show "+addr+" dev "+bridge))
	for i, f := range fields {
		if f == "lladdr" {
			return fields[i+1]
		}
	}
	return ""
}

// TestA1NobodyTakesAnothersAddress: root in a container neither calls from an
// address that another was given, nor from one that nobody was, nor leads what
// this host sends to another to itself; one whose addresses are its own choice
// keeps that choice, but for those that others were given.
func TestA1NobodyTakesAnothersAddress(t *testing.T) {
	for _, kind := range []struct{ name, adopted string }{{"given", ""}, {"adopted", "blog/mail"}} {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t)
			f := w.firewall()
			f.apply(w.given(kind.adopted))
			db := people["shop/db"]
			plain := []attempt{
				{"shop/db", "tcp", "shop/web:80", "open"},
				{"shop/db", "tcp6", "shop/web:80", "open"},
				{"shop/db", "udp6", "shop/web:80", "open"},
				{"host", "tcp", "shop/db:80", "open"},
				{"host", "tcp6", "shop/db:80", "open"},
				{"host", "tcp", "blog/mail:80", "open"},
				{"host", "tcp6", "blog/mail:80", "open"},
				{"blog/mail", "tcp", "outside:80", "open"},
				{"blog/mail", "tcp6", "outside:80", "open"},
				{"blog/mail", "tcp", "host:80", "open"},
				{"blog/mail", "icmp6", "fd00:18::1", "open"},
				{"blog/mail", "tcp6", "shop/web:80", "silent"},
			}
			w.try(t, plain)

			// As another, first by words to this host alone.
			for _, addr := range []string{db.addr, db.addr6} {
				for _, hidden := range []bool{false, true} {
					w.claim("blog/mail", addr, hidden)
					time.Sleep(20 * time.Millisecond) // it is believed at once or not at all
					if got, want := w.believed(addr), w.mac("shop/db", "eth0").String(); got != want {
						t.Errorf("%s is %s, want %s (hidden: %v)", addr, got, want, hidden)
					}
				}
			}
			w.sh("blog/mail", "ip addr add "+db.addr+"/24 dev eth0; ip addr add "+db.addr6+"/64 dev eth0 nodad")
			for _, addr := range []string{db.addr, db.addr6} {
				w.claim("blog/mail", addr, false)
			}
			w.try(t, []attempt{
				{"blog/mail as " + db.addr, "tcp", "shop/web:80", "silent"},
				{"blog/mail as " + db.addr6, "tcp6", "shop/web:80", "silent"},
				{"blog/mail as " + db.addr6, "tcp6", "host:80", "silent"},
			})
			for _, to := range []string{"tcp " + db.addr, "tcp6 " + db.addr6} {
				protocol, addr, _ := strings.Cut(to, " ")
				if verdict, seen := w.call("host", protocol, net.JoinHostPort(addr, "80"), hearing); verdict != "open" || seen.who != "" && seen.who != "shop/db" {
					t.Errorf("the host calls %s: %s from %q", addr, verdict, seen.who)
				}
			}
			w.sh("blog/mail", "ip addr del "+db.addr+"/24 dev eth0; ip addr del "+db.addr6+"/64 dev eth0")

			// As nobody that is known.
			w.sh("blog/mail", "ip addr add 198.18.0.77/24 dev eth0; ip addr add fd00:18::77/64 dev eth0 nodad")
			want := "silent"
			if kind.adopted != "" {
				want = "open"
			}
			w.try(t, []attempt{
				{"blog/mail as 198.18.0.77", "tcp", "outside:80", want},
				{"blog/mail as fd00:18::77", "tcp6", "outside:80", want},
				{"blog/mail as fd00:18::77", "tcp6", "host:80", want},
			})
			w.sh("blog/mail", "ip addr del 198.18.0.77/24 dev eth0; ip addr del fd00:18::77/64 dev eth0")

			// All neighbours are asked for again, and an address is free for its owner.
			w.sh("host", "ip neigh flush dev "+bridge)
			w.sh("shop/db", "ip addr del "+db.addr6+"/64 dev eth0; ip addr add "+db.addr6+`/64 dev eth0
				for i in $(seq 50); do ip -6 addr show tentative | grep -q inet6 || exit 0; sleep 0.1; done; exit 1`)
			w.try(t, plain)
		})
	}
}

// TestA4NobodyTakesAnothersMAC: root in a container that sends frames with
// another's MAC gets nothing of what this host sends to it.
func TestA4NobodyTakesAnothersMAC(t *testing.T) {
	w := newWorld(t)
	f := w.firewall()
	f.apply(w.given())
	db, mail := w.mac("shop/db", "eth0"), w.mac("blog/mail", "eth0")
	at := func(mac net.HardwareAddr) string {
		return strings.Fields(w.output("host", "bridge fdb show br "+bridge+" | grep "+mac.String()+" | grep -v ' permanent'"))[2]
	}
	w.try(t, []attempt{{"host", "tcp", "shop/db:80", "open"}, {"host", "tcp", "blog/mail:80", "open"}})
	port, other := at(db), at(mail)
	w.in("host", func() error { return f.Pin(port, db.String()) })
	w.in("host", func() error {
		pinned, err := f.Pinned()
		if len(pinned) != 1 || pinned[db.String()] != port {
			t.Errorf("pinned %v, want %s to %s", pinned, db, port)
		}
		return err
	})
	w.sh("blog/mail", "ip link set eth0 down; ip link set eth0 address "+db.String()+"; ip link set eth0 up")
	w.frame("blog/mail", 0x88b5, make([]byte, 46))
	if got := at(db); got != port {
		t.Errorf("what is for shop/db is led to %s (blog/mail is at %s), want %s", got, other, port)
	}
	w.try(t, []attempt{{"host", "tcp", "shop/db:80", "open"}, {"host", "tcp6", "shop/db:80", "open"}})
	// A port that is gone is no error, and the next one has it.
	w.in("host", func() error {
		if err := f.Pin("none", db.String()); err != nil {
			return err
		}
		if err := f.Pin(other, db.String()); err != nil {
			return err
		}
		pinned, err := f.Pinned()
		if pinned[db.String()] != other {
			t.Errorf("pinned %v, want %s to %s", pinned, db, other)
		}
		return err
	})
}
