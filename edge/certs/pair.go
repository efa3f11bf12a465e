package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Pair names files in PEM: a chain, the server's certificate first, and its
// private key. The two may be one file.
type Pair struct{ Certificate, Key string }

// maxPEM bounds a file: a chain has a few KiB.
const maxPEM = 1 << 20

// loadPair reads a pair whole, or not at all: a certificate that is beside
// another's key is on its way to be replaced.
func loadPair(p Pair, read ReadFile) (*tls.Certificate, error) {
	chain, err := read(p.Certificate, maxPEM)
	if err != nil {
		return nil, err
	}
	key, err := read(p.Key, maxPEM)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", p.Certificate, p.Key, err)
	}
	if len(cert.Leaf.DNSNames) == 0 {
		return nil, fmt.Errorf("%s: the first certificate holds for no DNS name", p.Certificate)
	}
	return &cert, nil
}

// readable warns of a key that every user of the node can read.
func readable(p Pair) error {
	info, err := os.Stat(p.Key)
	if err == nil && info.Mode().Perm()&0o004 != 0 {
		return errors.New(p.Key + ": every user of this node can read the key; its mode should be 0600")
	}
	return nil
}

// covers says that a certificate holds for a name (RFC 9525,
// section 6.3), which may itself be a wildcard.
func covers(leaf *x509.Certificate, name string) bool {
	_, parent, _ := strings.Cut(name, ".")
	for _, san := range leaf.DNSNames {
		san = strings.ToLower(san)
		if san == name || parent != "" && san == "*."+parent {
			return true
		}
	}
	return false
}
