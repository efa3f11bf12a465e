package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"swage/runtime"
)

// output is what a command prints at somebody's place.
func (w *world) output(name, script string) string {
	w.t.Helper()
	var text string
	w.in(name, func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		text = string(out)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return text
}

// handle is the kernel's number of the table: a new one for each load.
func (w *world) handle() string {
	_, rest, _ := strings.Cut(w.output("host", "nft -a list table inet "+table+" | head -1"), "handle ")
	return strings.TrimSpace(rest)
}

// TestApplyRepairs: the table is loaded when, and only when, it is not as it
// should be.
func TestApplyRepairs(t *testing.T) {
	w := newWorld(t)
	const others = `nft 'table inet other { chain c { type filter hook forward priority 0; policy accept; tcp dport 1 drop; }; }'`
	w.sh("host", others)
	f := w.firewall()
	guarded := containers(container("shop/web", published("0.0.0.0:8080", "tcp", 80)))
	f.apply(guarded)
	first := w.handle()
	f.apply(guarded)
	if now := w.handle(); now != first {
		t.Errorf("nothing changed and the table was loaded again: handle %s, before %s", now, first)
	}
	w.sh("host", "nft add table inet another")
	f.apply(guarded)
	if w.handle() != first {
		t.Error("a change elsewhere was taken for one of ours")
	}
	guarded[0], guarded[2] = guarded[2], guarded[0]
	f.apply(guarded)
	if now := w.handle(); now != first {
		t.Error("another order of the same containers was loaded again")
	}
	closed := []attempt{
		{"outside", "tcp", "shop/web:80", "silent"},
		{"outside", "tcp", "203.0.113.1:8080", "open"},
	}
	w.try(t, closed)

	for _, damage := range []string{
		"nft flush ruleset",
		"nft delete table inet " + table,
		"nft flush table inet " + table,
		"nft flush chain inet " + table + " forward",
		"nft delete element inet " + table + " project4 '{ 198.18.0.10 }'",
		"nft insert rule inet " + table + " forward accept",
	} {
		w.sh("host", damage)
		w.try(t, []attempt{{"outside", "tcp", "shop/web:80", "open"}})
		f.apply(guarded)
		w.try(t, closed)
		if t.Failed() {
			t.Fatalf("after: %s", damage)
		}
	}

	w.sh("host", others)
	theirs := w.output("host", "nft -a list table inet other")
	// A process that starts knows nothing of what an older one loaded.
	before := w.handle()
	f = w.firewall()
	f.apply(guarded)
	if w.handle() == before {
		t.Error("a new Firewall did not load its table")
	}
	w.try(t, closed)

	// What a container had goes with it.
	f.apply(containers()[1:])
	if left := w.output("host", "nft list ruleset; ip -6 neigh show proxy"); strings.Contains(left, "198.18.0.10") || strings.Contains(left, "fd00:18::10") || strings.Contains(left, "8080") {
		t.Errorf("a container that is gone left something:\n%s", left)
	}
	f.apply(nil)
	if left := w.output("host", "nft list ruleset; ip -6 neigh show proxy"); strings.Contains(left, "198.18.0.") || strings.Contains(left, "proxy") {
		t.Errorf("containers that are gone left something:\n%s", left)
	}
	w.in("host", func() error { return f.Remove(context.Background()) })
	w.in("host", func() error { return f.Remove(context.Background()) })
	if tables := w.output("host", "nft list tables"); strings.Contains(tables, table) {
		t.Errorf("Remove left %s", tables)
	}
	if now := w.output("host", "nft -a list table inet other"); now != theirs {
		t.Errorf("the table of somebody else has changed:\n%s", now)
	}
}

// TestTwoScopes: each has its table on the same bridge and neither disturbs
// the other.
func TestTwoScopes(t *testing.T) {
	w := newWorld(t)
	one, two := w.firewall(), w.firewall()
	two.Table = "swage-other"
	one.apply([]Container{container("shop/web"), container("shop/db")})
	two.apply([]Container{container("blog/mail", rules(runtime.Rule{Direction: "egress", Action: "drop", Protocol: "tcp", DestinationPorts: onPorts(81)}))})
	one.apply([]Container{container("shop/web"), container("shop/db")})
	w.try(t, []attempt{
		{"shop/web", "tcp6", "shop/db:80", "open"},
		{"blog/mail", "tcp", "shop/db:80", "silent"},
		{"outside", "tcp", "blog/mail:80", "silent"},
		{"blog/mail", "tcp", "outside:81", "silent"},
	})
	w.in("host", func() error { return two.Remove(context.Background()) })
	w.try(t, []attempt{
		{"shop/web", "tcp6", "shop/db:80", "open"},
		{"outside", "tcp", "shop/web:80", "silent"},
		{"outside", "tcp", "blog/mail:80", "open"},
	})
}

// TestRefusedByAnother: nothing here can let in what another table drops.
func TestRefusedByAnother(t *testing.T) {
	w := newWorld(t)
	w.firewall().apply(containers(container("shop/web", published("0.0.0.0:8080", "tcp", 80))))
	w.sh("host", `nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'`)
	w.try(t, []attempt{{"outside", "tcp", "203.0.113.1:8080", "silent"}})
}

// TestNeighboursOfIPv6: the host answers for containers without hindering
// them from taking and keeping their addresses.
func TestNeighboursOfIPv6(t *testing.T) {
	w := newWorld(t)
	w.firewall().apply(containers())
	// A container that starts again asks whether its address is free.
	w.sh("shop/web", "ip addr del fd00:18::10/64 dev eth0; ip addr add fd00:18::10/64 dev eth0")
	w.sh("shop/web", `for i in $(seq 50); do ip -6 addr show dev eth0 tentative | grep -q inet6 || break; sleep 0.1; done`)
	if state := w.output("shop/web", "ip -6 addr show dev eth0"); strings.Contains(state, "dadfailed") {
		t.Fatalf("the address is taken for a duplicate:\n%s", state)
	}
	w.sh("shop/web", "ip route replace default via fd00:18::1")
	w.try(t, []attempt{{"shop/db", "tcp6", "shop/web:80", "open"}, {"host", "tcp6", "shop/web:80", "open"}})
	// An old acquaintance is asked again at its own address, not by multicast.
	w.sh("shop/db", "ip -6 neigh change fd00:18::10 dev eth0 nud probe")
	time.Sleep(100 * time.Millisecond)
	if state := w.output("shop/db", "ip -6 neigh show fd00:18::10 dev eth0"); !strings.Contains(state, "REACHABLE") {
		t.Errorf("the host did not answer for shop/web: %s", state)
	}
}

// TestMissingProgram: the error says what to install.
func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := nft(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "install the package nftables") {
		t.Errorf("without nft: %v", err)
	}
}

