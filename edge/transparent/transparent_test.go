package transparent_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"swage/edge/transparent"
)

// seenBy connects as a client and returns what address the server saw.
func seenBy(ctx context.Context, client, target string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := transparent.Dial(ctx, netip.MustParseAddr(client), netip.MustParseAddrPort(target))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	seen, err := io.ReadAll(c)
	return string(seen), err
}

func (w *world) sees(client, target string) {
	w.t.Helper()
	if got, err := seenBy(w.t.Context(), client, target); got != client || err != nil {
		w.t.Errorf("%s saw %q (%v), want %s", target, got, err, client)
	}
}

// lost says that no answer comes back.
func (w *world) lost(client, target string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 300*time.Millisecond)
	defer cancel()
	if got, err := seenBy(ctx, client, target); err == nil {
		w.t.Errorf("%s saw %q without a way back", target, got)
	}
}

const web, webIPv6 = web4 + ":80", "[" + web6 + "]:80"

func TestSeesTheClient(t *testing.T) {
	w := newWorld(t, 3)
	w.tellCaller("web")
	w.lost(clients4+"2", web) // or the test could not fail
	w.setup()
	for _, reversePath := range []string{"0", "1", "2"} {
		for _, byMark := range []string{"0", "1"} { // as wg-quick sets it
			w.sh("", "for i in all br0 up0; do echo "+reversePath+" > /proc/sys/net/ipv4/conf/$i/rp_filter; echo "+byMark+" > /proc/sys/net/ipv4/conf/$i/src_valid_mark; done")
			w.sees(clients4+"2", web)
			w.sees(clients6+"3", webIPv6)
		}
	}
	w.sees("192.0.2.77", web) // nobody here has it, nor a way to it
	w.sees(host4, web)
	w.sees(host6, webIPv6)
	w.sees("203.0.113.1", web) // another address of this host
}

// TestContainersCallEachOther: the caller is on the bridge itself.
func TestContainersCallEachOther(t *testing.T) {
	w := newWorld(t, 1)
	w.tellCaller("web")
	w.betweenContainers()
	p := w.setup()
	for _, pair := range [][2]string{{db4, web4}, {db6, web6}} {
		if why := p.Obstacle(netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])); why != "" {
			t.Errorf("%s to %s: %s", pair[0], pair[1], why)
		}
	}
	w.sees(db4, web)
	w.sees(db6, webIPv6)
}

