package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"filippo.io/age"

	"swage/reconcile/api"
	"swage/schema"
)

// nodeKeys is what this node reads secrets with.
func nodeKeys(n schema.Node) (schema.Keys, error) {
	keys := schema.Keys{ReadFile: os.ReadFile, LookupEnv: os.LookupEnv}
	if n.AgeIdentities == "" {
		return keys, nil
	}
	f, err := os.Open(n.AgeIdentities)
	if err != nil {
		return keys, fmt.Errorf("age_identities: %w", err)
	}
	defer f.Close()
	if keys.Identities, err = age.ParseIdentities(f); err != nil {
		return keys, fmt.Errorf("age_identities: %s: %w", n.AgeIdentities, err)
	}
	return keys, nil
}

// tokens are those of the accepted fleet for one server, read once a fleet, or
// that of the node file where the fleet names none.
type tokens struct {
	server string
	node   schema.Secret
	keys   schema.Keys
	fleet  func() *schema.Fleet
	log    *slog.Logger

	mu   sync.Mutex
	of   *schema.Fleet
	good []api.Token
}

func (t *tokens) list() []api.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.fleet()
	if f == t.of || f == nil {
		return t.good
	}
	t.of, t.good = f, nil
	for name, declared := range f.Servers[t.server].Tokens {
		token := api.Token{Allow: declared.Allow, Expires: declared.ExpiresAt}
		if declared.Realm != "" {
			t.log.Warn("the token is bound to a realm, which this version cannot keep it to; it opens nothing", "token", name)
			continue
		}
		if declared.SHA256 != "" {
			if _, err := hex.Decode(token.SHA256[:], []byte(declared.SHA256)); err != nil {
				continue // the schema lets none through
			}
		} else {
			value, err := declared.Value.Reveal(t.keys)
			if err != nil || value == "" {
				t.log.Warn("the token cannot be read; it opens nothing", "token", name, "err", err)
				continue
			}
			token.SHA256 = sha256.Sum256([]byte(value))
		}
		t.good = append(t.good, token)
	}
	if len(f.Servers[t.server].Tokens) == 0 && !t.node.IsZero() {
		value, err := t.node.Reveal(t.keys)
		if err != nil || value == "" {
			t.log.Warn("the token of the node file cannot be read; it opens nothing", "err", err)
			return t.good
		}
		t.good = []api.Token{{Allow: []string{"push", "read"}, SHA256: sha256.Sum256([]byte(value))}}
	}
	return t.good
}
