package firewall

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swage/runtime"
)

var update = flag.Bool("update", false, "rewrite what is expected")

// TestScript compares with testdata/<name>.nft, which is there to be read.
func TestScript(t *testing.T) {
	plain := containers()
	all := []Container{
		container("shop/web",
			rules(
				runtime.Rule{Direction: "ingress", Action: "allow", Protocol: "tcp", DestinationPorts: []runtime.Ports{{From: 8000, To: 8100}, {From: 443, To: 443}, {From: 80, To: 80}, {From: 8050, To: 8200}}},
				runtime.Rule{Direction: "ingress", Action: "drop", Sources: prefixes("203.0.113.64/26", "203.0.113.70/32", "2001:db8:bad::/48")},
				runtime.Rule{Direction: "ingress", Action: "reject", Protocol: "icmp6", Sources: prefixes("::/0")},
				runtime.Rule{Direction: "egress", Action: "reject", Protocol: "udp", DestinationPorts: onPorts(53)},
				runtime.Rule{Direction: "egress", Action: "allow"},
				// The ends of no flow are of two families.
				runtime.Rule{Direction: "egress", Action: "drop", Sources: prefixes("198.18.0.0/15"), Destinations: prefixes("2001:db8::/32")},
			),
			published("0.0.0.0:8080", "tcp", 80), published("[2001:db8::1]:53", "udp", 53)),
		container("shop/db", func(c *Container) { c.MAC, c.Given = "10:66:c6:12:00:0b", true }),
		{Name: `odd "name"`, Project: "odd project", Addr: netip.MustParseAddr("198.18.0.30"), Publish: []runtime.Publish{
			{Listen: netip.MustParseAddrPort("203.0.113.1:8080"), Protocol: "tcp", Port: 1},
		}},
		{Name: "six/only", Project: "six", Addr6: netip.MustParseAddr("fd00:18::60"), Rules: []runtime.Rule{
			{Direction: "ingress", Action: "reject", Protocol: "tcp", SourcePorts: []runtime.Ports{{From: 1, To: 1023}}},
		}},
		{Name: "not/running", Project: "not"},
		{Name: "no project", Addr: netip.MustParseAddr("198.18.0.40")},
	}
	for name, in := range map[string][]Container{"none": nil, "plain": plain, "all": all} {
		t.Run(name, func(t *testing.T) {
			got := Script(table, bridge, in)
			slices.Reverse(in)
			if again := Script(table, bridge, in); again != got {
				t.Errorf("another order makes another script: %s", cmp.Diff(got, again))
			}
			file := "testdata/" + name + ".nft"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Error(cmp.Diff(string(want), got))
			}
			if nft, err := exec.LookPath("nft"); err == nil && os.Geteuid() == 0 {
				cmd := exec.Command(nft, "-c", "-f", "-")
				cmd.Stdin = strings.NewReader(got)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("nft does not take it: %v\n%s", err, out)
				}
			}
		})
	}
}
