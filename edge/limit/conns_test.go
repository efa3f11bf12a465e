package limit

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// crowd is connections by name, of which those that were closed say so.
type crowd struct {
	*Conns
	closed []string
	of     map[string]*Conn
}

func newCrowd(caps Caps) *crowd { return &crowd{NewConns(caps, nil), nil, map[string]*Conn{}} }

func (c *crowd) come(name, from string) bool {
	e := c.Open(netip.MustParseAddr(from), func() { c.closed = append(c.closed, name) })
	if e != nil {
		c.of[name] = e
	}
	return e != nil
}

func (c *crowd) gone() string {
	out := strings.Join(c.closed, " ")
	c.closed = nil
	return out
}

func TestS4TheOldestIdleGoesFirst(t *testing.T) {
	caps := Caps{All: 100, Network: 6, Client: 3, Few: 100}
	for _, row := range []struct{ what, one, neighbour, far string }{
		{"IPv4", "192.0.2.1", "192.0.2.%d", "198.51.100.1"},
		{"IPv6", "2001:db8:1:1::%[1]x", "2001:db8:1:%x::1", "2001:db8:2::1"},
	} {
		t.Run(row.what, func(t *testing.T) {
			c := newCrowd(caps)
			one := func(i int) string {
				if strings.Contains(row.one, "%") {
					return fmt.Sprintf(row.one, i)
				}
				return row.one
			}
			for i := range 3 {
				c.come(fmt.Sprint(i), one(i))
			}
			if !c.come("3", one(3)) || c.gone() != "0" {
				t.Fatal("the oldest is not closed for the new one")
			}
			c.of["1"].Busy()
			c.of["2"].Busy()
			c.of["2"].Idle() // after 3 came
			if !c.come("4", one(4)) || c.gone() != "3" {
				t.Error("not the one that has been idle the longest")
			}
			c.of["2"].Busy()
			c.of["4"].Busy()
			if c.come("5", one(5)) || c.gone() != "" {
				t.Error("one more than may be, or a request is cut for it")
			}
			if !c.come("far", row.far) {
				t.Error("another client is refused")
			}
			c.of["1"].Idle() // was looked at while it was busy
			if !c.come("6", one(6)) || c.gone() != "1" {
				t.Error("what was busy once is never closed")
			}
			if c.of["1"].Busy() {
				t.Error("a request is served on what is being closed")
			}
			c.of["6"].Busy()
			// The network: three more, then its oldest idle one goes.
			for i := range 3 {
				c.come(fmt.Sprint("n", i), fmt.Sprintf(row.neighbour, 10+i))
			}
			if !c.come("n3", fmt.Sprintf(row.neighbour, 20)) || c.gone() != "n0" {
				t.Error("the network's oldest does not go")
			}
			for name := range c.of {
				c.of[name].Close()
			}
			if c.Counts().Open != 0 || len(c.clients)+len(c.networks) != 0 || c.all.idle.Len() != 0 {
				t.Errorf("%+v, %d clients, %d networks, %d idle", c.Counts(), len(c.clients), len(c.networks), c.all.idle.Len())
			}
		})
	}
}

// TestS4RoomForOthers: clients that keep all of their connections busy leave
// room for those that have few.
func TestS4RoomForOthers(t *testing.T) {
	c := newCrowd(Caps{All: 160, Network: 80, Client: 40, Few: 4})
	from := func(i int) string { return fmt.Sprintf("10.0.%d.1", i) }
	for i := range 5 {
		for k := range 50 {
			if name := fmt.Sprint(i, "-", k); c.come(name, from(i)) {
				c.of[name].Busy()
			}
		}
	}
	open := c.Counts().Open
	if open != 144 || c.gone() != "" {
		t.Fatalf("%d are open", open)
	}
	if !c.come("new", "192.0.2.1") {
		t.Fatal("who has none is refused")
	}
	for i := range 10 {
		c.come(fmt.Sprint("new", i), "192.0.2.1")
	}
	if n := c.clients[prefixesOf(netip.MustParseAddr("192.0.2.1")).client].n; n < 4 || n > 5 {
		t.Errorf("who has few has %d", n)
	}
	// Once one of the others is idle, it goes.
	c.gone()
	c.of["0-0"].Idle()
	for i := range 10 {
		c.of[fmt.Sprint("new", i)].Busy()
	}
	c.of["new"].Busy()
	if !c.come("more", "192.0.2.1") || c.gone() != "0-0" {
		t.Error("an idle one is not closed for a busy client")
	}
}

func TestS4Reserved(t *testing.T) {
	c := newCrowd(Caps{All: 80, Network: 80, Client: 80, Few: 80})
	addr := netip.MustParseAddr("192.0.2.1")
	var reserved []*Conn
	for e := c.Reserve(addr, 0); e != nil; e = c.Reserve(addr, 0) {
		reserved = append(reserved, e)
	}
	if len(reserved) != 10 || c.Opening() != 10 {
		t.Fatalf("%d are reserved, %d are opening", len(reserved), c.Opening())
	}
	reserved[0].Close()
	reserved[1].Opened(func() { c.closed = append(c.closed, "1") })
	for i := range 71 {
		c.come(fmt.Sprint("tcp", i), "192.0.2.2")
	}
	if got := c.gone(); c.Opening() != 8 || got != "" {
		t.Fatalf("%d are opening, closed %q", c.Opening(), got)
	}
	if !c.come("over", "192.0.2.2") || c.gone() != "1" {
		t.Error("what was reserved first is not closed first once it can be")
	}
	// What must linger after a request is not the first to go.
	e := c.Reserve(addr, time.Hour)
	e.Opened(func() { t.Error("closed while its answer is on its way") })
	e.Enter()
	e.Enter()
	e.Leave()
	e.Leave()
	if !c.come("again", "192.0.2.2") || !strings.HasPrefix(c.gone(), "tcp0") {
		t.Error("nothing else is closed")
	}
	var none *Conn
	none.Opened(nil)
	none.Close()
	if !none.Busy() || !none.Enter() || !none.Named(addr) {
		t.Error("who is not counted is refused")
	}
	none.Idle()
	none.Leave()
}

