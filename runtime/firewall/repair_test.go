package firewall

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// everything is what the firewall made on the host, in text.
func (w *world) everything() string {
	return w.output("host", `nft -s list table inet `+table+` 2>&1 || true
		nft -s list table arp `+table+` 2>&1 || true
		nft -s list table inet `+table+`-flows 2>&1 || true
		ip -6 neigh show proxy dev br0 | sort
		for p in ve1 ve2 ve3; do bridge -d link show dev $p | grep -o 'isolated o[a-z]*'; done
		cd /proc/sys/net
		for s in ipv4/conf/br0/proxy_arp_pvlan ipv4/conf/br0/send_redirects ipv4/conf/all/send_redirects ipv4/neigh/br0/proxy_delay ipv6/conf/br0/proxy_ndp ipv6/conf/all/proxy_ndp ipv6/neigh/br0/proxy_delay; do cat $s; done`)
}

// TestS8WhatIsTakenAwayIsMadeAgain: each part of what Apply made is missed, made
// again and named, and of a table the news come at once.
func TestS8WhatIsTakenAwayIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	f := w.firewall()
	guarded := containers(container("shop/web", published("0.0.0.0:8080", "tcp", 80)),
		container("shop/db", func(c *Container) { c.MAC, c.Given = "10:66:c6:12:00:0b", true }))
	ports := strings.Fields(w.output("host", `ip -o link show master br0 | sed 's/.*: \(ve[0-9]\)@.*/\1/'`))
	f.apply(guarded)
	want := w.everything()
	var changes <-chan struct{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.in("host", func() (err error) { changes, err = Watch(ctx, f.Tables()...); return err })
	repair := func(full bool) (restored []string) {
		w.in("host", func() (err error) {
			if full {
				restored, err = f.Repair(ctx)
			} else {
				restored, err = f.RepairBridge(ctx)
			}
			return err
		})
		return restored
	}
	if restored := repair(true); len(restored) > 0 {
		t.Errorf("nothing was changed, and it restored %v", restored)
	}
	if restored := repair(false); len(restored) > 0 {
		t.Errorf("nothing was changed, and it restored %v", restored)
	}
	for _, c := range []struct {
		harm  string
		table bool // the kernel tells of it
		named string
	}{
		{"nft flush ruleset", true, "the nftables table inet " + table + ", the nftables table inet " + table + "-flows"},
		{"nft delete table inet " + table, true, "the nftables table inet " + table},
		{"nft flush table inet " + table + "-flows", true, "the nftables table inet " + table + "-flows"},
		{"nft delete table inet " + table + "-flows", true, "the nftables table inet " + table + "-flows"},
		{"nft flush table inet " + table, true, "the nftables table inet " + table},
		{"nft delete table arp " + table, true, "the nftables table inet " + table},
		{"nft flush chain arp " + table + " hold", true, "the nftables table inet " + table},
		{"nft flush chain inet " + table + " hold", true, "the nftables table inet " + table},
		{"nft flush chain inet " + table + " forward", true, "the nftables table inet " + table},
		{"nft delete element inet " + table + " project4 '{ 198.18.0.10 }'", true, "the nftables table inet " + table},
		{"nft insert rule inet " + table + " forward accept", true, "the nftables table inet " + table},
		{"nft add element inet " + table + " published4 '{ 198.18.0.11 . tcp . 80 }'", true, "the nftables table inet " + table},
		{"echo 0 > /proc/sys/net/ipv4/conf/br0/proxy_arp_pvlan", false, "the setting ipv4/conf/br0/proxy_arp_pvlan"},
		{"echo 1 > /proc/sys/net/ipv4/conf/all/send_redirects", false, "the setting ipv4/conf/all/send_redirects"},
		{"echo 800 > /proc/sys/net/ipv4/neigh/br0/proxy_delay", false, "the setting ipv4/neigh/br0/proxy_delay"},
		{"echo 0 > /proc/sys/net/ipv6/conf/br0/proxy_ndp", false, "the setting ipv6/conf/br0/proxy_ndp"},
		{"echo 0 > /proc/sys/net/ipv6/conf/all/proxy_ndp", false, "the setting ipv6/conf/all/proxy_ndp"},
		{"ip -6 neigh del proxy fd00:18::10 dev br0", false, "neighbour proxies of 1 addresses"},
		{"ip -6 neigh flush proxy dev br0 2>/dev/null || for a in 10 11 20; do ip -6 neigh del proxy fd00:18::$a dev br0; done", false, "neighbour proxies of 3 addresses"},
	} {
		select {
		case <-changes: // of the repair before
		default:
		}
		w.sh("host", c.harm)
		if w.everything() == want {
			t.Fatalf("%s does no harm", c.harm)
		}
		if c.table {
			select {
			case <-changes:
			case <-time.After(5 * time.Second):
				t.Errorf("%s: nobody was told", c.harm)
			}
		}
		if restored := strings.Join(repair(c.table), ", "); restored != c.named {
			t.Errorf("%s: restored %q, want %q", c.harm, restored, c.named)
		}
		if now := w.everything(); now != want {
			t.Errorf("%s: not as before:\n%s\nwant\n%s", c.harm, now, want)
		}
	}
	isolated := func() (out map[string]bool) {
		w.in("host", func() (err error) { out, err = f.Ports(); return err })
		return out
	}
	if got := isolated(); len(got) != len(ports) || !got[ports[0]] {
		t.Errorf("ports %v, want %v", got, ports)
	}
	w.sh("host", "bridge link set dev "+ports[0]+" isolated off")
	if got := isolated(); got[ports[0]] || !got[ports[1]] {
		t.Errorf("%s is isolated no more: %v", ports[0], got)
	}
	w.in("host", func() error { return errors.Join(f.Isolate(ports[0]), f.Isolate("none")) })
	if got := isolated(); !got[ports[0]] {
		t.Errorf("%s is isolated: %v", ports[0], got)
	}
	// A table of somebody else is no news.
	for range 3 {
		select {
		case <-changes:
		case <-time.After(50 * time.Millisecond):
		}
	}
	w.sh("host", "nft add table inet other")
	select {
	case <-changes:
		t.Error("a change of another table was told")
	case <-time.After(200 * time.Millisecond):
	}
	w.in("host", func() error { return f.Remove(ctx) })
	if restored := repair(true); len(restored) > 0 {
		t.Errorf("after Remove it restored %v", restored)
	}
}

// TestS8RulesOfTheBridgeAreCounted: also where there are none.
func TestS8RulesOfTheBridgeAreCounted(t *testing.T) {
	w := newWorld(t)
	count := func() (out map[string]int) {
		w.in("host", func() (err error) { out, err = BridgeRules("incus"); return err })
		return out
	}
	if got := count(); len(got) > 0 {
		t.Errorf("without a table: %v", got)
	}
	w.sh("host", `nft 'table bridge incus { chain in.a.eth0 { type filter hook input priority 0; iifname ve1 drop; iifname ve2 drop; }; chain fwd.a.eth0 { }; }
		table bridge other { chain in.a.eth0 { iifname ve1 drop; }; }'`)
	if got := count(); got["in.a.eth0"] != 2 || got["fwd.a.eth0"] != 0 {
		t.Errorf("counted %v", got)
	}
	w.sh("host", "nft flush table bridge incus")
	if got := count(); got["in.a.eth0"] != 0 {
		t.Errorf("after a flush: %v", got)
	}
}
