package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"swage/reconcile"
	"swage/reconcile/api"
)

// stranger is a network namespace beside the lab's, with a way to the containers'
// own addresses, as a neighbour of the host has that was given a route.
type stranger struct {
	*site
	name string
}

func (s *site) stranger() stranger {
	s.Helper()
	v, lab := stranger{s, "v" + string(s.scope.Fleet[:8])}, s.labEnv("NETNS")
	s.command("ip", "netns", "add", v.name)
	s.Cleanup(func() { s.command("ip", "netns", "delete", v.name) })
	s.command("ip", "-n", v.name, "link", "add", "eth0", "type", "veth", "peer", "name", v.name, "netns", lab)
	s.command("ip", "-n", lab, "address", "add", "203.0.113.1/24", "dev", v.name)
	s.command("ip", "-n", lab, "address", "add", "2001:db8::1/64", "dev", v.name, "nodad")
	s.command("ip", "-n", lab, "link", "set", v.name, "up")
	s.command("ip", "-n", v.name, "address", "add", "203.0.113.2/24", "dev", "eth0")
	s.command("ip", "-n", v.name, "address", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
	s.command("ip", "-n", v.name, "link", "set", "eth0", "up")
	s.command("ip", "-n", v.name, "route", "add", "198.18.0.0/20", "via", "203.0.113.1")
	s.command("ip", "-n", v.name, "route", "add", "fd00:5a:6e::/64", "via", "2001:db8::1")
	return v
}

// reaches reports whether a container's address answers the stranger.
func (v stranger) reaches(address string) bool {
	from := "203.0.113.2"
	if strings.Contains(address, ":") {
		from = "2001:db8::2"
	}
	ctx, cancel := context.WithTimeout(v.Context(), 300*time.Millisecond)
	defer cancel()
	c, err := dialFrom(ctx, v.name, from, net.JoinHostPort(address, "80"))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// TestS7AdoptedWithoutIPv4: instances that have IPv6 only, or nothing, are taken
// over at once, guarded like all others, and served.
func TestS7AdoptedWithoutIPv4(t *testing.T) {
	s := newSite(t)
	v := s.stranger()
	s.start()
	const adopted = 3
	var file strings.Builder
	name := func(i int) string { return fmt.Sprintf("by-hand-%d-%s", i, s.scope.Fleet[:6]) }
	for i := range adopted + 1 {
		s.incus("launch", "--quiet", "tiny/1", name(i), "--config", "environment.N="+fmt.Sprint(i))
		t.Cleanup(func() { s.incus("delete", "--force", name(i)) })
		if i == adopted { // it hears no router
			s.inLab("sh", "-c", fmt.Sprintf("nsenter -t $(incus --project default list -f csv -c p ^%s$) -n ip -6 addr flush dev eth0", name(i)))
		}
		fmt.Fprintf(&file, "containers: app%[1]d: {adopt: \"default/%[2]s\", environment_vars: N: \"%[1]d\", ramdisk: false}\naliases: \"of-%[1]d\": container: \"app%[1]d\"\n", i, name(i))
	}
	address := func(i int) (out string) {
		s.eventually("it has an address", func() bool {
			out = strings.TrimSpace(s.incus("list", "--format=csv", "--columns=6", "^"+name(i)+"$"))
			out, _, _ = strings.Cut(out, " ")
			return out != ""
		})
		return out
	}
	var addresses []string
	for i := range adopted {
		addresses = append(addresses, address(i))
		s.eventually("it answers before it is adopted", func() bool { return v.reaches(addresses[i]) })
	}
	s.write("projects/web/app.cue", file.String())
	begun := time.Now()
	s.settled(s.push())
	t.Logf("adopted after %v", time.Since(begun).Round(time.Millisecond))
	for _, e := range s.status().Steps {
		if e.Error != "" {
			t.Errorf("step %s: %s", e.Step, e.Error)
		}
	}
	s.converged()
	for i, a := range addresses {
		if v.reaches(a) {
			t.Errorf("app%d answers a stranger at %s", i, a)
		}
		if got := s.container(fmt.Sprint("app", i)); got.Address != "" || got.IPv6 != a {
			t.Errorf("app%d is known at %q and %q, want %s", i, got.Address, got.IPv6, a)
		}
		s.eventually("the edge reaches it", s.answers(fmt.Sprint("of-", i), fmt.Sprintf(`"N":"%d"`, i)))
	}
}

// repaired counts the events that tell of something that was put back, or could
// not be.
func (s *site) repaired(text string) (n int) {
	s.Helper()
	err := api.Socket(s.path("sock")).Events(s.Context(), 0, false, func(e reconcile.Event) error {
		if e.Type == reconcile.HostRepaired && strings.Contains(e.Text, text) {
			n++
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// TestS8TheHostIsPutRight: whatever of the host is taken away behind the agent's
// back is as it was about a second later, with an event.
func TestS8TheHostIsPutRight(t *testing.T) {
	s := newSite(t)
	v := s.stranger()
	s.write("projects/web/app.cue", "containers: app: {}\ncontainers: other: {}\naliases: app: container: \"app\"\n")
	s.start()
	s.settled(s.push())
	s.converged()
	app := s.named("app")
	addr, addr6, port := s.container("app").Address, s.container("app").IPv6, app.Config["volatile.eth0.host_name"]
	lab := func(script string) string { return s.inLab("sh", "-c", script) }
	ours := "swage-" + string(s.scope.Fleet) + "-lab"
	rules := func() string {
		return lab("nft -s list table inet " + ours + " 2>&1 || true; nft list table bridge incus 2>&1 | grep '\"" + port + "\"' | sort || true")
	}
	transparent := func() string {
		return lab("nft list tables | grep swage-transparent || true; ip rule | grep 'iif incusbr0' || true; ip -6 rule | grep 'iif incusbr0'; ip route show table $(ip rule | grep 'iif incusbr0' | sed 's/.*lookup //') 2>&1 || true")
	}
	closed := func() string { return fmt.Sprint(v.reaches(addr), v.reaches(addr6)) }
	if closed() != "false false" {
		t.Fatal("a stranger reaches the container")
	}
	for _, c := range []struct {
		name, harm string
		state      func() string
		told       string
	}{
		{"all tables", "nft flush ruleset", rules, "table inet " + ours},
		{"our table", "nft delete table inet " + ours, rules, "table inet " + ours},
		{"the filters of Incus", "nft delete table bridge incus", rules, "filters of Incus that hold web/app"},
		{"the rules of these filters", "nft flush table bridge incus", rules, "filters of Incus that hold web/app"},
		{"what Incus is told of filters", "incus config device set --project " + app.Project + " " + app.Name + " eth0 security.mac_filtering=false security.ipv4_filtering=false", rules, "filters of Incus that hold web/app"},
		{"one word of it", "incus config device set --project " + app.Project + " " + app.Name + " eth0 security.ipv4_filtering=false", rules, "filters of Incus that hold web/app"},
		{"ARP", "echo 0 > /proc/sys/net/ipv4/conf/incusbr0/proxy_arp_pvlan", func() string { return lab("cat /proc/sys/net/ipv4/conf/incusbr0/proxy_arp_pvlan") }, "proxy_arp_pvlan"},
		{"redirects", "echo 1 > /proc/sys/net/ipv4/conf/incusbr0/send_redirects", func() string { return lab("cat /proc/sys/net/ipv4/conf/incusbr0/send_redirects") }, "incusbr0/send_redirects"},
		{"neighbour discovery", "ip -6 neigh del proxy " + addr6 + " dev incusbr0", func() string { return lab("ip -6 neigh show proxy dev incusbr0 | grep -w " + addr6 + " || true") }, "neighbour proxies"},
		{"isolation", "bridge link set dev " + port + " isolated off", func() string { return lab("bridge -d link show dev " + port + " | grep -o 'isolated o[a-z]*'") }, "isolation of the port of web/app"},
		{"the rule for transparent connections", "ip rule del pref 7", transparent, "routing rule for transparent"},
		{"the table for transparent connections", "nft delete table inet $(nft list tables | grep -o 'swage-transparent-[0-9a-f]*')", transparent, "table inet swage-transparent"},
	} {
		want, before := c.state(), s.repaired(c.told)
		lab(c.harm)
		begun := time.Now()
		// Once a minute the same is told, and the first one tells of all.
		s.eventually(c.name+" is as it was", func() bool { return c.state() == want })
		took := time.Since(begun).Round(time.Millisecond)
		s.eventually(c.name+" is told", func() bool { return s.repaired(c.told) > max(0, before-1) })
		t.Logf("%s: back after %v", c.name, took)
		if took > 5*time.Second { // about one, on a machine that has the time
			t.Errorf("%s was back after %v", c.name, took)
		}
		if got := closed(); got != "false false" {
			t.Errorf("%s: a stranger reaches the container: %s", c.name, got)
		}
	}
	if !s.answers("app", "")() {
		t.Error("the edge does not reach the container")
	}

	// A ramdisk that is gone is told, since nothing can bring back what the next
	// start would lose. The container has it meanwhile.
	lab("umount " + s.path("state/ramdisks/"+app.Config["user.swage.id"]))
	s.eventually("it is told", func() bool { return s.repaired("ramdisk of web/app") == 1 })

	// Who flushes in a loop does not make the agent spin, nor fill its journal.
	told, cpu := s.repaired(""), s.cpu()
	handle := func() (n int) {
		_, rest, _ := strings.Cut(lab("nft add table inet probe; nft -a list table inet probe; nft delete table inet probe"), "handle ")
		fmt.Sscan(rest, &n)
		return n
	}
	first, begun := handle(), time.Now()
	lab("for i in $(seq 150); do nft flush ruleset; sleep 0.02; done")
	loads, took := handle()-first-1, time.Since(begun)
	t.Logf("tables were loaded %d times in %v, with %v of CPU", loads, took, s.cpu()-cpu)
	if most := 30 + 18*int(took/time.Second); loads > most { // all of them together, three of the firewall, those of Incus too
		t.Errorf("tables were loaded %d times in %v", loads, took)
	}
	if more := s.repaired("") - told; more > 12 {
		t.Errorf("%d events more", more)
	}
	s.eventually("a stranger is shut out again", func() bool { return closed() == "false false" })
}

// cpu is what the agent and its children used.
func (s *site) cpu() time.Duration {
	used, _ := s.usage()
	return used
}
