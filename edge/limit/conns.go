package limit

import (
	"container/list"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Caps bound the connections that are open at the same time.
//
// At a cap the connection that has been idle the longest, of those that count
// towards it, is closed for the new one. One that carries a request is never
// closed for that: if all do, the new one is refused.
type Caps struct {
	All     int // of everybody
	Network int // of one /24 of IPv4 or /48 of IPv6
	Client  int // of one address of IPv4 or /64 of IPv6

	// Few connections of a client may always be opened while there is room.
	// Once seven eighths of All are open, whoever has that many gets another
	// only in the place of the oldest idle one.
	Few int
}

const (
	// spareFiles are the descriptors that no client's connection may take:
	// listeners, the runtime's socket, git, the files of the agent.
	spareFiles = 512

	// connMemory is what an idle connection over TLS takes at most.
	connMemory = 64 << 10
)

// CapsFor are the caps of a process that may open so many files and has so many
// bytes of memory. A request takes a second descriptor for the container, so All
// is half of what is left of the files, or what fits into a quarter of the
// memory if that is less; a network has half of it, a client a quarter.
func CapsFor(files, memory uint64) Caps {
	all := 128
	if files > spareFiles {
		all = max(all, int(min((files-spareFiles)/2, memory/4/connMemory, 1<<20)))
	}
	return Caps{All: all, Network: all / 2, Client: all / 4, Few: 16}
}

// DefaultCaps are those for this process's limit of open files (RLIMIT_NOFILE)
// and for the memory, in bytes, that it may use. 0 is that of the machine.
func DefaultCaps(memory uint64) Caps {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		if all := uint64(info.Totalram) * uint64(info.Unit); memory == 0 || all < memory {
			memory = all
		}
	}
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // without it the least
	return CapsFor(files.Cur, memory)
}

// Memory is what connections may take of memory together, in bytes, if [CapsFor]
// chose the caps.
func (c *Conns) Memory() int64 { return int64(c.caps.All) * connMemory }

// tellEvery is how often the log hears of connections that were closed or
// refused.
const tellEvery = 10 * time.Second

// Conns counts connections and holds them to Caps. It is safe for concurrent
// use. Its lock is taken when a connection begins and ends, and not for a
// request, unless the connection was looked at for closing while it carried one.
type Conns struct {
	caps Caps
	log  *slog.Logger

	mu       sync.Mutex
	all      bucket
	networks map[netip.Prefix]*bucket
	clients  map[netip.Prefix]*bucket
	opening  int // of Reserve, not opened yet
	told     time.Time
	refused  time.Time // the last time
	toldOf   Counts

	counts Counts // guarded by mu
}

// Counts are totals since the start, and what is open now.
type Counts struct{ Open, Closed, Refused int }

// bucket counts the connections that share a cap.
type bucket struct {
	n    int
	idle *list.List // of *Conn, about in the order in which they became idle
}

func newBucket() *bucket { return &bucket{idle: list.New()} }

// NewConns counts connections from none on. A nil logger says nothing.
func NewConns(caps Caps, log *slog.Logger) *Conns {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Conns{
		caps: caps, log: log, all: *newBucket(),
		networks: map[netip.Prefix]*bucket{}, clients: map[netip.Prefix]*bucket{},
	}
}

// Counts tells how many connections are open, and how many were closed for
// others or refused since the start.
func (c *Conns) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.counts
	out.Open = c.all.n
	return out
}

// Streams is how many streams the next connection of a client may have at the
// same time, where each takes memory before it carries a request: most for the
// first Few connections of a client, some up to eight times as many, and least
// beyond; a network may have four times as many of each. So a client that opens many connections does not multiply their
// streams, and one that opens few has all that it can use.
func (c *Conns) Streams(client netip.Addr, most, some, least int) int {
	p := prefixesOf(client)
	c.mu.Lock()
	defer c.mu.Unlock()
	own, near := 0, 0
	if b := c.clients[p.client]; b != nil {
		own = b.n
	}
	if b := c.networks[p.network]; b != nil {
		near = b.n / 4
	}
	switch n := max(own, near); {
	case n < c.caps.Few:
		return most
	case n < 8*c.caps.Few:
		return some
	default:
		return least
	}
}

