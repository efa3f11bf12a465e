package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Token opens the API to its holder. Only its digest is kept.
type Token struct {
	SHA256  [sha256.Size]byte
	Allow   []string  // "read", "plan", "push"
	Expires time.Time // zero: never
}

func (a API) allowed(r *http.Request, right string) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || token == "" || !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return false
	}
	return a.Holds(token, right)
}

// Holds reports whether a token is good for a right now.
func (a API) Holds(token, right string) bool {
	if token == "" {
		return false
	}
	sum, now, good := sha256.Sum256([]byte(token)), time.Now(), false
	// Every token is compared, whatever the ones before gave, so that time
	// tells nothing.
	for _, t := range a.Tokens() {
		same := subtle.ConstantTimeCompare(sum[:], t.SHA256[:]) == 1
		if same && slices.Contains(t.Allow, right) && (t.Expires.IsZero() || now.Before(t.Expires)) {
			good = true
		}
	}
	return good
}
