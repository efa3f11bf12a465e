// Package credentials checks what callers present to prove who they are:
// passwords against hashes, and JSON Web Tokens against keys.
//
// A [Checker] may be asked by anybody on the network at any rate: what it
// remembers, computes and fetches at once is bounded.
package credentials

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/netip"
	"runtime"
	"time"
)

// Options of a [Checker]. The zero Options are the strict ones.
type Options struct {
	// AllowPrivate lets keys be fetched from addresses that are not public,
	// such as those of this host and its networks. Whoever may write a URL
	// could otherwise reach what only this host reaches.
	AllowPrivate bool

	// TLS is how the hosts of keys are verified. Nil trusts the system's
	// authorities.
	TLS *tls.Config

	// Now is the time; nil is time.Now.
	Now func() time.Time
}

// Checker checks credentials. It is safe for concurrent use, and starts
// nothing that would have to be ended.
type Checker struct {
	now     func() time.Time
	key     [32]byte      // of the digests under which results are remembered
	hashing chan struct{} // as many as may hash at once
	waiting chan struct{} // as many as may wait or hash
	results results
	flights flights
	keys    keyring
	sets    keySets
}

// maxWaiting bounds the passwords that wait to be hashed. Each has a request
// that waits with it.
const maxWaiting = 256

// ErrBusy says that too many passwords are being checked already.
var ErrBusy = errors.New("too many passwords are being checked")

// New returns a Checker.
func New(o Options) *Checker {
	c := &Checker{
		now: o.Now,
		// A hash fills a core and much memory. Half of the cores are left to
		// those who have proven themselves already.
		hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		waiting: make(chan struct{}, maxWaiting),
	}
	if c.now == nil {
		c.now = time.Now
	}
	_, _ = rand.Read(c.key[:]) // never fails
	c.sets.client = newClient(o, public)
	if o.AllowPrivate {
		c.sets.client = newClient(o, func(netip.Addr) bool { return true })
	}
	return c
}