// warnFor is how long a refusal is worth a warning.
const warnFor = 5 * time.Minute

// Warnings say what whoever runs the server should know about.
func (c *Conns) Warnings() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused.IsZero() || time.Since(c.refused) > warnFor {
		return nil
	}
	return []string{fmt.Sprintf("%d connections were refused since the start, the last at %s; %d are open of at most %d in all and %d of one client: if these are visitors, let the agent open more files (LimitNOFILE) or give it more memory",
		c.counts.Refused, c.refused.UTC().Format(time.RFC3339), c.all.n, c.caps.All, c.caps.Client)}
}

// Conn is one connection that is counted. It is idle until it is told otherwise.
// The methods of a nil Conn do nothing.
type Conn struct {
	of     *Conns
	close  func()        // safe while requests are read and written
	linger time.Duration // how long after a request the connection must not be closed

	// state is how many requests there are; evicted says that it is being
	// closed for another.
	state atomic.Int32
	since atomic.Int64 // when it became idle, in nanoseconds since 1970
	out   atomic.Bool  // it is in no queue, and has to be put there once it is idle

	proven atomic.Uint64 // see Guesses.Try

	speaks atomic.Int32 // a version of HTTP, once it is known

	// Guarded by of.mu.
	gone    bool
	named   bool // it counts for a client
	from    prefixes
	opening bool
	queued  int64 // since, when it was put in queues
	buckets [3]*bucket
	places  [3]*list.Element
}

const evicted = -1

// Open counts a connection of a client; a zero address is nobody's, and counts
// only in all. close ends it at once, and is called at most once, without any
// lock. Nil: there is no room.
func (c *Conns) Open(client netip.Addr, close func()) *Conn {
	return c.open(client, close, false, 0)
}

// Reserve counts a connection that cannot be closed yet, since its handshake goes
// on: [Conn.Opened] ends that. Those are an eighth of all at most.
func (c *Conns) Reserve(client netip.Addr, linger time.Duration) *Conn {
	return c.open(client, nil, true, linger)
}

// Opening is how many connections are reserved and not opened.
func (c *Conns) Opening() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opening
}

func (c *Conns) open(client netip.Addr, close func(), opening bool, linger time.Duration) *Conn {
	e := &Conn{of: c, close: close, linger: linger, opening: opening}
	now := time.Now()
	e.since.Store(now.UnixNano())
	c.mu.Lock()
	var victims [3]*Conn
	ok := !opening || c.opening < max(c.caps.All/8, 1)
	if ok = ok && c.admit(e, client, now, &victims); ok {
		c.all.n++
		e.buckets[0] = &c.all
		if opening {
			c.opening++
			e.out.Store(true)
		} else {
			c.queue(e)
		}
	} else {
		c.refuse(now)
	}
	c.tell(client, now)
	c.mu.Unlock()
	for _, v := range victims {
		v.end()
	}
	if !ok {
		return nil
	}
	return e
}

// admit makes room for a connection in all its buckets, and counts it in those
// of its client. The lock is held.
func (c *Conns) admit(e *Conn, client netip.Addr, now time.Time, victims *[3]*Conn) bool {
	if client.IsValid() && !c.name(e, client, now, victims) {
		return false
	}
	crowded := e.named && e.buckets[2].n > c.caps.Few && c.all.n >= c.caps.All-c.caps.All/8
	if c.all.n < c.caps.All && !crowded {
		return true
	}
	if victims[0] = c.evict(&c.all, now); victims[0] != nil {
		return true
	}
	c.unname(e)
	return false
}

