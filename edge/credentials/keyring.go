package credentials

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync"
)

// keysFor are the keys that a token may be signed with.
func (c *Checker) keysFor(ctx context.Context, rules *Rules, kid string) ([]any, error) {
	switch shared := strings.HasPrefix(rules.Algorithm, "HS"); {
	case shared && len(rules.Secret) > 0 && rules.PublicKey == "" && rules.JWKSURL == "":
		return []any{rules.Secret}, nil
	case shared || len(rules.Secret) > 0:
		return nil, nil // a public key is no secret
	case rules.PublicKey != "" && rules.JWKSURL == "":
		if key := c.keys.read(rules.PublicKey); fits(key, rules.Algorithm) {
			return []any{key}, nil
		}
		return nil, nil
	case rules.JWKSURL != "" && rules.PublicKey == "":
		return c.sets.keys(ctx, rules.JWKSURL, kid, rules.Algorithm, c.now)
	}
	return nil, nil
}

// keyring remembers keys that were read from PEM. Its zero value is ready.
type keyring struct {
	mu sync.Mutex
	of map[string]any // nil where there is no key
}

// maxRing bounds the keys that are remembered; beyond it all are read anew.
const maxRing = 1024

func (k *keyring) read(text string) any {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, known := k.of[text]; known {
		return key
	}
	if k.of == nil || len(k.of) >= maxRing {
		k.of = map[string]any{}
	}
	k.of[text] = ParseKey(text)
	return k.of[text]
}

// ParseKey reads a public key in PEM; nil if there is none.
func ParseKey(text string) any {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	if block.Type == "RSA PUBLIC KEY" {
		if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return key
		}
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil
	}
	return key
}
