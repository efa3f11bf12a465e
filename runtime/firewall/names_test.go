package firewall

import (
	"net/netip"
	"strings"
	"testing"
)

// TestS9NamesInRules [G8]: a name that gets here whole, however hostile, begins
// no statement of a script for nft.
func TestS9NamesInRules(t *testing.T) {
	plain := func(name, project string) int {
		return strings.Count(Script("swage-t", "br0", []Container{{Name: name, Project: project, Addr: netip.MustParseAddr("10.0.0.2")}}), "\n")
	}
	want := plain("shop/web", "shop")
	for _, hostile := range []string{
		`x" ; flush ruleset ; #`, "x\nflush ruleset\n", "x }\n flush ruleset", `x\" ; flush ruleset`, "x; flush ruleset", "$x", "\x00flush ruleset", strings.Repeat(`"`, 300), "flush ruleset\r",
	} {
		for _, c := range []Container{{Name: hostile, Project: "shop"}, {Name: "shop/web", Project: hostile}} {
			if got := plain(c.Name, c.Project); got != want {
				t.Errorf("%q in %q makes %d lines, want %d", c.Name, c.Project, got, want)
			}
			c.Addr = netip.MustParseAddr("10.0.0.2")
			for line := range strings.Lines(Script("swage-t", "br0", []Container{c})) {
				outside := ""
				for i, part := range strings.Split(line, `"`) {
					if i%2 == 0 {
						outside += part
					}
				}
				if strings.Contains(outside, "flush") || strings.Count(line, `"`)%2 != 0 {
					t.Errorf("%q in %q: %s", c.Name, c.Project, line)
				}
			}
		}
	}
}