// name counts a connection for its client, if there is room. The lock is held.
func (c *Conns) name(e *Conn, client netip.Addr, now time.Time, victims *[3]*Conn) bool {
	e.from = prefixesOf(client)
	for i, b := range [2]struct {
		of  map[netip.Prefix]*bucket
		key netip.Prefix
		cap int
	}{{c.networks, e.from.network, c.caps.Network}, {c.clients, e.from.client, c.caps.Client}} {
		in := b.of[b.key]
		if in == nil {
			in = newBucket()
			b.of[b.key] = in
		}
		e.buckets[i+1] = in
		in.n++ // first, so that the bucket stays when its last other one goes
	}
	e.named = true
	// The client's own first: that makes room in its network, too.
	for i, cap := range [2]int{c.caps.Client, c.caps.Network} {
		in := e.buckets[2-i]
		if in.n <= cap {
			continue
		}
		if victims[2-i] = c.evict(in, now); victims[2-i] == nil {
			c.unname(e)
			return false
		}
	}
	return true
}

func (c *Conns) unname(e *Conn) {
	if !e.named {
		return
	}
	e.named = false
	if e.buckets[1].n--; e.buckets[1].n == 0 {
		delete(c.networks, e.from.network)
	}
	if e.buckets[2].n--; e.buckets[2].n == 0 {
		delete(c.clients, e.from.client)
	}
	e.buckets[1], e.buckets[2] = nil, nil
}

// evict counts off the connection of a bucket that has been idle the longest.
// The caller has to end it. The lock is held.
//
// Each step but the last puts a connection elsewhere that a request was on since
// it was put there, so that requests pay for them.
func (c *Conns) evict(b *bucket, now time.Time) *Conn {
	for range b.idle.Len() {
		front := b.idle.Front()
		if front == nil {
			return nil
		}
		e := front.Value.(*Conn)
		since := e.since.Load()
		switch {
		case e.state.Load() > 0:
			c.unqueue(e)
			e.out.Store(true)
			if e.state.Load() == 0 { // its end may have come before the mark
				c.requeue(e)
			}
		case since > e.queued || now.UnixNano()-since < int64(e.linger):
			c.unqueue(e)
			c.queue(e)
		case e.state.CompareAndSwap(0, evicted):
			c.forget(e)
			c.counts.Closed++
			return e
		}
	}
	return nil
}

func (c *Conns) queue(e *Conn) {
	e.queued = e.since.Load()
	for i, b := range e.buckets {
		if b != nil {
			e.places[i] = b.idle.PushBack(e)
		}
	}
}

func (c *Conns) unqueue(e *Conn) {
	for i, at := range e.places {
		if at != nil {
			e.buckets[i].idle.Remove(at)
			e.places[i] = nil
		}
	}
}

// requeue puts a connection into queues that is in none but should be.
func (c *Conns) requeue(e *Conn) {
	if e.out.Load() && !e.gone && !e.opening {
		e.out.Store(false)
		c.queue(e)
	}
}

// forget counts a connection off.
func (c *Conns) forget(e *Conn) {
	if e.gone {
		return
	}
	e.gone = true
	if e.opening {
		e.opening = false
		c.opening--
	}
	c.unqueue(e)
	c.unname(e)
	c.all.n--
}

func (c *Conns) refuse(now time.Time) {
	c.counts.Refused++
	c.refused = now
}

// tell logs what was closed and refused since it last did. The lock is held.
func (c *Conns) tell(client netip.Addr, now time.Time) {
	closed, refused := c.counts.Closed-c.toldOf.Closed, c.counts.Refused-c.toldOf.Refused
	if closed+refused == 0 || now.Sub(c.told) < tellEvery {
		return
	}
	c.told, c.toldOf = now, c.counts
	c.log.Warn("connections are at a limit", "closed_idle", closed, "refused", refused, "open", c.all.n, "limit", c.caps.All, "last_client", client.String())
}
