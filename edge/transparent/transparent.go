// Package transparent opens TCP connections to the machines behind a bridge of
// this host from the addresses of others, so that a server there sees its true
// client in its socket.
//
// Such a connection needs two things of the kernel. A socket may be bound to an
// address that this host does not have (ip(7), IP_TRANSPARENT). And what the
// server answers, which is addressed to the client, must not be forwarded to
// the client but be taken in: packets that come from the bridge and belong to
// such a socket are marked by an nftables table of our own, a rule leads those
// with the mark to a routing table of our own, and the only route there says
// that every address is this host's.
//
// The rule is for packets from the bridge only. So reverse path filtering, which
// asks as if a packet came from this host, never meets it, and no setting of the
// kernel is changed.
package transparent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Path is the way back from the machines behind one bridge. Its zero value is
// no way: [Path.Obstacle] then always has a reason. Its methods may be called by
// several goroutines.
type Path struct {
	// OnRepair, if not nil, is told by [Path.Watch] of what it made again. It is
	// set before.
	OnRepair func(what string)

	mu     sync.Mutex
	bridge string // empty: not set up
	listed string // what nft printed right after the table was loaded
	whole  bool   // everything was there once

	view atomic.Pointer[view]
}

// Setup makes the way back for a bridge, and takes the one of another bridge
// away. It needs CAP_NET_ADMIN and the program nft. Done again it repairs what
// is missing, and changes nothing that is right. While there is no such bridge
// nothing is made; [Path.Watch] sees it come.
//
// An error leaves the Path with that reason as the obstacle for everybody.
func (p *Path) Setup(ctx context.Context, bridge string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bridge != "" && p.bridge != bridge {
		if err := p.close(ctx); err != nil {
			return err
		}
	}
	p.bridge, p.whole = bridge, false
	_, err := p.repair(ctx)
	return err
}

// repair makes what is missing and looks at the bridge again. It says what was
// missing of what was there before.
func (p *Path) repair(ctx context.Context) (made []string, err error) {
	v, err := look(p.bridge)
	if err == nil && v.why == "" {
		var routed, marked bool
		var failed error
		routed, err = ensureRoutes(p.bridge)
		marked, failed = p.ensureMarks(ctx)
		err = errors.Join(err, failed)
		if routed && p.whole {
			made = append(made, "the routing rule for transparent connections")
		}
		if marked && p.whole {
			made = append(made, "the nftables table inet "+tableName(p.bridge))
		}
		p.whole = err == nil
	}
	if err != nil {
		err = fmt.Errorf("transparent: %w", err)
		v = &view{why: err.Error()}
	}
	p.view.Store(v)
	return made, err
}

// Fault says why no client's address can be used; empty, those of which
// [Path.Obstacle] has no reason can.
func (p *Path) Fault() string {
	if v := p.view.Load(); v != nil {
		return v.why
	}
	return "not set up"
}

// Close takes away all that Setup made: rules and tables are as they were
// before. Connections that are open lose their way back. Closing what is not
// set up does nothing.
func (p *Path) Close(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.close(ctx)
}

func (p *Path) close(ctx context.Context) error {
	p.view.Store(nil)
	if p.bridge == "" {
		return nil
	}
	if err := errors.Join(removeMarks(ctx, p.bridge), removeRoutes(p.bridge)); err != nil {
		return fmt.Errorf("transparent: %w", err)
	}
	p.bridge, p.listed, p.whole = "", "", false
	return nil
}

// Obstacle says why a connection to target cannot come from the client's own
// address; empty, it can. It neither blocks nor allocates.
func (p *Path) Obstacle(client, target netip.Addr) string {
	v := p.view.Load()
	if v == nil {
		return "not set up"
	}
	return v.obstacle(client, target)
}

// view is what was last seen of the bridge. It is never written again.
type view struct {
	why string // nothing works; empty: it does

	prefixes []netip.Prefix // of the bridge: the host's address with its network
	// The machines behind the bridge reach each other through this host only,
	// over IPv4 and over IPv6: so what one answers to another comes by here.
	between4, between6 bool
}

func (v *view) obstacle(client, target netip.Addr) string {
	client, target = client.Unmap(), target.Unmap()
	switch {
	case v.why != "":
		return v.why
	case !client.IsValid(), client.IsUnspecified(), client.IsMulticast():
		return "the client has no address"
	case client.IsLoopback():
		return "the client is on this host"
	case client.IsLinkLocalUnicast():
		return "the client's address is of its own link"
	case client.Is4() != target.Is4():
		return "the client's address is of the other family"
	case client == target:
		return "the client is the container itself"
	case !v.holds(target):
		return "the container is not on the bridge"
	case v.isHost(client):
		return "" // answers come to this host anyway
	case v.holds(client) && (client.Is4() && !v.between4 || client.Is6() && !v.between6):
		return "containers of the bridge reach each other past this host"
	default:
		return ""
	}
}

func (v *view) holds(addr netip.Addr) bool {
	for _, p := range v.prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func (v *view) isHost(addr netip.Addr) bool {
	for _, p := range v.prefixes {
		if p.Addr() == addr {
			return true
		}
	}
	return false
}

// number tells bridges apart: paths of several may stand beside each other, and
// what a killed process left is found again.
func number(bridge string) int {
	hash := fnv.New32a()
	hash.Write([]byte(bridge))
	return int(hash.Sum32() & 0xffff)
}
