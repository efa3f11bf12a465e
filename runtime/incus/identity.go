package incus

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// newIdentity replaces what tells a stopped copy from its source for programs
// inside: the machine-id, by which networkd asks for an address, and the host
// keys of an SSH server. What the source has not, the copy does not get.
func (r *Runtime) newIdentity(ctx context.Context, at place) error {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		have, err := r.readFile(ctx, at, path)
		if err != nil {
			return err
		}
		// Not an empty file: with that systemd believes that it never ran, and
		// enables its services anew. Not a link to the other file.
		if b, err := hex.DecodeString(strings.TrimSpace(have)); err != nil || len(b) != 16 {
			continue
		}
		var id [16]byte
		rand.Read(id[:]) // never fails (crypto/rand, Go 1.24)
		if err := r.writeFile(ctx, at, path, "0444", hex.EncodeToString(id[:])+"\n"); err != nil {
			return err
		}
	}
	names, err := r.readDir(ctx, at, "/etc/ssh")
	if err != nil {
		return err
	}
	for _, name := range names {
		kind, ok := strings.CutPrefix(name, "ssh_host_")
		kind, private := strings.CutSuffix(kind, "_key")
		if !ok || !private {
			continue
		}
		if err := r.newHostKey(ctx, at, kind); err != nil {
			return fmt.Errorf("new SSH host key %s: %w", name, err)
		}
	}
	return nil
}

func (r *Runtime) newHostKey(ctx context.Context, at place, kind string) error {
	var key crypto.Signer
	var err error
	path := "/etc/ssh/ssh_host_" + kind + "_key"
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	default: // sshd does without
		return r.removeFile(ctx, at, path)
	}
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := r.writeFile(ctx, at, path, "0600", string(pem.EncodeToMemory(block))); err != nil {
		return err
	}
	return r.writeFile(ctx, at, path+".pub", "0644", string(ssh.MarshalAuthorizedKey(public)))
}
