package edge

import (
	"hash/maphash"
	"net/netip"
	"sync"
)

// Limits bound what is passed on at the same time, so that neither one client
// nor one container takes up the whole edge. What is over a limit is answered
// 503 at once. Tunnels (WebSockets) last, and cost little while they are silent:
// they have limits of their own.
//
// A client is an address of IPv4, or a /64 of IPv6, which is what one
// subscriber has.
type Limits struct {
	ClientRequests, ClientTunnels       int
	ContainerRequests, ContainerTunnels int
}

// defaultLimits leave room for a company behind one address.
var defaultLimits = Limits{
	ClientRequests: 1_000, ClientTunnels: 10_000,
	ContainerRequests: 4_000, ContainerTunnels: 40_000,
}

// load counts what is being passed on. It holds no more than that: a counter
// goes when it is zero.
type load struct {
	limits     Limits
	seed       maphash.Seed
	clients    [64]counters[netip.Addr]
	containers [64]counters[string]
}

// counters is one part of many, each with a lock of its own.
type counters[K comparable] struct {
	mu sync.Mutex
	n  map[K]*[2]int // requests and tunnels
	_  [40]byte      // keeps neighbours out of this one's cache line
}

func (l *load) init(limits Limits) {
	l.limits, l.seed = limits, maphash.MakeSeed()
	for i := range l.clients {
		l.clients[i].n = make(map[netip.Addr]*[2]int)
		l.containers[i].n = make(map[string]*[2]int)
	}
}

// take counts one more, unless that were too many.
func (c *counters[K]) take(key K, kind, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n[key]
	if n == nil {
		n = new([2]int)
		c.n[key] = n
	}
	if n[kind] >= limit {
		return false
	}
	n[kind]++
	return true
}

func (c *counters[K]) give(key K, kind int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n[key]
	if n[kind]--; *n == [2]int{} {
		delete(c.n, key)
	}
}

// subscriber is what counts as one client.
func subscriber(client netip.Addr) netip.Addr {
	if client.Is6() {
		p, _ := client.Prefix(64)
		return p.Addr()
	}
	return client
}

const (
	aRequest = iota
	aTunnel
)

// enter counts a request that is to be passed on. If it reports true, leave must
// be called once.
func (l *load) enter(x *exchange) bool {
	ofClient, ofContainer := l.limits.ClientRequests, l.limits.ContainerRequests
	if x.kind == aTunnel {
		ofClient, ofContainer = l.limits.ClientTunnels, l.limits.ContainerTunnels
	}
	client, id := subscriber(x.request.Client), x.decision.Route.ContainerID
	if !l.client(client).take(client, x.kind, ofClient) {
		return false
	}
	if !l.container(id).take(id, x.kind, ofContainer) {
		l.client(client).give(client, x.kind)
		return false
	}
	x.counted = true
	return true
}

// leave counts a request off; one that was not counted is not.
func (l *load) leave(x *exchange) {
	if !x.counted {
		return
	}
	x.counted = false
	client, id := subscriber(x.request.Client), x.decision.Route.ContainerID
	l.client(client).give(client, x.kind)
	l.container(id).give(id, x.kind)
}

func (l *load) client(addr netip.Addr) *counters[netip.Addr] {
	return &l.clients[maphash.Comparable(l.seed, addr)%uint64(len(l.clients))]
}

func (l *load) container(id string) *counters[string] {
	return &l.containers[maphash.String(l.seed, id)%uint64(len(l.containers))]
}
