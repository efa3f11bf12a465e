package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"filippo.io/age"

	"swage/reconcile/api"
	"swage/reconcile/git"
	"swage/reconcile/hostfile"
	"swage/schema"
)

// nodeKeys is what secrets of the node file itself are read with: the operator
// may name any file and any variable.
func nodeKeys() schema.Keys {
	return schema.Keys{
		ReadFile:  func(name string) ([]byte, error) { return hostfile.Read(name, schema.MaxSecret) },
		LookupEnv: os.LookupEnv,
	}
}

// fleetKeys is what secrets of the repository are read with: of this node's
// files and variables only those that the node file lists. The files are
// watched by whoever runs the Watch.
func fleetKeys(n schema.Node) (schema.Keys, *hostfile.Watch, error) {
	files := &hostfile.Watch{Folders: n.SecretFolders}
	keys := schema.Keys{
		ReadFile: func(name string) ([]byte, error) { return files.Read(name, schema.MaxSecret) },
		LookupEnv: func(name string) (string, bool) {
			if !slices.Contains(n.SecretVariables, name) {
				return "", false
			}
			return os.LookupEnv(name)
		},
	}
	if n.AgeIdentities == "" {
		return keys, files, nil
	}
	f, err := os.Open(n.AgeIdentities)
	if err != nil {
		return keys, files, fmt.Errorf("age_identities: %w", err)
	}
	defer f.Close()
	if keys.Identities, err = age.ParseIdentities(f); err != nil {
		return keys, files, fmt.Errorf("age_identities: %s: %w", n.AgeIdentities, err)
	}
	return keys, files, nil
}

// certificateFolders are where the certificates of the server's file may lie.
func certificateFolders(n schema.Node) hostfile.Folders {
	return slices.Concat(n.CertificateFolders, n.SecretFolders)
}

// tokens are those of the accepted fleet for one server, read once a fleet, or
// that of the node file where the fleet names none; and the node file's keys.
type tokens struct {
	node  schema.Node
	keys  schema.Keys // of the fleet
	fleet func() *schema.Fleet
	log   *slog.Logger

	mu   sync.Mutex
	read bool // of is not merely the first nil
	of   *schema.Fleet
	good []api.Token
}

func (t *tokens) list() []api.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.fleet()
	if t.read && (f == t.of || f == nil) {
		return t.good
	}
	t.read, t.of, t.good = true, f, nil
	for name, key := range t.node.Source.SSH.Keys {
		t.add(name, key, nodeKeys())
	}
	if f == nil {
		return t.good
	}
	declared := f.Servers[t.node.Server].Tokens
	for name, token := range declared {
		t.add(name, token, t.keys)
	}
	if len(declared) == 0 && !t.node.Token.IsZero() {
		t.add("the token of the node file", schema.Token{Value: t.node.Token, Allow: []string{"push", "read"}}, nodeKeys())
	}
	return t.good
}

// add takes a token that can be read.
func (t *tokens) add(name string, declared schema.Token, keys schema.Keys) {
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
			return // the schema lets none through
		}
	default:
		value, err := declared.Value.Reveal(keys)
		if err != nil || value == "" {
			t.log.Warn("the token cannot be read; it opens nothing", "token", name, "err", err)
			return
		}
		token.SHA256 = sha256.Sum256([]byte(value))
	}
	t.good = append(t.good, token)
}

// visitor is whose token it is, as git knows it.
func visitor(t api.Token, ok bool) (git.Visitor, bool) {
	return git.Visitor{Name: t.Name, Realm: t.Realm}, ok
}