func TestObstacles(t *testing.T) {
	w := newWorld(t, 1)
	for _, test := range []struct{ client, target, want string }{
		{clients4 + "2", web4, ""},
		{"::ffff:" + clients4 + "2", web4, ""},
		{clients6 + "2", web6, ""},
		{host4, web4, ""},
		{"127.0.0.1", web4, "on this host"},
		{"::1", web6, "on this host"},
		{"fe80::1", web6, "own link"},
		{"0.0.0.0", web4, "no address"},
		{clients6 + "2", web4, "other family"},
		{clients4 + "2", web6, "other family"},
		{web4, web4, "the container itself"},
		{clients4 + "2", "198.19.0.10", "not on the bridge"},
		{db4, web4, "past this host"}, // betweenContainers is off
		{db6, web6, "past this host"},
	} {
		p := w.setup()
		client, target := netip.MustParseAddr(test.client), netip.MustParseAddr(test.target)
		got := p.Obstacle(client, target)
		if got == "" != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s to %s: %q, want %q", test.client, test.target, got, test.want)
		}
		if n := testing.AllocsPerRun(100, func() { p.Obstacle(client, target) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
	var zero transparent.Path
	if zero.Obstacle(netip.MustParseAddr(clients4+"2"), netip.MustParseAddr(web4)) == "" {
		t.Error("the zero Path has no obstacle")
	}
}

// TestOneOpenPort: a port that is not isolated reaches others past the host.
func TestOneOpenPort(t *testing.T) {
	w := newWorld(t, 1)
	w.betweenContainers()
	w.sh("", "bridge link set dev db isolated off")
	p := w.setup()
	if p.Obstacle(netip.MustParseAddr(db4), netip.MustParseAddr(web4)) == "" {
		t.Error("containers reach each other past the host, and there is no obstacle")
	}
}

// TestBridgeComesLater: nothing is made before, and all after.
func TestBridgeComesLater(t *testing.T) {
	w := newWorld(t, 1)
	w.tellCaller("web")
	w.sh("", "ip link set br0 down; ip link set br0 name later up")
	const made = "nft list ruleset; ip rule; ip -6 rule"
	before := w.sh("", made)
	var p transparent.Path
	if err := p.Setup(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	client, target := netip.MustParseAddr(clients4+"2"), netip.MustParseAddr(web4)
	if got := p.Obstacle(client, target); got != "there is no bridge br0 here" || got != p.Fault() {
		t.Errorf("the obstacle is %q", got)
	}
	if now := w.sh("", made); now != before {
		t.Errorf("something was made:\n%s", cmp.Diff(before, now))
	}
	go p.Watch(t.Context(), func(error) {})
	w.sh("", "ip link set later down; ip link set later name br0 up; ip addr add fd00:18::1/64 dev br0 nodad")
	for begun := time.Now(); p.Obstacle(client, target) != "" && time.Since(begun) < patience; {
		time.Sleep(10 * time.Millisecond)
	}
	w.sees(clients4+"2", web)
	w.sees(clients6+"2", webIPv6)
	if why := p.Fault(); why != "" {
		t.Error(why)
	}
}

// TestLeavesNoTrace: rules, tables, routes and settings are byte by byte what
// they were, beside those of others too.
func TestLeavesNoTrace(t *testing.T) {
	w := newWorld(t, 1)
	w.tellCaller("web")
	for _, others := range []string{"", "docker.nft", "incus.nft", "firewalld.nft"} {
		t.Run(others, func(t *testing.T) {
			if others != "" {
				w.sh("", "nft -f testdata/"+others)
				defer w.sh("", "nft flush ruleset")
			}
			before := w.rules()
			var p transparent.Path
			for range 2 { // the second has nothing to do
				if err := p.Setup(t.Context(), bridge); err != nil {
					t.Fatal(err)
				}
			}
			during := w.rules()
			if during == before {
				t.Error("nothing was set up")
			}
			if !strings.Contains(during, strings.TrimSpace(firstTable(before))) {
				t.Errorf("the tables of others changed:\n%s", during)
			}
			w.sees(clients4+"2", web)
			w.sees(clients6+"2", webIPv6)
			if err := p.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after := w.rules(); after != before {
				t.Errorf("not as before:\n%s", cmp.Diff(before, after))
			}
			if err := p.Close(t.Context()); err != nil {
				t.Errorf("closed again: %v", err)
			}
		})
	}
}

// firstTable is the ruleset without the rest of rules.
func firstTable(rules string) string {
	tables, _, _ := strings.Cut(rules, "0:\tfrom all")
	return tables
}

// TestTakesUpWhatWasLeft: a killed process left its rules; the next one uses
// and removes them.
func TestTakesUpWhatWasLeft(t *testing.T) {
	w := newWorld(t, 1)
	before := w.rules()
	var killed, next transparent.Path
	if err := killed.Setup(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	during := w.rules()
	if err := next.Setup(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	if now := w.rules(); now != during {
		t.Errorf("set up twice:\n%s", cmp.Diff(during, now))
	}
	if err := next.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := w.rules(); after != before {
		t.Errorf("not as before:\n%s", cmp.Diff(before, after))
	}
}

// TestAnotherBridge: what was made for the first is taken away.
func TestAnotherBridge(t *testing.T) {
	w := newWorld(t, 1)
	p := w.setup()
	if err := p.Setup(t.Context(), "br1"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.rules(), `iifname "br0"`) {
		t.Error("the rules of the first bridge are still there")
	}
}

func TestRepairs(t *testing.T) {
	w := newWorld(t, 1)
	w.tellCaller("web")
	p := w.setup()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Watch(ctx, func(err error) { t.Log("told:", err) }) }()
	want := w.rules()
	for _, harm := range []string{
		"nft flush ruleset",
		"nft flush table inet $(nft list tables | grep swage | cut -d' ' -f3)",
		"ip rule flush; ip rule add from all lookup main pref 32766; ip rule add from all lookup default pref 32767",
		"ip -6 rule del pref 7",
		"ip route flush table $(ip rule | grep 'iif br0' | sed 's/.*lookup //')",
	} {
		w.sh("", harm)
		if w.rules() == want {
			t.Logf("%s: repaired before it was looked at", harm)
		}
		for begun := time.Now(); w.rules() != want; time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > patience {
				t.Fatalf("after %s:\n%s", harm, cmp.Diff(want, w.rules()))
			}
		}
		w.sees(clients4+"2", web)
		w.sees(clients6+"2", webIPv6)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestManyClients: many at once call one target and each is seen as itself.
func TestManyClients(t *testing.T) {
	w := newWorld(t, 1)
	w.tellCaller("web")
	w.setup()
	each := 5
	if os.Getenv("SWAGE_SOAK") != "" {
		each = 500
	}
	failed := make(chan error, 200)
	for i := range 100 {
		for _, pair := range [][2]string{{fmt.Sprint(clients4, i+100), web}, {fmt.Sprintf("%s%x", clients6, i+100), webIPv6}} {
			go func() {
				for range each {
					if got, err := seenBy(t.Context(), pair[0], pair[1]); got != pair[0] || err != nil {
						failed <- fmt.Errorf("%s saw %q (%w), want %s", pair[1], got, err, pair[0])
						return
					}
				}
				failed <- nil
			}()
		}
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// TestS9NoBridge [G8]: the name of a bridge is the repository's; nothing is set
// up for another interface of the host.
func TestS9NoBridge(t *testing.T) {
	var p transparent.Path
	if err := p.Setup(t.Context(), "lo"); err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	if got := p.Fault(); got != "lo is no bridge" {
		t.Errorf("%q", got)
	}
}
