package edge

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Guessing is slowed down by the caller's address and by the user name.
//
// An address may fail callerBurst times and then once in callerPause. A user
// name that failed userBurst times, from wherever, is refused to addresses that
// have failed themselves lately: whoever tries it from a thousand addresses
// gets one guess from each, and its owner, at an address that did not fail, is
// let in all the same. So nobody can lock others out from afar. Who shares an
// address with somebody that guesses waits with them: they cannot be told
// apart.
//
// Success costs nothing, and a wrong credential that is sent again counts once,
// so that a page of fifty requests with an old one is one failure.
const (
	callerBurst = 10
	callerPause = 6 * time.Second
	userBurst   = 20
	userPause   = 3 * time.Second

	// inFlight bounds what an address can try at once, before it is known
	// what comes of it.
	inFlight = 32

	// remembered bounds the callers and user names that are kept. The longest
	// unseen is forgotten first.
	remembered = 16384
)

// throttle counts failures. Its zero value is not ready.
type throttle struct {
	mu      sync.Mutex
	seed    maphash.Seed
	callers recent[netip.Prefix]
	users   recent[string]
}

// tally is how far a caller or a user name has failed.
type tally struct {
	failures float64 // less one in each pause
	at       time.Time
	wrong    [8]uint64      // digests of what failed last
	next     int            // place in wrong
	trying   map[uint64]int // digests of what is being tried
}

func newThrottle() *throttle {
	return &throttle{seed: maphash.MakeSeed(), callers: newRecent[netip.Prefix](), users: newRecent[string]()}
}

// callerOf is who shares a fate: an address of IPv4, a network of IPv6, of
// which one host has 2^64 addresses.
func callerOf(client netip.Addr) netip.Prefix {
	bits := 64
	if client = client.Unmap(); client.Is4() {
		bits = 32
	}
	p, err := client.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // all that have no address are one
	}
	return p
}

// try is one attempt of a caller.
type try struct {
	caller netip.Prefix
	user   string
	digest uint64
}

// attempt is what the claims of a caller are to the throttle.
func (t *throttle) attempt(client netip.Addr, claims []claim) try {
	out := try{caller: callerOf(client)}
	var h maphash.Hash
	h.SetSeed(t.seed)
	for i := range claims {
		c := &claims[i]
		if c.user != "" && len(c.user) <= 255 {
			out.user = c.user
		}
		for _, s := range []string{c.from.Header, c.from.Cookie, c.from.Param, c.user, c.value} {
			_, _ = h.WriteString(s)
			_ = h.WriteByte(0)
		}
	}
	out.digest = h.Sum64()
	return out
}

// begin admits an attempt, which [throttle.end] must end, or says how long to
// wait until one is worth it.
func (t *throttle) begin(a try, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	caller := t.callers.get(a.caller)
	caller.settle(now, callerPause)
	if over := caller.failures - callerBurst + 1; over > 0 {
		return time.Duration(over * float64(callerPause))
	}
	if user, known := t.users.peek(a.user); known && a.user != "" {
		user.settle(now, userPause)
		if over := user.failures - userBurst + 1; over > 0 && caller.failures > 0 {
			return time.Duration(over * float64(userPause))
		}
	}
	if len(caller.trying) >= inFlight && caller.trying[a.digest] == 0 {
		return time.Second
	}
	if caller.trying == nil {
		caller.trying = map[uint64]int{}
	}
	caller.trying[a.digest]++
	return 0
}

// end tells what came of an attempt.
func (t *throttle) end(a try, failed bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	caller := t.callers.get(a.caller)
	if caller.trying[a.digest] > 1 {
		caller.trying[a.digest]--
	} else {
		delete(caller.trying, a.digest) // not there if the caller was forgotten meanwhile
	}
	if !failed || caller.again(a.digest) {
		return
	}
	caller.settle(now, callerPause)
	caller.failures++
	caller.wrong[caller.next%len(caller.wrong)] = a.digest
	caller.next++
	if a.user != "" {
		user := t.users.get(a.user)
		user.settle(now, userPause)
		user.failures = min(user.failures+1, userBurst)
	}
}

// settle takes off what time has healed.
func (t *tally) settle(now time.Time, pause time.Duration) {
	if now.After(t.at) { // those who come at once may have read the clock in another order
		t.failures = max(0, t.failures-float64(now.Sub(t.at))/float64(pause))
		t.at = now
	}
}

func (t *tally) again(digest uint64) bool {
	for i := range min(t.next, len(t.wrong)) {
		if t.wrong[i] == digest {
			return true
		}
	}
	return false
}

// recent keeps the tallies that were used last.
type recent[K comparable] struct {
	of    map[K]*list.Element
	order *list.List // of entry[K], the newest in front
}

type entry[K comparable] struct {
	key K
	tally
}

func newRecent[K comparable]() recent[K] { return recent[K]{map[K]*list.Element{}, list.New()} }

func (r *recent[K]) peek(key K) (*tally, bool) {
	e, ok := r.of[key]
	if !ok {
		return nil, false
	}
	r.order.MoveToFront(e)
	return &e.Value.(*entry[K]).tally, true
}

func (r *recent[K]) get(key K) *tally {
	if t, ok := r.peek(key); ok {
		return t
	}
	if r.order.Len() >= remembered {
		last := r.order.Back()
		delete(r.of, last.Value.(*entry[K]).key)
		r.order.Remove(last)
	}
	e := &entry[K]{key: key}
	r.of[key] = r.order.PushFront(e)
	return &e.tally
}
