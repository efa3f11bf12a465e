package git

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"swage/edge/limit"
)

// maxHook bounds the body of a webhook: GitHub sends at most 25 MB.
const maxHook = 26 << 20

// Webhook wakes whoever polls when a forge says that something was pushed.
// Nothing that the request holds is believed or kept, so one that is played
// again does no harm. secrets are by forge: "github", "gitlab", "gitea" and
// "forgejo".
//
// guesses counts wrong signatures. Nil: nobody has to wait.
func Webhook(secrets func() map[string]string, wake func(), guesses *limit.Guesses) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := secrets()
		if len(known) == 0 {
			http.Error(w, "this server has no webhooks", http.StatusNotFound)
			return
		}
		shown := signatures(r.Header)
		if shown == "" {
			http.Error(w, "there is no signature", http.StatusUnauthorized)
			return
		}
		attempt := guesses.Attempt(limit.ClientOf(r), "", shown)
		if wait := guesses.Begin(attempt, time.Now()); wait > 0 {
			w.Header().Set("Retry-After", limit.RetryAfter(wait))
			http.Error(w, "there were too many wrong signatures from here; wait a moment", http.StatusTooManyRequests)
			return
		}
		wrong := false
		defer func() { guesses.End(attempt, wrong, time.Now()) }()
		sums := map[string]hash.Hash{}
		var all []io.Writer
		for forge, secret := range known {
			sums[forge] = hmac.New(sha256.New, []byte(secret))
			all = append(all, sums[forge])
		}
		if _, err := io.Copy(io.MultiWriter(all...), http.MaxBytesReader(w, r.Body, maxHook)); err != nil {
			http.Error(w, "the body is too large, or broke off", http.StatusRequestEntityTooLarge)
			return
		}
		good := false
		for forge, sum := range sums { // all of them, so that time tells nothing
			good = signed(forge, known[forge], sum.Sum(nil), r.Header) || good
		}
		if wrong = !good; wrong {
			http.Error(w, "the signature is wrong", http.StatusUnauthorized)
			return
		}
		wake()
		w.WriteHeader(http.StatusNoContent)
	})
}

// signatures is what a request shows as a proof, empty if there is nothing.
func signatures(h http.Header) (all string) {
	for _, name := range []string{"X-Hub-Signature-256", "X-Gitlab-Token", "X-Gitea-Signature", "X-Forgejo-Signature"} {
		all += h.Get(name)
	}
	return all
}

// signed compares what a forge sends to prove that it knows the secret: GitHub
// the HMAC in X-Hub-Signature-256, Gitea and Forgejo in headers of their own,
// and GitLab the secret itself.
func signed(forge, secret string, sum []byte, h http.Header) bool {
	if secret == "" {
		return false
	}
	switch forge {
	case "github":
		text, ok := strings.CutPrefix(h.Get("X-Hub-Signature-256"), "sha256=")
		return ok && sameSum(text, sum)
	case "gitlab":
		a, b := sha256.Sum256([]byte(h.Get("X-Gitlab-Token"))), sha256.Sum256([]byte(secret))
		return subtle.ConstantTimeCompare(a[:], b[:]) == 1
	case "gitea":
		return sameSum(h.Get("X-Gitea-Signature"), sum)
	case "forgejo":
		return sameSum(h.Get("X-Forgejo-Signature"), sum) || sameSum(h.Get("X-Gitea-Signature"), sum)
	}
	return false
}

func sameSum(text string, sum []byte) bool {
	got, err := hex.DecodeString(text)
	return err == nil && hmac.Equal(got, sum)
}