// late is a connection from a balancer.
type late struct {
	net.Conn
	addr net.Addr
}

func (l *late) LateAddr()            {}
func (l *late) RemoteAddr() net.Addr { return l.addr }

type listed chan net.Conn

func (l listed) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l listed) Close() error   { close(l); return nil }
func (l listed) Addr() net.Addr { return &net.TCPAddr{} }

// TestS4Balancer: what comes from a balancer counts for the client that it
// names, and not before it has named one.
func TestS4Balancer(t *testing.T) {
	conns := NewConns(Caps{All: 10, Network: 10, Client: 2, Few: 10}, nil)
	accepted := make(listed, 1)
	l := conns.Listen(accepted)
	defer l.Close()
	var far []net.Conn
	come := func(from string) net.Conn {
		a, b := net.Pipe()
		far = append(far, b)
		accepted <- &late{a, &net.TCPAddr{IP: net.ParseIP(from), Port: 1}}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	says := func(c net.Conn) error {
		go far[len(far)-1].Write([]byte("x"))
		_, err := c.Read(make([]byte, 1))
		return err
	}
	var all []net.Conn
	for i := range 4 {
		all = append(all, come("192.0.2.1"))
		if got := len(conns.clients); got != min(i, 1) {
			t.Fatalf("%d clients before it is named", got)
		}
		if err := says(all[i]); err != nil {
			t.Fatal(err)
		}
		Of(all[i]).Busy()
		if i == 1 {
			break
		}
	}
	third := come("192.0.2.1")
	if err := says(third); err == nil {
		t.Error("a third connection is read")
	}
	other := come("192.0.2.2")
	if err := says(other); err != nil {
		t.Errorf("another client of the same balancer: %v", err)
	}
	for _, c := range append(all, third, other) {
		_ = c.Close()
	}
	for _, c := range far {
		_ = c.Close()
	}
	if got := conns.Counts(); got != (Counts{Open: 0, Closed: 0, Refused: 1}) {
		t.Errorf("%+v", got)
	}
}

// TestS4ClosedOrServed: of a request and the end of its connection for another
// one comes first, never both, and nothing is lost from the queues.
func TestS4ClosedOrServed(t *testing.T) {
	const connections = 8
	conns := NewConns(Caps{All: connections, Network: connections, Client: connections, Few: connections}, nil)
	addr := netip.MustParseAddr("192.0.2.1")
	var before []*Conn
	for range connections { // so that the first to come find no room
		before = append(before, conns.Open(addr, func() {}))
	}
	var all sync.WaitGroup
	for range 4 * connections {
		all.Go(func() {
			for range 200 {
				e := conns.Open(addr, func() {})
				for range 20 {
					if e == nil || !e.Busy() {
						break
					}
					if e.state.Load() != 1 {
						t.Error("closed while it is busy")
					}
					e.Idle()
					runtime.Gosched()
				}
				e.Close()
			}
		})
	}
	all.Wait()
	for _, e := range before {
		e.Close()
	}
	if c := conns.Counts(); c.Open != 0 || conns.all.idle.Len() != 0 || len(conns.clients) != 0 || c.Closed == 0 {
		t.Errorf("%+v, %d idle", c, conns.all.idle.Len())
	}
	// All that are idle can still be closed.
	for range connections {
		conns.Open(addr, func() {})
	}
	if conns.Open(addr, func() {}) == nil {
		t.Error("nothing can be closed any more")
	}
}

func TestS4Caps(t *testing.T) {
	const gib = 1 << 30
	for _, row := range []struct {
		files, memory uint64
		all           int
	}{
		{0, gib, 128},
		{512, gib, 128},
		{1024, gib, 256},
		{20000, 64 * gib, 9744},
		{524288, gib, 4096},
		{524288, 8 * gib, 32768},
		{1 << 40, 1 << 50, 1 << 20},
	} {
		c := CapsFor(row.files, row.memory)
		if c.All != row.all || c.Network != row.all/2 || c.Client != row.all/4 {
			t.Errorf("%+v: %+v", row, c)
		}
	}
	if c := DefaultCaps(1 << 30); c.All < 128 || c.All > 1<<30/4/connMemory {
		t.Errorf("here they are %+v", c)
	}
}

// TestS4LogIsBounded: however many are refused, there is one line in ten
// seconds.
func TestS4LogIsBounded(t *testing.T) {
	var log bytes.Buffer
	c := NewConns(Caps{All: 2, Network: 2, Client: 2, Few: 2}, slog.New(slog.NewTextHandler(&log, nil)))
	for range 1000 {
		c.Open(netip.MustParseAddr("192.0.2.1"), func() {})
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines\n%s", n, log.String())
	}
	c.told = c.told.Add(-tellEvery)
	c.Open(netip.MustParseAddr("192.0.2.1"), func() {})
	if !strings.Contains(log.String(), "closed_idle=998") {
		t.Errorf("%s", log.String())
	}
}
