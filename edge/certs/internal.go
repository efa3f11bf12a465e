package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
	"time"
)

// leafLifetime counts from the back-dated start. A leaf is replaced when less
// than a third of it is left.
const leafLifetime = 90 * 24 * time.Hour

// leaves are certificates of the server's own authority, made when they are
// first asked for and kept in memory: one for the zone with all below it, and
// one for each domain, so that nobody reads the list of all in a certificate.
type leaves struct {
	ca *CA

	mu        sync.Mutex
	bySubject map[string]*tls.Certificate
}

func newLeaves(ca *CA) *leaves {
	return &leaves{ca: ca, bySubject: map[string]*tls.Certificate{}}
}

// certificate makes a leaf under the lock: that takes less than a handshake
// does.
func (l *leaves) certificate(_ *tls.ClientHelloInfo, n need) *tls.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.bySubject[n.subject]
	if n.closed || known != nil && time.Until(known.Leaf.NotAfter) >= leafLifetime/3 {
		return known
	}
	names := []string{n.subject}
	if n.zone {
		names = append(names, "*."+n.subject)
	}
	made, err := l.ca.sign(names)
	if err != nil { // no randomness: nothing works then
		return known
	}
	l.bySubject[n.subject] = made
	return made
}

// follow forgets the leaves of names that nobody asks for any more.
func (l *leaves) follow(names Names) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for subject := range l.bySubject {
		if _, ok := names.find(subject, time.Time{}); !ok {
			delete(l.bySubject, subject)
		}
	}
}

func (*leaves) pending(need) bool { return false }

func (*leaves) challenge(http.ResponseWriter, *http.Request) bool { return false }

func (l *leaves) warnings() []string {
	return soon("swage's own authority", l.ca.cert)
}

func (*leaves) close() {}

// sign makes a certificate for a server of these names.
func (ca *CA) sign(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
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
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key, Leaf: parsed}, nil
}
