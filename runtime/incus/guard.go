package incus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"

	"swage/runtime"
	"swage/runtime/firewall"
)

// guard keeps the host's firewall as the instances say. It is in force while
// this process has the lease: one that only looks changes nothing.
type guard struct {
	firewall firewall.Firewall
	away     bool // the daemon is on another host

	mu sync.Mutex
	on bool
	// elsewhere: the bridge is not on this host.
	elsewhere bool
	members   map[runtime.ID]firewall.Container
	asked     uint64 // how often enforcing was asked for

	one  sync.Mutex // who enforces
	done uint64     // what was asked up to here is enforced
}

// member is a container as the firewall knows it. Rules that cannot be read,
// because somebody wrote them by hand, let nothing through until they are put
// right.
func member(c runtime.Container, at addresses) firewall.Container {
	m := firewall.Container{
		Name: c.Ref(), Project: c.Project, Addr: at.addr, Addr6: at.addr6, More: at.more, MAC: at.mac, Given: at.given,
		Rules: c.Firewall, Publish: c.Publish,
	}
	for _, r := range c.Firewall {
		if !slices.Contains([]string{"allow", "reject", "drop"}, r.Action) {
			m.Rules = []runtime.Rule{{Direction: "ingress", Action: "drop"}, {Direction: "egress", Action: "drop"}}
		}
	}
	for _, p := range c.Publish {
		if p.Port == 0 {
			m.Publish = nil
		}
	}
	return m
}

// start puts the guard in force; the next Observe tells it of whom. Where the
// bridge is on another host, or in another network namespace, nobody here can
// guard it.
func (g *guard) start() {
	err := isBridge(g.firewall.Bridge)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.elsewhere = g.away || err != nil
	g.on = !g.elsewhere
}

// isBridge fails for a name that is no bridge of this host: settings and rules
// for another interface would be the host's own.
func isBridge(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil && link.Type() != "bridge" {
		err = fmt.Errorf("%s is no bridge", name)
	}
	return err
}

// listeners are the sockets of this host, if the bridge is here.
func (g *guard) listeners() ([]runtime.Listener, error) {
	if g.away || isBridge(g.firewall.Bridge) != nil {
		return nil, nil
	}
	return g.firewall.Listeners()
}

// stop leaves what is in force as it is.
func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.on = false
}

// replace guards exactly these. A port that two of them publish is the fault
// of the second, which its own step tells.
func (g *guard) replace(ctx context.Context, all map[runtime.ID]firewall.Container) error {
	g.mu.Lock()
	g.members = all
	g.mu.Unlock()
	err := g.enforce(ctx)
	if _, conflict := errors.AsType[*firewall.ConflictError](err); conflict {
		return nil
	}
	return err
}

// set guards one more, or one that changed, before it may be reached.
func (g *guard) set(ctx context.Context, id runtime.ID, m firewall.Container) error {
	g.mu.Lock()
	if g.members == nil {
		g.members = map[runtime.ID]firewall.Container{}
	}
	g.members[id] = m
	elsewhere := g.elsewhere
	g.mu.Unlock()
	if elsewhere && len(m.Rules)+len(m.Publish) > 0 {
		return fmt.Errorf("firewall and publish need the agent on the host of the bridge %s, and that is not here", g.firewall.Bridge)
	}
	return g.enforce(ctx)
}

// change guards one with other fields and the addresses that it has.
func (g *guard) change(ctx context.Context, c runtime.Container) error {
	g.mu.Lock()
	was, ok := g.members[c.ID]
	g.mu.Unlock()
	if !ok {
		return nil
	}
	return g.set(ctx, c.ID, member(c, addresses{was.Addr, was.Addr6, was.More, was.MAC, was.Given}))
}

// rename guards one that had another id.
func (g *guard) rename(ctx context.Context, old, id runtime.ID, m firewall.Container) error {
	g.mu.Lock()
	delete(g.members, old)
	g.mu.Unlock()
	return g.set(ctx, id, m)
}

// readdress guards one at other addresses.
func (g *guard) readdress(ctx context.Context, id runtime.ID, a attachment) error {
	g.mu.Lock()
	m, ok := g.members[id]
	g.mu.Unlock()
	if !ok {
		return nil
	}
	m.Addr, m.Addr6, m.MAC, m.Given = a.addr, a.addr6(), a.hwaddr(), true
	return g.set(ctx, id, m)
}

// found guards one at the addresses that it was seen with, which nobody chose
// for it. What is known already costs nothing.
func (g *guard) found(ctx context.Context, c runtime.Container, at addresses) error {
	if at.none() {
		return nil
	}
	g.mu.Lock()
	was, ok := g.members[c.ID]
	g.mu.Unlock()
	if ok && was.Addr == at.addr && was.Addr6 == at.addr6 && slices.Equal(was.More, at.more) {
		return nil
	}
	return g.set(ctx, c.ID, member(c, at))
}

// forget guards one no more.
func (g *guard) forget(ctx context.Context, id runtime.ID) error {
	g.mu.Lock()
	delete(g.members, id)
	g.mu.Unlock()
	return g.enforce(ctx)
}

// distinct lists the members in a fixed order, each address once: the first by
// ID keeps it, and the other keeps the addresses that are its own. An address
// that a member does not have is invalid, and nobody's.
func distinct(members map[runtime.ID]firewall.Container) []firewall.Container {
	var list []firewall.Container
	taken := map[netip.Addr]bool{}
	claim := func(addr netip.Addr) netip.Addr {
		if !addr.IsValid() || taken[addr] {
			return netip.Addr{}
		}
		taken[addr] = true
		return addr
	}
	for _, id := range slices.Sorted(maps.Keys(members)) {
		m := members[id]
		m.Addr, m.Addr6 = claim(m.Addr), claim(m.Addr6)
		var more []netip.Addr
		for _, addr := range m.More {
			if addr = claim(addr); addr.IsValid() {
				more = append(more, addr)
			}
		}
		m.More = more
		if m.Addr.IsValid() || m.Addr6.IsValid() || len(m.More) > 0 {
			list = append(list, m)
		}
	}
	return list
}

// enforce returns when what was asked for before is in force. Those who ask at
// the same time are served by one change.
func (g *guard) enforce(ctx context.Context) error {
	g.mu.Lock()
	g.asked++
	mine, on := g.asked, g.on
	g.mu.Unlock()
	if !on {
		return nil
	}
	g.one.Lock()
	defer g.one.Unlock()
	if g.done >= mine {
		return nil
	}
	g.mu.Lock()
	upTo := g.asked
	list := distinct(g.members)
	g.mu.Unlock()
	if err := g.firewall.Apply(ctx, list); err != nil {
		return err
	}
	g.done = upTo
	return nil
}
