package edge

import (
	"slices"
	"time"
)

// Identity is what a request has proven to have. It is a value that never
// changes: proving is done once, before the decision, and every decision about
// the request reads the same Identity. Its zero value has proven nothing.
type Identity struct {
	proofs []Proof // by digest, each definition once
}

// Proof says that a credential met its definition.
type Proof struct {
	Credential Digest
	Until      time.Time // when it stops to count; zero: never
}

// NewIdentity returns the Identity with these proofs. Of two for the same
// definition the one that ends later counts.
func NewIdentity(proofs ...Proof) Identity { return identityOf(slices.Clone(proofs)) }

// identityOf is NewIdentity of proofs that nobody else has.
func identityOf(proofs []Proof) Identity {
	slices.SortFunc(proofs, func(a, b Proof) int {
		if c := slices.Compare(a.Credential[:], b.Credential[:]); c != 0 {
			return c
		}
		switch {
		case later(a.Until, b.Until):
			return -1
		case later(b.Until, a.Until):
			return 1
		}
		return 0
	})
	return Identity{slices.CompactFunc(proofs, func(a, b Proof) bool { return a.Credential == b.Credential })}
}

// later says that a comes after b, where zero is the end of time.
func later(a, b time.Time) bool {
	return a.IsZero() && !b.IsZero() || !b.IsZero() && a.After(b)
}

// proves reports whether a definition is proven at a time, and until when.
func (id Identity) proves(d *Digest, now time.Time) (until time.Time, ok bool) {
	for i := range id.proofs {
		p := &id.proofs[i]
		if p.Credential == *d {
			return p.Until, p.Until.IsZero() || now.Before(p.Until)
		}
	}
	return time.Time{}, false
}
