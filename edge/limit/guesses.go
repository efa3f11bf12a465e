package limit

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Guessing is slowed down by the caller's address, by the networks that it is
// in, and by the user name, wherever a credential is checked.
//
// An address of IPv4 or a /64 of IPv6 may fail 10 times and then once in 6 s.
// Networks may fail more often: a /56 of IPv6 four times as often, a /48 and a
// /24 of IPv4 sixteen times. A caller that has to wait adds nothing to its
// networks, so that it takes four or sixteen of them to make their neighbours
// wait.
//
// A user name that failed 20 times, from wherever, is refused to addresses that
// have failed themselves lately: whoever tries it from a thousand addresses gets
// one guess from each, and its owner, at an address that did not fail, is let in
// all the same. So nobody can lock others out from afar. Who shares an address
// with somebody that guesses waits with them: they cannot be told apart, and to
// look whether theirs is right would answer a guess.
//
// Success costs nothing, and a wrong credential that is sent again counts once,
// so that a page of fifty requests with an old one is one failure. What was
// right on a connection is looked at there again in any case.
const (
	ClientBurst = 10
	ClientPause = 6 * time.Second
	siteTimes   = 4
	networkTime = 16
	UserBurst   = 20
	UserPause   = 3 * time.Second

	// InFlight bounds what an address can try at once, before it is known
	// what comes of it. In networks it counts as if it had failed.
	InFlight = 32

	// wrongKept is how many wrong credentials are remembered.
	wrongKept = 1 << 14
)

// Guesses counts failures. It is safe for concurrent use, and takes memory of a
// fixed size beside that of what is being tried. A nil Guesses counts nothing.
type Guesses struct {
	seed maphash.Seed

	mu                           sync.Mutex
	clients, sites, networks     *sketch
	users                        *sketch
	trying                       map[Attempt]int // the same at once
	ofClient, ofSite, ofNetworks map[netip.Prefix]int
	wrong                        [wrongKept]uint64 // digests of what failed, by their lowest bits
}

// NewGuesses knows of no failure.
func NewGuesses() *Guesses {
	return &Guesses{
		seed:    maphash.MakeSeed(),
		clients: newSketch(ClientPause), sites: newSketch(ClientPause / siteTimes),
		networks: newSketch(ClientPause / networkTime), users: newSketch(UserPause),
		trying: map[Attempt]int{}, ofClient: map[netip.Prefix]int{}, ofSite: map[netip.Prefix]int{}, ofNetworks: map[netip.Prefix]int{},
	}
}

// Attempt is one try of a caller. Two with the same client, user and credentials
// are equal.
type Attempt struct {
	from   prefixes
	user   string
	digest uint64
}

// Attempt is what a client presents for a user, "" if there is none. The
// credentials are what makes it the same attempt when it comes again.
func (g *Guesses) Attempt(client netip.Addr, user string, credentials ...string) (a Attempt) {
	if g == nil {
		return a
	}
	a.from = prefixesOf(client)
	if len(user) <= 255 {
		a.user = user
	}
	var h maphash.Hash
	h.SetSeed(g.seed)
	for _, s := range credentials {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	a.digest = h.Sum64()
	return a
}

// mark is where and as what a failure of a is remembered.
func (g *Guesses) mark(a Attempt) (at *uint64, as uint64) {
	as = maphash.Comparable(g.seed, a) | 1 // never the zero of an empty place
	return &g.wrong[as>>1%wrongKept], as
}

// Begin admits an attempt, which [Guesses.End] must end, or says how long to
// wait until one is worth it.
func (g *Guesses) Begin(a Attempt, now time.Time) (wait time.Duration) {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	again := g.trying[a] > 0 // which tells no more than what goes on already
	wait = max(wait, g.clients.wait(a.from.client, ClientBurst, now))
	wait = max(wait, g.sites.wait(a.from.site, g.left(siteTimes, g.ofSite[a.from.site], again), now))
	wait = max(wait, g.networks.wait(a.from.network, g.left(networkTime, g.ofNetworks[a.from.network], again), now))
	if a.user != "" && g.clients.failures(a.from.client, now) > 0 {
		wait = max(wait, g.users.wait(a.user, UserBurst, now))
	}
	if wait == 0 && !again && g.ofClient[a.from.client] >= InFlight {
		wait = time.Second
	}
	if wait > 0 {
		return wait
	}
	if g.trying[a]++; !again {
		g.ofClient[a.from.client]++
		g.ofSite[a.from.site]++
		g.ofNetworks[a.from.network]++
	}
	return 0
}

// left is the burst of a network in which so many attempts go on.
func (g *Guesses) left(times, trying int, again bool) float64 {
	if again {
		return float64(ClientBurst * times)
	}
	return float64(ClientBurst*times - trying)
}

// End tells what came of an attempt.
func (g *Guesses) End(a Attempt, failed bool, now time.Time) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if less(g.trying, a) {
		less(g.ofClient, a.from.client)
		less(g.ofSite, a.from.site)
		less(g.ofNetworks, a.from.network)
	}
	at, as := g.mark(a)
	if !failed || *at == as {
		return
	}
	*at = as
	g.clients.fail(a.from.client, 2*(ClientBurst+InFlight), now)
	g.sites.fail(a.from.site, 2*ClientBurst*siteTimes, now)
	g.networks.fail(a.from.network, 2*ClientBurst*networkTime, now)
	if a.user != "" {
		g.users.fail(a.user, UserBurst, now)
	}
}

// less counts one off, and reports whether it was the last.
func less[K comparable](n map[K]int, key K) bool {
	if n[key] > 1 {
		n[key]--
		return false
	}
	delete(n, key)
	return true
}

// Try has check say whether what a client presents is right, unless it has to
// wait. What was right before on the same connection need not wait.
func (g *Guesses) Try(r *http.Request, credential string, check func() bool) (ok bool, wait time.Duration) {
	if g == nil {
		return check(), 0
	}
	a := g.Attempt(ClientOf(r), "", credential)
	on := OfRequest(r)
	if on != nil && on.proven.Load() == a.digest {
		if check() {
			return true, 0
		}
		on.proven.Store(0)
	}
	if wait := g.Begin(a, time.Now()); wait > 0 {
		return false, wait
	}
	defer func() { g.End(a, !ok, time.Now()) }() // also if check panics
	if ok = check(); ok && on != nil {
		on.proven.Store(a.digest)
	}
	return ok, 0
}
