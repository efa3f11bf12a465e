package edge

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"time"

	"swage/edge/limit"
)

// Verifier checks what costs time: password hashes and signatures. It may do
// IO, and is safe for concurrent use.
//
// An error says that it could not tell, for a reason that is not the caller's:
// the credential is then not proven, and the caller may come again.
type Verifier interface {
	// Password reports whether a password is the one of a hash: a PHC string
	// of argon2id, a bcrypt string, or "$sha256$<salt>$<hex>".
	Password(ctx context.Context, hash, password string) (bool, error)

	// JWT reports whether a token meets rules, and when it ceases to; zero is
	// never.
	JWT(ctx context.Context, rules *JWTRules, token string) (until time.Time, ok bool, err error)
}

// NewRequest is what decides about r when it comes at a time. Its Identity is
// left to [Table.Identify].
func NewRequest(r *http.Request, at time.Time) Request {
	out := Request{
		Host: r.Host, Client: limit.ClientOf(r), Path: rawPath(r), Time: at,
		Method: method(r), Upgrade: upgrades(r),
	}
	out.readFields(r)
	return out
}

// Identify finds out what a request proves to have of all that the document of
// its container asks for. It is done before the decision because it takes
// time; whatever it finds, only [Table.Decide] decides.
func (t *Table) Identify(ctx context.Context, v Verifier, r *http.Request, at time.Time) (Identity, error) {
	request := NewRequest(r, at)
	claims := t.documentOf(&request).claims(make([]claim, 0, fewClaims), r)
	evidence := verify(ctx, v, claims)
	return evidence.identity, evidence.err
}

// documentOf is the document of the container that a request leads to.
func (t *Table) documentOf(r *Request) *document {
	var at spot
	var d Decision
	if t == nil || !t.locate(r, &at, &d) || at.container.closed {
		return nil
	}
	return at.container.document
}

// claim is a credential that a request presents: a value, and the definitions
// that it may meet.
type claim struct {
	from     Source
	user     string // of HTTP Basic, whose from is the header Authorization
	value    string
	meets    []*credential
	password *credential // any, checked for a user that there is none of

	met, unsure bool // set by verify
}

// fewClaims is room for what most requests present, on the stack.
const fewClaims = 4

// claims appends what a request presents of that which a document asks for: a
// claim for each value of each source.
func (d *document) claims(out []claim, r *http.Request) []claim {
	if d == nil || len(d.credentials) == 0 {
		return out
	}
	add := func(from Source, c []*credential) {
		known := false
		for i := range out {
			if out[i].from == from && out[i].password == nil {
				known = true
				out[i].meets = append(out[i].meets[:len(out[i].meets):len(out[i].meets)], c...)
			}
		}
		if known {
			return
		}
		there := from.read(r)
		for _, value := range there.all[:there.n] {
			out = append(out, claim{from: from, value: value, meets: c})
		}
	}
	user, password, basic := basicAuth(r)
	for i, c := range d.credentials {
		this := d.credentials[i : i+1 : i+1] // for a start: most claims may meet one
		for _, from := range c.sources {
			add(from, this)
		}
		if basic && c.password != nil {
			at := slices.IndexFunc(out, func(x claim) bool { return x.password != nil })
			if at < 0 {
				out = append(out, claim{from: authorization, user: user, value: password, password: c})
				at = len(out) - 1
			}
			switch {
			case subtle.ConstantTimeCompare([]byte(c.password.Username), []byte(user)) == 0:
			case out[at].meets == nil:
				out[at].meets = this
			default:
				out[at].meets = append(out[at].meets, c)
			}
		}
	}
	return out
}

// evidence is what came of claims.
type evidence struct {
	identity Identity
	spent    spent // must not reach the application
	failed   bool  // something was presented that meets nothing
	err      error // something could not be told
}

// verify checks claims. Every definition that a claim may meet is tried, so
// that a later table which asks for another of them finds it proven, and every
// source that holds something, so that what is spent is known wherever it
// stands.
func verify(ctx context.Context, v Verifier, claims []claim) (e evidence) {
	var proofs []Proof
	for i := range claims {
		c := &claims[i]
		for _, want := range c.meets {
			until, ok, err := c.check(ctx, v, want)
			if err != nil {
				e.err, c.unsure = err, true
			}
			if ok {
				c.met = true
				proofs = append(proofs, Proof{want.id, until})
			}
		}
		if len(c.meets) == 0 && c.password != nil && v != nil {
			// An unknown user takes as long to refuse as a known one.
			_, _ = v.Password(ctx, c.password.password.Hash, c.value)
		}
	}
	e.identity = identityOf(proofs)
	for i := range claims {
		c := &claims[i]
		switch {
		case c.met, c.repeats(claims):
			if !slices.Contains(e.spent, c.from) {
				e.spent = append(e.spent, c.from)
			}
		case !c.unsure && c.guesses(claims, &e.identity):
			e.failed = true
		}
	}
	return e
}

// repeats says that a claim that is not met has the value of one that is.
func (c *claim) repeats(claims []claim) bool {
	return slices.ContainsFunc(claims, func(o claim) bool { return o.met && o.value == c.value })
}

// guesses says that a claim that is not met may be a guess. It is none where
// all that it could meet is proven already. Nor is a cookie beside the right
// one: any host of the zone can plant it in a visitor's browser.
func (c *claim) guesses(claims []claim, proven *Identity) bool {
	open := len(c.meets) == 0
	for _, want := range c.meets {
		open = open || !slices.ContainsFunc(proven.proofs, func(p Proof) bool { return p.Credential == want.id })
	}
	return open && !(c.from.Cookie != "" && slices.ContainsFunc(claims, func(o claim) bool { return o.met && o.from == c.from }))
}

func (c *claim) check(ctx context.Context, v Verifier, want *credential) (until time.Time, ok bool, err error) {
	switch {
	case want.token != nil:
		sum := sha256.Sum256([]byte(c.value))
		ok = subtle.ConstantTimeCompare(sum[:], want.token.SHA256[:]) == 1
	case v == nil: // nobody can tell
	case want.password != nil:
		ok, err = v.Password(ctx, want.password.Hash, c.value)
	case want.jwt != nil:
		until, ok, err = v.JWT(ctx, &want.jwt.Rules, c.value)
	}
	return until, ok && err == nil, err
}

func method(r *http.Request) string {
	if r.Method == http.MethodConnect && wantsTunnel(r) {
		return http.MethodGet // as the application gets it
	}
	return r.Method
}

// upgrades says that a request asks for another protocol on its connection.
func upgrades(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || r.Method == http.MethodConnect
}
