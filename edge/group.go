package edge

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// Group is a set of callers, by exactly one of its parts. Its zero value
// matches nobody, which is also what a group becomes whose secret cannot be
// read.
type Group struct {
	// Ranges are canonical: no bits are set behind the prefix length, and
	// IPv4 is not written as IPv6.
	Ranges []netip.Prefix

	Password *Password
	Token    *Token
	JWT      *JWT

	// All must match at once. None of them has All.
	All []Group
}

// Password is a user name and a password, given by HTTP Basic (RFC 7617).
type Password struct {
	Username string
	Hash     string // as [Verifier] takes it
}

// Token is a value that the caller knows.
type Token struct {
	Source Source
	SHA256 [sha256.Size]byte // of the value
}

// JWT is a JSON Web Token (RFC 7519) that meets rules.
type JWT struct {
	Sources []Source // where it may stand
	Rules   JWTRules
}

// JWTRules are what a [Verifier] holds a JWT to. Exactly one of Secret,
// PublicKey and JWKSURL is set.
type JWTRules struct {
	Algorithm string // the only one: HS256, HS384, HS512, RS256, ES256 or EdDSA
	Secret    []byte // of HS…
	PublicKey string // PEM
	JWKSURL   string // where the keys are published (RFC 7517)

	// Claims that must be there, each with one of the values: string, bool or
	// float64. Issuer and Audience are not asked for when empty.
	Claims           map[string][]any
	Issuer, Audience string
}

// Source is a place in a request. Exactly one of its fields is set.
type Source struct {
	Header string // for Authorization, what follows the scheme Bearer
	Cookie string
	Param  string // of the query
}

// Digest stands for the definition of a credential: all of it, secrets
// included. What was proven under one definition is worth nothing under
// another, whatever its name.
type Digest [sha256.Size]byte

// credential is a definition of something that a caller can prove to have:
// one of its pointers is set.
type credential struct {
	id       Digest
	password *Password
	token    *Token
	jwt      *JWT

	sources []Source // canonical, of a token or JWT
}

// credential returns the definition of a group, nil if it is none.
func (g *Group) credential() *credential {
	c := &credential{password: g.Password, token: g.Token, jwt: g.JWT}
	if c.password == nil && c.token == nil && c.jwt == nil {
		return nil
	}
	// Maps are encoded in the order of their keys, so equal definitions have
	// equal digests.
	text, err := json.Marshal([]any{c.password, c.token, c.jwt})
	if err != nil {
		return nil // a claim that JSON cannot hold: it can match nobody
	}
	c.id = sha256.Sum256(text)
	if c.token != nil {
		c.sources = []Source{c.token.Source.canonical()}
	} else if c.jwt != nil {
		for _, s := range c.jwt.Sources {
			c.sources = append(c.sources, s.canonical())
		}
	}
	return c
}

// asks are the ways in which a caller can be asked for the credential.
func (c *credential) asks() Ask {
	if c.password != nil {
		return AskBasic
	}
	return AskBearer
}

// members is a [Group] in the form that deciding needs: who comes from one of
// the ranges and proves every credential. A group that is empty has nobody.
type members struct {
	empty    bool
	anywhere bool // ranges do not count
	ranges   []netip.Prefix
	prove    []*credential // in no order, each once
}

// members compiles a group.
func (g *Group) members() (members, error) {
	parts := g.All
	switch {
	case len(g.All) == 0:
		parts = []Group{*g}
	case g.parts() > 0:
		return members{}, errors.New("all stands beside another criterion")
	}
	out := members{anywhere: true}
	for i := range parts {
		p := &parts[i]
		switch {
		case len(p.All) > 0 && len(g.All) > 0:
			return members{}, errors.New("an all inside an all")
		case p.parts() > 1:
			return members{}, errors.New("more than one criterion")
		}
		for _, r := range p.Ranges {
			if !r.IsValid() || r != r.Masked() || r.Addr().Is4In6() {
				return members{}, fmt.Errorf("%v is not a canonical range", r)
			}
		}
		c := p.credential()
		switch {
		case len(p.Ranges) > 0 && out.anywhere:
			out.anywhere, out.ranges = false, p.Ranges
		case len(p.Ranges) > 0:
			out.ranges = intersect(out.ranges, p.Ranges)
		case c == nil:
			out.empty = true
		case !slices.ContainsFunc(out.prove, func(o *credential) bool { return o.id == c.id }):
			out.prove = append(out.prove, c)
		}
	}
	out.empty = out.empty || !out.anywhere && len(out.ranges) == 0
	return out, nil
}

// digest stands for who is meant: it changes whenever that could.
func (m *members) digest() Digest {
	h := sha256.New()
	fmt.Fprintln(h, m.empty, m.anywhere)
	for _, r := range slices.SortedFunc(slices.Values(m.ranges), netip.Prefix.Compare) {
		fmt.Fprintln(h, r)
	}
	for _, c := range slices.SortedFunc(slices.Values(m.prove), func(a, b *credential) int { return bytes.Compare(a.id[:], b.id[:]) }) {
		h.Write(c.id[:])
	}
	return Digest(h.Sum(nil))
}

// parts counts the criteria of a group.
func (g *Group) parts() (n int) {
	for _, there := range []bool{len(g.Ranges) > 0, g.Password != nil, g.Token != nil, g.JWT != nil} {
		if there {
			n++
		}
	}
	return n
}

// intersect returns ranges that hold the addresses which both lists hold: of
// two ranges that share an address one lies within the other.
func intersect(a, b []netip.Prefix) (out []netip.Prefix) {
	within := func(some, others []netip.Prefix) {
		t := new(bart.Lite)
		for _, p := range others {
			t.Insert(p)
		}
		for _, p := range some {
			if t.LookupPrefix(p) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	within(a, b)
	within(b, a)
	return out
}
