package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestS20FlowsOfOneContainerAreBounded: over the bound a container begins
// nothing new, from whichever of its addresses; others go on, what is open goes
// on, and so does what comes to it. Changes of the rules forget no count.
func TestS20FlowsOfOneContainerAreBounded(t *testing.T) {
	const most = 40
	w := newWorld(t)
	f := w.firewall()
	f.most = most
	guarded := containers()
	for i := range guarded {
		guarded[i].MAC = strings.TrimSpace(w.output(guarded[i].Name, "ip -br link show eth0 | awk '{print $3}'"))
	}
	f.apply(guarded)
	w.sh("shop/web", "ip addr add 198.18.0.99/24 dev eth0; ip addr add fd00:18::99/64 dev eth0 nodad")

	var first net.Conn
	opened := 0
	open := func(from, to string) bool {
		var c net.Conn
		err := w.enter("shop/web", func() (err error) {
			d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			c, err = d.Dial("tcp", to)
			return err
		})
		if err != nil {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("connection %d: %v", opened, err)
			}
			return false
		}
		t.Cleanup(func() { c.Close() })
		if first == nil {
			first = c
		}
		opened++
		return true
	}
	for opened < 2*most && open("198.18.0.10", "203.0.113.2:80") {
		if opened == most/2 { // another rule, as a deploy brings
			f.apply(append([]Container{{Name: "shop/new", Project: "shop", Addr: netip.MustParseAddr("198.18.0.55"), MAC: "10:66:c6:12:00:37"}}, guarded...))
		}
	}
	if opened < most-5 || opened > most+5 { // neighbour discovery may be one or two of them
		t.Errorf("%d connections were opened, and %d may be", opened, most)
	}
	for _, other := range [][2]string{
		{"198.18.0.99", "203.0.113.2:81"},
		{"fd00:18::10", "[2001:db8::2]:80"},
		{"fd00:18::99", "[2001:db8::2]:80"},
		{"198.18.0.10", "198.18.0.1:80"}, // this host
	} {
		if open(other[0], other[1]) {
			t.Errorf("one more from %s to %s", other[0], other[1])
		}
	}
	if answer, err := ask(first, hearing); err != nil || answer.who != "outside" {
		t.Errorf("what was open is not: %v, %v", answer, err)
	}
	w.try(t, []attempt{
		{"shop/db", "tcp", "outside:80", "open"},
		{"shop/db", "tcp", "shop/web:80", "open"},
		{"host", "tcp", "shop/web:80", "open"},
	})

	// It is put back like the other table.
	w.sh("host", "nft flush ruleset")
	w.in("host", func() error {
		restored, err := f.Repair(t.Context())
		if want := []string{"the nftables table inet " + table, "the nftables table inet " + table + "-flows"}; fmt.Sprint(restored) != fmt.Sprint(want) {
			t.Errorf("restored %q, want %q", restored, want)
		}
		return err
	})
	w.in("host", func() error {
		restored, err := f.Repair(t.Context())
		if len(restored) > 0 {
			t.Errorf("nothing was changed, and it restored %q", restored)
		}
		return err
	})
}
