package firewall

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// maxFlows is how many flows that a container began the kernel may remember at
// once. Its table of flows (nf_conntrack_max) is the host's: who fills it stops
// everybody's connections, those of the edge too.
const maxFlows = 16_384

// flowsTable has the counters in a table of its own: the other one is made anew
// with each change, which would forget what was counted.
func (f *Firewall) flowsTable() string { return f.Table + "-flows" }

// flowsScript replaces everything in the table but the counters, as one
// transaction. A flow belongs to the MAC of the interface that it comes from,
// which a container cannot choose, so that other addresses do not help it.
func flowsScript(table, bridge string, macs []string, most int) string {
	s := &script{Builder: new(strings.Builder)}
	s.open("table inet %s", table)
	s.open("set macs")
	s.line("type ether_addr")
	s.close()
	s.open("set flows")
	s.line("type ether_addr")
	s.line("size 65535")
	s.line("flags dynamic")
	s.close()
	s.open("chain prerouting")
	s.line("type filter hook prerouting priority mangle; policy accept;")
	s.close()
	s.close()
	s.line("flush set inet %s macs", table)
	s.line("flush chain inet %s prerouting", table)
	s.open("table inet %s", table)
	s.set("macs", "ether_addr", macs)
	s.open("chain prerouting")
	s.line("iifname %q ether saddr @macs ct state new add @flows { ether saddr ct count over %d } drop", bridge, most)
	s.close()
	s.close()
	return s.String()
}

// boundFlows has the kernel count, and reports whether it did not, or not these.
// A kernel that cannot count (NFT_CONNLIMIT) is no reason not to guard; its
// error stands apart.
func (f *Firewall) boundFlows(ctx context.Context, containers []Container) (loaded bool, err error) {
	var macs []string
	for _, c := range containers {
		if c.MAC != "" {
			macs = append(macs, c.MAC)
		}
	}
	slices.Sort(macs)
	script := flowsScript(f.flowsTable(), f.Bridge, slices.Compact(macs), cmp.Or(f.most, maxFlows))
	if script == f.flows {
		if now, err := generation(); err == nil && now == f.flowsSeen {
			return false, nil
		}
		if listed, err := f.listFlows(ctx); err == nil && listed == f.flowsListed {
			f.flowsSeen, _ = generation()
			return false, nil
		}
	}
	f.flows = ""
	if err := nft(ctx, script); err != nil {
		return false, fmt.Errorf("bound the flows of containers: %w", err)
	}
	if f.flowsSeen, err = generation(); err != nil {
		return true, err
	}
	if f.flowsListed, err = f.listFlows(ctx); err != nil {
		return true, err
	}
	f.flows = script
	return true, nil
}

// listFlows prints the table without what is counted.
func (f *Firewall) listFlows(ctx context.Context) (string, error) {
	listed, err := command(ctx, "", "nft", "-s", "list", "table", "inet", f.flowsTable())
	before, rest, ok := strings.Cut(listed, "\tset flows {\n")
	if _, after, closed := strings.Cut(rest, "\n\t}\n"); ok && closed {
		return before + after, err
	}
	return listed, err
}