// TestWhatCannotBe: what is impossible is an error that names it.
func TestWhatCannotBe(t *testing.T) {
	web, db := container("shop/web", published("0.0.0.0:80", "tcp", 1)), container("shop/db", published("[::]:80", "tcp", 2))
	script := Script(table, bridge, []Container{web, db})
	if !strings.Contains(script, "tcp . 80 : 198.18.0.11 . 2") || strings.Contains(script, "198.18.0.10 . 1") {
		t.Errorf("the first in order did not get the port:\n%s", script)
	}
	if _, conflict, err := sorted([]Container{web, db}); err != nil || conflict == nil || conflict.Error() != "publish 0.0.0.0:80/tcp of shop/web: shop/db has it" {
		t.Errorf("one port twice: %v, %v", conflict, err)
	}
	db.Addr = web.Addr
	if _, _, err := sorted([]Container{web, db}); err == nil || err.Error() != "firewall: shop/db and shop/web have the same address 198.18.0.10" {
		t.Errorf("one address twice: %v", err)
	}
	db.Addr = web.Addr6
	if _, _, err := sorted([]Container{db}); err == nil {
		t.Error("an IPv6 address was taken for an IPv4 one")
	}
	for _, r := range []runtime.Rule{
		{Direction: "ingress", Action: "allow", Protocol: "sctp"},
		{Direction: "ingress", Action: "accept"},
		{Direction: "in", Action: "allow"},
		{Direction: "ingress", Action: "allow", DestinationPorts: onPorts(80)},
	} {
		if _, _, err := sorted([]Container{container("shop/web", rules(r))}); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

// many are containers of projects of ten, one in ten with rules and a
// published port.
func many(n int) (out []Container) {
	addr, addr6 := netip.MustParseAddr("198.18.0.10"), netip.MustParseAddr("fd00:18::10")
	for i := range n {
		c := Container{Name: fmt.Sprintf("p%d/c%d", i/10, i), Project: fmt.Sprintf("p%d", i/10), Addr: addr, Addr6: addr6}
		if i%10 == 0 {
			rules(
				runtime.Rule{Direction: "ingress", Action: "allow", Protocol: "tcp", DestinationPorts: onPorts(22, 80, 443)},
				runtime.Rule{Direction: "ingress", Action: "drop", Sources: prefixes("203.0.113.0/25", "2001:db8:1::/48")},
				runtime.Rule{Direction: "egress", Action: "reject", Protocol: "tcp", DestinationPorts: onPorts(25)},
			)(&c)
			published(fmt.Sprintf("0.0.0.0:%d", 10000+i), "tcp", 22)(&c)
		}
		out = append(out, c)
		addr, addr6 = addr.Next(), addr6.Next()
	}
	return out
}

// TestThousand loads a large host and says what it costs.
func TestThousand(t *testing.T) {
	w := newWorld(t)
	f := w.firewall()
	all := many(1000)
	for _, what := range []string{"first", "unchanged", "one more"} {
		if what == "one more" {
			all = many(1001)
		}
		start := time.Now()
		f.apply(all)
		t.Logf("%s: %v", what, time.Since(start).Round(time.Millisecond))
	}
	w.try(t, []attempt{{"outside", "tcp", "shop/db:5432", "silent"}, {"shop/db", "tcp", "shop/web:80", "open"}})
}

// BenchmarkScript makes the text for 1,000 containers.
func BenchmarkScript(b *testing.B) {
	all := many(1000)
	for b.Loop() {
		Script(table, bridge, all)
	}
}
