// Package firewall guards the containers of one scope with one nftables table
// of its own (and one of the family arp, for ARP), and opens the ports of the host that they publish.
//
// What is forwarded to a container passes when
//
//   - it belongs to a flow that the container itself began,
//   - it comes from a container of the same project,
//   - it came through a published port, or
//   - an ingress rule allows it.
//
// All else that is forwarded to a container is dropped. The host reaches every
// container. Containers reach everything.
//
// On top of that stand a container's rules. Their order means nothing: drop
// wins over reject, reject over allow. With at least one rule that allows
// ingress, ingress that none allows is dropped, be it from the same project or
// through a published port; with at least one that allows egress, egress that
// none allows is rejected. An ingress rule also judges connections that this
// host opens in the name of somebody else (see ip(7), IP_TRANSPARENT), but not
// those it opens in its own. An egress rule also judges what is sent to this
// host, where DHCP and DNS stay open unless a rule refuses their very port.
//
// A verdict is about a flow and is asked for at each packet of either
// direction. So a flow ends when the rules that let it in are gone, whoever
// sends next.
//
// Other tables are never touched. A packet must pass all tables: what a
// `policy drop` elsewhere refuses cannot be let in from here. Nor can a
// container reach a published port of its own bridge by the host's address
// where bridged packets are shown to tables such as this one (the settings
// net.bridge.bridge-nf-call-*): the kernel then leads the packet from port to
// isolated port, past the host.
package firewall

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"swage/runtime"
)

// Container is what the firewall must know of a container that has an address.
//
// It must have no other: what it sends and receives at an address that is not
// listed is not judged. One whose addresses are given is held to them here, and
// so is everybody else on the bridge not to use them. That goes by its MAC, to
// which whoever makes its interface must hold it (in Incus
// security.mac_filtering). It should not choose addresses by itself (the sysctl
// net.ipv6.conf.<interface>.autoconf): what it sends from those is dropped.
type Container struct {
	Name    string         // project/name, for people who read the table
	Project string         // containers of one project reach each other
	Addr    netip.Addr     // invalid: none
	Addr6   netip.Addr     // invalid: none
	More    []netip.Addr   // that it has beside them, of either family
	MAC     string         // of its interface; empty: its flows are not counted
	Given   bool           // its addresses, to this MAC: it may use no others, and nobody else may use them
	Rules   []runtime.Rule // all that are given are in force
	Publish []runtime.Publish
}

// Firewall is the table of one scope. Its methods may be called by several
// goroutines.
type Firewall struct {
	// Table is the table's name, unlike that of any other scope of the host:
	// letters, digits, '-', '_' and '.', a letter first.
	Table string
	// Bridge is the interface that the containers are attached to.
	Bridge string

	mu      sync.Mutex
	made    bool        // by Apply, and not removed
	all     []Container // of the last Apply, in order
	script  string      // that was last loaded; empty: none yet
	listed  string      // what nft printed right after
	proxied []string    // addresses that the host was made to answer for; nil: not known
	// The same of the table that counts flows, of which a container may have so
	// many; 0: maxFlows.
	most               int
	flows, flowsListed string
	flowsSeen          uint32
	seen               uint32 // generation of all tables at which ours was as listed
}

// Tables are the names of all that Apply makes.
func (f *Firewall) Tables() []string { return []string{f.Table, f.flowsTable()} }

// Apply makes the host guard exactly these containers. The change is atomic:
// no packet meets a half of it. When the table is as the last Apply left it,
// it is only read; a table that somebody changed or flushed is loaded again.
//
// A container must be among them before it starts, or it stands open until it
// is. Of two that publish the same port the first in order has it, and the
// error says so; all else is in force then.
func (f *Firewall) Apply(ctx context.Context, containers []Container) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	containers, conflict, err := sorted(containers)
	if err != nil {
		return err
	}
	f.made, f.all = true, containers
	_, _, err = f.restore(ctx)
	return errors.Join(err, conflict)
}

// Repair makes again what somebody took away since the last Apply, and names it.
// Without news of a change of the table [Firewall.RepairBridge] is enough.
func (f *Firewall) Repair(ctx context.Context) (restored []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.made {
		return nil, nil
	}
	restored, unbound, err := f.restore(ctx)
	return restored, errors.Join(err, unbound)
}

// RepairBridge is Repair for what the kernel tells nobody of: the settings of
// the bridge, and what it answers for. It costs a few reads.
func (f *Firewall) RepairBridge(ctx context.Context) (restored []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.made {
		return nil, nil
	}
	return f.prepareBridge(ctx, f.all)
}

// restore reports apart what a host may lack and containers be guarded without.
func (f *Firewall) restore(ctx context.Context) (restored []string, unbound, err error) {
	// The table first: it guards even where the bridge is not as it should be.
	loaded, err := f.load(ctx, Script(f.Table, f.Bridge, f.all))
	if err != nil {
		return nil, nil, err
	}
	if loaded {
		restored = append(restored, "the nftables table inet "+f.Table)
		err = forgetFlows(f.all)
	}
	counted := f.flows != ""
	if loaded, unbound = f.boundFlows(ctx, f.all); loaded && counted && unbound == nil {
		restored = append(restored, "the nftables table inet "+f.flowsTable())
	}
	bridge, failed := f.prepareBridge(ctx, f.all)
	return append(restored, bridge...), unbound, errors.Join(err, failed)
}

// load makes the kernel have the script's table, if it has another.
func (f *Firewall) load(ctx context.Context, script string) (loaded bool, err error) {
	if script == f.script && f.stands(ctx) {
		return false, nil
	}
	f.script = ""
	if err := nft(ctx, script); err != nil {
		return false, err
	}
	// Asked for before the table is listed: what changes in between is then
	// seen as a change.
	if f.seen, err = generation(); err != nil {
		return true, err
	}
	if f.listed, err = f.list(ctx); err != nil {
		return true, err
	}
	f.script = script
	return true, nil
}

// stands reports whether the table is as it was right after it was loaded. A
// table that cannot be read is not.
func (f *Firewall) stands(ctx context.Context) bool {
	now, err := generation()
	if err != nil || now == f.seen {
		return err == nil
	}
	listed, err := f.list(ctx)
	if err != nil || listed != f.listed {
		return false
	}
	f.seen = now
	return true
}

// Remove takes away all that Apply made, except for settings of the bridge:
// another scope may need them.
func (f *Firewall) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script, f.made, f.all = "", false, nil
	if _, err := f.proxyNeighbours(ctx, nil); err != nil {
		return err
	}
	// The first of two lines makes the second succeed when there is no table.
	f.flows = ""
	var script string
	for _, table := range []string{"inet " + f.Table, "inet " + f.flowsTable(), "arp " + f.Table} {
		script += "table " + table + "\ndelete table " + table + "\n"
	}
	return nft(ctx, script)
}
