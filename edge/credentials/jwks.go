package credentials

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// freshFor is how long a set of keys is used unasked, staleFor how long
	// when its host does not answer: a key that was withdrawn must not count
	// for ever.
	freshFor = 5 * time.Minute
	staleFor = time.Hour

	// retryAfter throttles fetches of one URL, whatever asks for them: an
	// unknown kid, a failure, an age.
	retryAfter = 30 * time.Second

	fetchTimeout = 5 * time.Second
	maxSet       = 256 << 10
	maxKeys      = 100
	maxSets      = 256 // of URLs; they come from the fleet, not from callers
)

// keySets are the sets of keys that were fetched, by URL.
type keySets struct {
	client *http.Client
	mu     sync.Mutex
	of     map[string]*keySet
}

// keySet is what is known of one URL.
type keySet struct {
	fetching chan struct{} // capacity one: held by who fetches

	mu    sync.Mutex
	keys  []setKey
	at    time.Time // of the keys; zero: none were fetched yet
	tried time.Time
	err   error // of the last try
}

type setKey struct {
	kid, alg string // as published; empty: not said
	key      any
}

// keys are those of a set that fit: with the kid if the token has one. A kid
// that is not there has the set fetched again, in case keys were rotated.
func (k *keySets) keys(ctx context.Context, url, kid, algorithm string, now func() time.Time) ([]any, error) {
	s := k.set(url)
	found, due, err := s.find(kid, algorithm, now())
	if !due {
		return found, err
	}
	// One fetches; the others wait if they cannot do without, each no longer
	// than its own request.
	if len(found) > 0 {
		select {
		case s.fetching <- struct{}{}:
		default:
			return found, nil
		}
	} else {
		select {
		case s.fetching <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if _, still, _ := s.find(kid, algorithm, now()); still {
		s.fetch(ctx, k.client, url, now)
	}
	<-s.fetching
	found, _, err = s.find(kid, algorithm, now())
	return found, err
}

func (k *keySets) set(url string) *keySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.of[url]; s != nil {
		return s
	}
	if k.of == nil || len(k.of) >= maxSets {
		k.of = map[string]*keySet{}
	}
	s := &keySet{fetching: make(chan struct{}, 1)}
	k.of[url] = s
	return s
}

// find returns the keys that fit, whether it is time to fetch, and why there
// are no keys to choose from at all.
func (s *keySet) find(kid, algorithm string, now time.Time) (found []any, due bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	usable := !s.at.IsZero() && now.Sub(s.at) < staleFor
	if usable {
		for _, key := range s.keys {
			if (kid == "" || key.kid == kid) && (key.alg == "" || key.alg == algorithm) && fits(key.key, algorithm) {
				found = append(found, key.key)
			}
		}
	}
	may := s.tried.IsZero() || now.Sub(s.tried) >= retryAfter || now.Before(s.tried)
	due = may && (!usable || len(found) == 0 || now.Sub(s.at) >= freshFor)
	if !usable && !may {
		err = s.err
		if err == nil {
			err = errors.New("the keys are too old")
		}
	}
	return found, due, err
}

// fetch asks for the set. It does not end with the request that began it:
// others wait for the same answer.
func (s *keySet) fetch(ctx context.Context, client *http.Client, url string, now func() time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := get(ctx, client, url)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.err = now(), err
	if err == nil {
		s.keys, s.at = keys, s.tried
	}
}

func get(ctx context.Context, client *http.Client, url string) ([]setKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: %s answers %s", url, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSet+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch keys: %w", err)
	case len(body) > maxSet:
		return nil, fmt.Errorf("fetch keys: %s answers with more than %d bytes", url, maxSet)
	}
	keys, err := parseSet(body)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %s: %w", url, err)
	}
	return keys, nil
}

// parseSet reads a JWK Set (RFC 7517, section 5). What is not for verifying
// signatures, or of a kind that no algorithm here has, is passed over, and so
// are secrets, which have no place in public.
func parseSet(text []byte) ([]setKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("not a JWK set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	var out []setKey
	for _, raw := range set.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil || len(j.Kid) > maxKid {
			continue
		}
		if j.Use != "" && j.Use != "sig" || len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify") {
			continue
		}
		if key := j.key(); key != nil {
			out = append(out, setKey{j.Kid, j.Alg, key})
		}
	}
	return out, nil
}

// jwk is a JSON Web Key (RFC 7517, section 4; RFC 7518, section 6; RFC 8037,
// section 2).
type jwk struct {
	Kty, Use, Alg, Kid string
	Ops                []string `json:"key_ops"`
	Crv, X, Y, N, E    string
}

// key is the public key, nil if there is none that can be used.
func (j *jwk) key() any {
	field := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	switch {
	case j.Kty == "RSA":
		n, e := field(j.N), field(j.E)
		if len(n) == 0 || len(n) > 1024 || len(e) == 0 || len(e) > 4 {
			return nil
		}
		exponent := new(big.Int).SetBytes(e).Int64()
		if exponent < 3 || exponent >= 1<<31 || exponent%2 == 0 {
			return nil
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}
	case j.Kty == "EC" && j.Crv == "P-256":
		x, y := field(j.X), field(j.Y)
		if len(x) != 32 || len(y) != 32 {
			return nil
		}
		point := append(append([]byte{4}, x...), y...)
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil { // else it is not on the curve
			return key
		}
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		if x := field(j.X); len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	}
	return nil
}
