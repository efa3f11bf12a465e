package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"
)

// leafLifetime counts from the back-dated start. A leaf is replaced when less
// than a third of it is left.
const leafLifetime = 90 * 24 * time.Hour

// leaf is a certificate with the names that it holds for. It is never written
// once it is made.
type leaf struct {
	names []string // sorted
	cert  *tls.Certificate
}

// SetNames makes and serves a certificate for exactly these DNS names, each of
// which may be a wildcard such as "*.example.com". Calling it again with the
// same names does nothing.
func (ca *CA) SetNames(names ...string) error {
	sorted := make([]string, 0, len(names))
	for _, name := range names {
		sorted = append(sorted, strings.ToLower(name))
	}
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if len(sorted) == 0 {
		return errors.New("certificate without names")
	}

	ca.minting.Lock()
	defer ca.minting.Unlock()
	if now := ca.leaf.Load(); now != nil && slices.Equal(now.names, sorted) {
		return nil
	}
	return ca.mint(sorted)
}

// TLSConfig returns a server's configuration: TLS 1.2 or later, HTTP/2 and
// HTTP/1.1, the certificate of the names set last. A client that asks for
// another name is refused with the alert unrecognized_name (RFC 6066, section
// 3); one that asks for none gets the certificate.
func (ca *CA) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: ca.certificate,
	}
}

// certificate renews when it is called and the time has come, which needs no
// goroutine. One handshake does the work; the others go on with the leaf that
// is still good.
func (ca *CA) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l := ca.leaf.Load()
	if l == nil || !l.covers(hello.ServerName) {
		return nil, nil // unrecognized_name
	}
	now := time.Now()
	left := l.cert.Leaf.NotAfter.Sub(now)
	if left >= leafLifetime/3 {
		return l.cert, nil
	}
	if left > 0 {
		if !ca.minting.TryLock() {
			return l.cert, nil
		}
	} else {
		ca.minting.Lock()
	}
	defer ca.minting.Unlock()
	if newer := ca.leaf.Load(); newer == l {
		if err := ca.mint(l.names); err != nil {
			return nil, err
		}
	}
	l = ca.leaf.Load()
	if !l.covers(hello.ServerName) {
		return nil, nil
	}
	return l.cert, nil
}

// covers matches a name as the client asked for it; a wildcard stands for
// exactly one label (RFC 9525, section 6.3).
func (l *leaf) covers(name string) bool {
	if name == "" {
		return true
	}
	name = strings.ToLower(name)
	if _, ok := slices.BinarySearch(l.names, name); ok {
		return true
	}
	label, parent, ok := strings.Cut(name, ".")
	if !ok || label == "" {
		return false
	}
	_, ok = slices.BinarySearch(l.names, "*."+parent)
	return ok
}

// mint replaces the leaf. The caller holds ca.minting.
func (ca *CA) mint(names []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	start := time.Now().Add(-skew)
	end := start.Add(leafLifetime)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter // a leaf that outlives its issuer is refused anyway
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		DNSNames:     names,
		NotBefore:    start,
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	ca.leaf.Store(&leaf{names: names, cert: &tls.Certificate{
		Certificate: [][]byte{der, ca.cert.Raw},
		PrivateKey:  key,
		Leaf:        parsed,
	}})
	return nil
}
