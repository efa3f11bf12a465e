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
	Allow   []string  // "read", "plan"
	Expires time.Time // zero: never
}

// allowed compares every token, whatever the ones before gave, so that time
// tells nothing.
func (a API) allowed(r *http.Request, right string) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || token == "" || !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return false
	}
	sum, now, good := sha256.Sum256([]byte(token)), time.Now(), false
	for _, t := range a.Tokens() {
		same := subtle.ConstantTimeCompare(sum[:], t.SHA256[:]) == 1
		if same && slices.Contains(t.Allow, right) && (t.Expires.IsZero() || now.Before(t.Expires)) {
			good = true
		}
	}
	return good
}
