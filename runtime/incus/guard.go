package incus

import (
	"context"
	"errors"
	"fmt"
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
func member(c runtime.Container, addr, addr6 netip.Addr) firewall.Container {
	m := firewall.Container{
		Name: c.Ref(), Project: c.Project, Addr: addr, Addr6: addr6,
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
	return g.set(ctx, c.ID, member(c, was.Addr, was.Addr6))
}

// rename guards one that had another id.
func (g *guard) rename(ctx context.Context, old, id runtime.ID, m firewall.Container) error {
	g.mu.Lock()
	delete(g.members, old)
	g.mu.Unlock()
	return g.set(ctx, id, m)
}

// readdress guards one at other addresses.
func (g *guard) readdress(ctx context.Context, id runtime.ID, addr, addr6 netip.Addr) error {
	g.mu.Lock()
	m, ok := g.members[id]
	g.mu.Unlock()
	if !ok {
		return nil
	}
	m.Addr, m.Addr6 = addr, addr6
	return g.set(ctx, id, m)
}

// forget guards one no more.
func (g *guard) forget(ctx context.Context, id runtime.ID) error {
	g.mu.Lock()
	delete(g.members, id)
	g.mu.Unlock()
	return g.enforce(ctx)
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
	var list []firewall.Container
	owner := map[netip.Addr]bool{} // two that have one address cannot both run
	for _, m := range g.members {
		if !owner[m.Addr] {
			list = append(list, m)
		}
		owner[m.Addr] = true
	}
	g.mu.Unlock()
	if err := g.firewall.Apply(ctx, list); err != nil {
		return err
	}
	g.done = upTo
	return nil
}
