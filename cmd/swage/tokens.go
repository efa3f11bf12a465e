package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"swage/reconcile/api"
	"swage/schema"
)

// tokens are those of the accepted fleet for one server, read once a fleet,
// those of the node file's keys and, until one of the fleet allows push, that of
// the node file.
type tokens struct {
	node  schema.Node
	keys  schema.Keys // of the fleet
	fleet func() *schema.Fleet
	log   *slog.Logger

	mu   sync.Mutex
	read bool // of is not merely the first nil
	of   *schema.Fleet
	good tokenSet
}

// tokenSet are the tokens that could be read.
type tokenSet struct {
	fleet    []api.Token
	named    []api.Token // these and the keys of the node file
	withNode []api.Token // these and the token of the node file
}

func (t *tokens) list() []api.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.fleet(); !t.read || f != t.of && f != nil {
		t.read, t.of, t.good = true, f, t.under(f, func(name string, err error) {
			t.log.Warn("the token cannot be read; it opens nothing", "token", name, "err", err)
		})
	}
	// A token may have expired since the last call.
	if t.pushable(t.good.fleet, time.Now()) {
		return t.good.named
	}
	return t.good.withNode
}

// under are the tokens that count once a fleet is accepted; nil: none is.
func (t *tokens) under(f *schema.Fleet, unreadable func(name string, err error)) tokenSet {
	var out tokenSet
	add := func(to []api.Token, name string, declared schema.Token, keys schema.Keys) []api.Token {
		token, err := t.reveal(name, declared, keys)
		if err != nil {
			unreadable(name, err)
			return to
		}
		return append(to, token)
	}
	if f != nil {
		for name, token := range f.Servers[t.node.Server].Tokens {
			out.fleet = add(out.fleet, name, token, t.keys)
		}
	}
	out.named = slices.Clip(out.fleet)
	for name, key := range t.node.Source.SSH.Keys {
		out.named = add(out.named, name, key, nodeKeys())
	}
	out.withNode = out.named
	if !t.node.Token.IsZero() {
		own := schema.Token{Value: t.node.Token, Allow: []string{"push", "read"}}
		out.withNode = add(slices.Clip(out.named), "the token of the node file", own, nodeKeys())
	}
	return out
}

// reveal takes a token that can be read.
func (t *tokens) reveal(name string, declared schema.Token, keys schema.Keys) (api.Token, error) {
	token := api.Token{Name: name, Allow: declared.Allow, Expires: declared.ExpiresAt, Realm: declared.Realm}
	if token.Realm != "" && slices.ContainsFunc(token.Allow, func(right string) bool { return right != "push" }) {
		t.log.Warn("the token is bound to a realm, and the API shows all; it takes pushes at most", "token", name)
		token.Allow = slices.DeleteFunc(slices.Clone(token.Allow), func(right string) bool { return right != "push" })
	}
	switch {
	case declared.SSHKey != nil:
		token.Key, token.SHA256 = true, sha256.Sum256(declared.SSHKey)
	case declared.SHA256 != "":
		if _, err := hex.Decode(token.SHA256[:], []byte(declared.SHA256)); err != nil {
			return token, err // the schema lets none through
		}
	default:
		value, err := declared.Value.Reveal(keys)
		if err != nil {
			return token, err
		}
		if value == "" {
			return token, fmt.Errorf("it is empty")
		}
		token.SHA256 = sha256.Sum256([]byte(value))
	}
	return token, nil
}

// pushable reports whether one of the tokens lets somebody push who is held to
// no realm: only that may change the server's file.
func (t *tokens) pushable(some []api.Token, now time.Time) bool {
	return slices.ContainsFunc(some, func(token api.Token) bool {
		return slices.Contains(token.Allow, "push") && token.Realm == "" && (token.Expires.IsZero() || now.Before(token.Expires)) &&
			(!token.Key || t.node.Source.SSH.Listen != "")
	})
}

// lockout says where a fleet that is pushed leaves nobody who could push the
// next commit: no token of its own, of the node file, nor a key.
func (t *tokens) lockout(f *schema.Fleet, now time.Time) error {
	var unread []string
	good := t.under(f, func(name string, err error) {
		unread = append(unread, fmt.Sprintf("%s cannot be read (%v)", name, err))
	})
	if t.pushable(good.withNode, now) {
		return nil
	}
	server := f.Servers[t.node.Server]
	why := "no token of the server allows \"push\" outside of a realm"
	for name, token := range server.Tokens {
		if slices.Contains(token.Allow, "push") && token.Realm == "" && !token.ExpiresAt.IsZero() && !now.Before(token.ExpiresAt) {
			unread = append(unread, fmt.Sprintf("%s has expired", name))
		}
		if slices.Contains(token.Allow, "push") && token.SSHKey != nil && t.node.Source.SSH.Listen == "" {
			unread = append(unread, fmt.Sprintf("%s is a key, and the node file has no source.ssh", name))
		}
	}
	if len(unread) > 0 {
		slices.Sort(unread)
		why += " (" + strings.Join(unread, "; ") + ")"
	}
	return schema.Problems{{
		Pos: server.At("tokens"), Path: "tokens",
		Message: "nobody could push any more: " + why + `; keep one, or give the next in the same commit, as in deploy: {value_sha256: "…", allow: ["push"]}`,
	}}
}
