// Package certs gives a server its certificates, handshake by handshake: from
// an authority of the server's own, from files, or by ACME. Where they come
// from, and which names there are, may change at any time without a listener
// or a connection noticing.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
)

// Kinds of sources.
const (
	Internal = "internal" // the server's own authority
	Files    = "files"
	ACME     = "acme" // RFC 8555
)

// Settings say where certificates come from.
type Settings struct {
	Kind string // empty: Internal

	Files []Pair // of Files

	// Of ACME: the authority's directory, whom it may write to, and the
	// provider by which the records of DNS-01 are set, with its options.
	// Without a provider there is no certificate for the zone.
	Directory, Email string
	Provider         string
	Options          map[string]string // secrets among them
	Node             Node              // what the provider may use of this machine

	// HTTPAddr and TLSAddr are where the server itself listens, as
	// "host:port", and answers challenges. Without one that challenge is not
	// offered.
	HTTPAddr, TLSAddr string
}

// issuer is one kind of source. All methods may be called at once.
type issuer interface {
	// certificate returns nil where there is none, which refuses the
	// handshake. It does not wait for anybody.
	certificate(*tls.ClientHelloInfo, need) *tls.Certificate
	// pending says that what certificate gives stands in for one that is
	// still being obtained.
	pending(need) bool
	// challenge answers an authority that asks over plain HTTP; false says
	// that nothing was written.
	challenge(http.ResponseWriter, *http.Request) bool
	follow(Names)
	warnings() []string // for the operator, in order
	close()
}

// Source gives the certificate of each handshake. It is safe for concurrent
// use.
type Source struct {
	ca   *CA
	dir  string // what ACME obtained
	read ReadFile
	log  *slog.Logger

	mu    sync.Mutex // held while state is replaced
	state atomic.Pointer[state]

	tickets *tls.Config // has the keys of session tickets, for all listeners
}

type state struct {
	settings Settings
	names    Names
	issuer   issuer
}

// ReadFile returns what a file holds, or an error if that is more than limit
// bytes. Whoever gives one decides which files may be read; it must not wait
// for a writer.
type ReadFile func(path string, limit int64) ([]byte, error)

// New returns a Source of the server's own authority that knows no name yet.
// What ACME obtains is kept in the folder dir, for its owner only. Files that
// Settings name are read by read.
func New(ca *CA, dir string, read ReadFile, log *slog.Logger) *Source {
	s := &Source{ca: ca, dir: dir, read: read, log: log, tickets: &tls.Config{}}
	s.state.Store(&state{settings: Settings{Kind: Internal}, issuer: newLeaves(ca)})
	return s
}

// Follow takes the names that the server answers for, from the next handshake
// on.
func (s *Source) Follow(names Names) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	if now.names.equal(names) {
		return
	}
	s.state.Store(&state{now.settings, names, now.issuer})
	now.issuer.follow(names)
}

// Use takes certificates from elsewhere, from the next handshake on. The same
// settings again do nothing. After an error all is as it was. What cannot be
// had at the moment is no error, but one of Warnings.
func (s *Source) Use(settings Settings) error {
	if settings.Kind == "" {
		settings.Kind = Internal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	if reflect.DeepEqual(now.settings, settings) {
		return nil
	}
	var next issuer
	var err error
	switch settings.Kind {
	case Internal:
		next = newLeaves(s.ca)
	case Files:
		if len(settings.Files) == 0 {
			return fmt.Errorf("certificates come from %q, and none is named", Files)
		}
		next = newFiles(settings.Files, now.issuer, s.read, s.log)
	case ACME:
		if next, err = newACME(settings, s.dir, s.ca, s.log); err != nil {
			return err
		}
	default:
		return fmt.Errorf("certificates come from %q, %q or %q, not %q", ACME, Files, Internal, settings.Kind)
	}
	next.follow(now.names)
	s.state.Store(&state{settings, now.names, next})
	now.issuer.close()
	return nil
}

// Close ends what goes on in the background. Certificates that are there are
// given further.
func (s *Source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Load().issuer.close()
}

// Pending says that the certificate of a name is still being obtained, so that
// clients are given a stand-in that they have no reason to trust.
func (s *Source) Pending(serverName string) bool {
	now := s.state.Load()
	n, ok := now.names.find(serverName, time.Now())
	return ok && now.issuer.pending(n)
}

// Challenge answers a certificate authority that checks over plain HTTP whether
// a name leads here (RFC 8555, section 8.3), and reports whether it was one.
func (s *Source) Challenge(w http.ResponseWriter, r *http.Request) bool {
	return s.state.Load().issuer.challenge(w, r)
}

// Public says that strangers can verify the certificates, unlike those of the
// server's own authority.
func (s *Source) Public() bool { return s.state.Load().settings.Kind != Internal }

// Warnings are what the operator should know, in a steady order: names without
// a certificate, and why; certificates that end soon.
func (s *Source) Warnings() []string { return s.state.Load().issuer.warnings() }

// TLSConfig returns a server's configuration, which follows all changes: TLS
// 1.2 or later with forward secrecy and authenticated ciphers (RFC 9325,
// section 4.2), HTTP/2 and HTTP/1.1. A client that asks for a name that the
// server does not answer for is refused with the alert unrecognized_name (RFC
// 6066, section 3); one that names nothing gets the zone's certificate.
func (s *Source) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Of TLS 1.2: those without CBC. The suites of 1.3 are all good.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// The last is for authorities (RFC 8737); a client that speaks it alone
		// gets nothing but a challenge.
		NextProtos:     []string{"h2", "http/1.1", acmez.ACMETLS1Protocol},
		GetCertificate: s.certificate,
		WrapSession:    s.wrapSession,
		UnwrapSession:  s.unwrapSession,
	}
}

func (s *Source) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := s.state.Load()
	n, ok := now.names.find(hello.ServerName, time.Now())
	if !ok {
		return nil, nil // unrecognized_name
	}
	return now.issuer.certificate(hello, n), nil
}

// soon warns of the end of a certificate: two weeks before, or in the last
// quarter of one that does not last long.
func soon(what string, leaf *x509.Certificate) []string {
	left := time.Until(leaf.NotAfter)
	switch {
	case left <= 0:
		return []string{fmt.Sprintf("%s has expired at %s", what, leaf.NotAfter.UTC().Format(time.RFC3339))}
	case left < min(14*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/4):
		return []string{fmt.Sprintf("%s expires at %s", what, leaf.NotAfter.UTC().Format(time.RFC3339))}
	}
	return nil
}
