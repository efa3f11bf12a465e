package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgppacket "github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/hiddeco/sshsig"
	gossh "golang.org/x/crypto/ssh"
)

// namespace is what Git signs in (gitformat-signature(5)).
const namespace = "git"

// Signer is who signed a commit, of the signers given: lines of an OpenSSH
// allowed_signers file, and armored OpenPGP public keys. An error says why the
// signature counts for nothing. The commit is the raw object; what a key may
// do is judged at now.
func Signer(commit []byte, ssh, pgp []string, now time.Time) (string, error) {
	payload, signature, err := detach(commit)
	if err != nil {
		return "", err
	}
	switch {
	case bytes.HasPrefix(signature, []byte("-----BEGIN SSH SIGNATURE-----")):
		return sshSigner(payload, signature, ssh, now)
	case bytes.HasPrefix(signature, []byte("-----BEGIN PGP ")):
		return pgpSigner(payload, signature, pgp, now)
	}
	return "", errors.New("its signature is neither of SSH nor of OpenPGP")
}

// detach takes the one signature out of a commit. All else is what was signed.
func detach(commit []byte) (payload, signature []byte, err error) {
	head, message, ok := bytes.Cut(commit, []byte("\n\n"))
	if !ok {
		return nil, nil, errors.New("it is no commit")
	}
	within, found := false, false
	for line := range bytes.Lines(append(bytes.Clone(head), '\n')) {
		name, rest, _ := bytes.Cut(line, []byte(" "))
		switch {
		case within && line[0] == ' ':
			signature = append(signature, line[1:]...)
			continue
		case string(name) == "gpgsig" && found, string(name) == "gpgsig-sha256":
			return nil, nil, errors.New("it has more than one signature")
		case string(name) == "gpgsig":
			within, found = true, true
			signature = append(signature, rest...)
			continue
		}
		within = false
		payload = append(payload, line...)
	}
	if !found {
		return nil, nil, errors.New("it is not signed")
	}
	return append(append(payload, '\n'), message...), signature, nil
}

func sshSigner(payload, signature []byte, allowed []string, now time.Time) (string, error) {
	sig, err := sshsig.Unarmor(signature)
	if err != nil {
		return "", fmt.Errorf("its SSH signature cannot be read: %w", err)
	}
	if sig.Signature.Format == gossh.KeyAlgoRSA { // SHA-1, which PROTOCOL.sshsig forbids
		return "", errors.New("its SSH signature is made with SHA-1")
	}
	for _, line := range allowed {
		who, key, err := signerOf(line, now)
		if err != nil || !bytes.Equal(key.Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(payload), sig, key, sig.HashAlgorithm, namespace); err != nil {
			return "", fmt.Errorf("its SSH signature is wrong: %w", err)
		}
		return who, nil
	}
	return "", fmt.Errorf("the key that signed it, %s, is no signer's, or not any more", gossh.FingerprintSHA256(sig.PublicKey))
}

// signerOf reads a line of an allowed_signers file (ssh-keygen(1)). One with an
// option that is not known, or whose key may not sign commits now, is an error.
func signerOf(line string, now time.Time) (principals string, _ gossh.PublicKey, _ error) {
	principals, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	key, _, options, _, err := gossh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return "", nil, err
	}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			fits := false
			for pattern := range strings.SplitSeq(value, ",") {
				ok, err := path.Match(pattern, namespace)
				fits = fits || ok && err == nil
			}
			if !fits {
				return "", nil, errors.New("not for commits")
			}
		case "valid-after", "valid-before":
			at, err := when(value)
			if err != nil || now.Before(at) == (name == "valid-after") {
				return "", nil, errors.New("not now")
			}
		default: // cert-authority among them
			return "", nil, fmt.Errorf("the option %s is not known", name)
		}
	}
	return principals, key, nil
}

// when reads YYYYMMDD[HHMM[SS]], in the node's time or with a Z in UTC.
func when(value string) (time.Time, error) {
	in := time.Local
	if v, ok := strings.CutSuffix(value, "Z"); ok {
		value, in = v, time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) == len(value) {
			return time.ParseInLocation(layout, value, in)
		}
	}
	return time.Time{}, errors.New("no time")
}

func pgpSigner(payload, signature []byte, keys []string, now time.Time) (string, error) {
	if bytes.Count(signature, []byte("-----BEGIN")) != 1 {
		return "", errors.New("it has more than one signature")
	}
	var ring openpgp.EntityList
	for _, k := range keys {
		some, err := openpgp.ReadArmoredKeyRing(strings.NewReader(k))
		if err != nil {
			continue // the others may be in order
		}
		ring = append(ring, some...)
	}
	by, err := openpgp.CheckArmoredDetachedSignature(ring, bytes.NewReader(payload), bytes.NewReader(signature),
		&pgppacket.Config{Time: func() time.Time { return now }})
	if err != nil {
		return "", fmt.Errorf("its OpenPGP signature is no signer's, or wrong: %w", err)
	}
	return fmt.Sprintf("%X", by.PrimaryKey.Fingerprint), nil
}

// Signer is who signed a commit of the repository: see the function.
func (l Local) Signer(_ context.Context, commit string, ssh, pgp []string) (string, error) {
	_, all, err := open(l.Path, l.Names)
	if err != nil {
		return "", fmt.Errorf("open repository %s: %w", l.Path, err)
	}
	raw, err := rawObject(all, plumbing.NewHash(commit))
	if err != nil {
		return "", err
	}
	return Signer(raw, ssh, pgp, time.Now())
}

// rawObject is a commit byte for byte.
func rawObject(all *objects, hash plumbing.Hash) ([]byte, error) {
	o, err := all.EncodedObject(plumbing.CommitObject, hash)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	r, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, maxCommit))
	if err == nil && plumbing.ComputeHash(plumbing.CommitObject, raw) != hash {
		err = errors.New("it is damaged")
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	return raw, nil
}
