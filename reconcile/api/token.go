package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Token opens the API to its holder. Only its digest is kept.
type Token struct {
	Name   string            // for the log
	SHA256 [sha256.Size]byte // of the token, or of a public key as SSH sends it
	// Key says that it is a public key: its holder has proven that he has the
	// private one. As a password it opens nothing.
	Key     bool
	Allow   []string  // "read", "plan", "push"
	Realm   string    // that pushes are held to; empty: none
	Expires time.Time // zero: never
}

// allowed says whether a request brings a token that allows something, or how
// long it has to wait until that is looked at. A token that allows something else
// is no guess.
func (a API) allowed(r *http.Request, right string) (ok bool, wait time.Duration) {
	scheme, token, there := strings.Cut(r.Header.Get("Authorization"), " ")
	if !there || token == "" || !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return false, 0
	}
	_, wait = a.Guesses.Try(r, token, func() bool {
		_, ok = a.Holds(token, right)
		return ok || slices.ContainsFunc(rights, func(other string) bool { _, known := a.Holds(token, other); return known })
	})
	return ok, wait
}

// recheck is how often the token of a request that goes on is looked at again.
const recheck = time.Second

// whileHeld is the context of a request that was allowed: it ends soon after its
// token was taken away or expired.
func (a API) whileHeld(r *http.Request, right string) (context.Context, context.CancelFunc) {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	ctx, cancel := context.WithCancel(r.Context())
	var again *time.Timer
	var mu sync.Mutex
	look := func() {
		if _, ok := a.Holds(token, right); !ok {
			cancel()
		}
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			again.Reset(recheck)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	again = time.AfterFunc(recheck, look)
	return ctx, func() {
		cancel()
		mu.Lock()
		defer mu.Unlock()
		again.Stop()
	}
}

// rights are all that a token may allow.
var rights = []string{"read", "plan", "push"}

// Holds is the token of that text, if it is good for a right now.
func (a API) Holds(token, right string) (Token, bool) { return a.holds([]byte(token), false, right) }

// HoldsKey is Holds of a public key, in the wire format of RFC 4253, section
// 6.6.
func (a API) HoldsKey(key []byte, right string) (Token, bool) { return a.holds(key, true, right) }

func (a API) holds(shown []byte, key bool, right string) (found Token, good bool) {
	if len(shown) == 0 {
		return Token{}, false
	}
	sum, now := sha256.Sum256(shown), time.Now()
	// Every token is compared, whatever the ones before gave, so that time
	// tells nothing.
	for _, t := range a.Tokens() {
		same := subtle.ConstantTimeCompare(sum[:], t.SHA256[:]) == 1 && t.Key == key
		// Of two that are the same the narrower counts.
		if same && slices.Contains(t.Allow, right) && (t.Expires.IsZero() || now.Before(t.Expires)) && (!good || t.Realm != "") {
			found, good = t, true
		}
	}
	return found, good
}
