package git

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Bounds on connections. The newest counts most among those that have not
// shown a key yet: honest ones pass within a second, so that who only holds
// the door makes room for them.
const (
	atTheDoor      = 32
	atTheDoorAlike = 4 // from one address, or one network of IPv6 (/64)
	insideAtOnce   = 32
	insideAlike    = 8
)

// door is who is at an SSH: strangers, and those inside, whose key is known.
type door struct {
	mu        sync.Mutex
	strangers []*guest // the oldest first
	inside    []*guest
}

type guest struct {
	conn net.Conn
	from netip.Prefix
}

// knock lets a stranger wait, in the place of an older one if there are too
// many.
func (d *door) knock(conn net.Conn) *guest {
	g := &guest{conn, network(conn.RemoteAddr())}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers = append(d.strangers, g)
	first := func(*guest) bool { return true }
	if count(d.strangers, g.alike) > atTheDoorAlike {
		first = g.alike
	} else if len(d.strangers) <= atTheDoor {
		return g
	}
	i := slices.IndexFunc(d.strangers, first)
	d.strangers[i].conn.Close()
	d.strangers = slices.Delete(d.strangers, i, i+1)
	return g
}

// enter lets in who has shown a key, unless too many are.
func (d *door) enter(g *guest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers = slices.DeleteFunc(d.strangers, g.is)
	if len(d.inside) >= insideAtOnce || count(d.inside, g.alike) >= insideAlike {
		return false
	}
	d.inside = append(d.inside, g)
	return true
}

func (d *door) leave(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers, d.inside = slices.DeleteFunc(d.strangers, g.is), slices.DeleteFunc(d.inside, g.is)
}

func (g *guest) is(other *guest) bool    { return g == other }
func (g *guest) alike(other *guest) bool { return g.from == other.from }

func count(all []*guest, is func(*guest) bool) (n int) {
	for _, g := range all {
		if is(g) {
			n++
		}
	}
	return n
}

// network is the address that somebody has, or of IPv6 the network, of which
// everybody has one at least.
func network(a net.Addr) netip.Prefix {
	at, _ := netip.ParseAddrPort(a.String()) // not of the internet: all alike
	addr := at.Addr().Unmap()
	p, _ := addr.Prefix(min(addr.BitLen(), 64))
	return p
}
