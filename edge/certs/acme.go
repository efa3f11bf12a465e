package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	protocol "github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// acme has certificates issued by an authority (RFC 8555): for the zone at
// once, by DNS-01 alone, so that no host of a container is ever told to
// anybody; for a domain when a visitor first asks for it. What was issued is
// kept on disk and renewed when the authority says (RFC 9773).
//
// Until a certificate is there the server's own authority stands in.
type acme struct {
	log       *slog.Logger
	directory string
	standIn   *leaves
	names     atomic.Pointer[Names]

	cache  *certmagic.Cache
	zone   *certmagic.Config // nil without a DNS provider
	domain *certmagic.Config
	plain  *certmagic.ACMEIssuer // answers HTTP-01

	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once
	done   sync.WaitGroup

	mu       sync.Mutex
	attempts map[string]*attempt // by the name of a certificate
	failures map[string]failure  // of renewals
}

// attempt is what is known about obtaining a certificate that is not there.
type attempt struct {
	cancel context.CancelFunc // nil: none is under way
	failed int                // in a row
	err    error              // of the last one
	next   time.Time          // not before
	timer  *time.Timer        // of names that nobody need ask for
}

type failure struct {
	err error
	at  time.Time
}

// An attempt ends after attemptTimeout; the next is not made before firstPause,
// which doubles up to lastPause: authorities count failures.
const (
	attemptTimeout = 10 * time.Minute
	firstPause     = time.Minute
	lastPause      = 6 * time.Hour

	// loadTimeout bounds how long a change waits for what is on disk.
	loadTimeout = 3 * time.Second
)

func newACME(s Settings, dir string, ca *CA, log *slog.Logger) (*acme, error) {
	if s.Directory == "" {
		return nil, errors.New("the authority's directory is missing")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &acme{
		log: log, directory: s.Directory, standIn: newLeaves(ca),
		attempts: map[string]*attempt{}, failures: map[string]failure{},
	}
	a.names.Store(&Names{})
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.cache = certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: a.configOf, Logger: zap.NewNop()})

	issuer := certmagic.ACMEIssuer{
		CA: s.Directory, Email: s.Email, Agreed: true, Logger: zap.NewNop(),
		DisableHTTPChallenge: true, DisableTLSALPNChallenge: true,
		NewAccountFunc: withoutPlaceholder,
	}
	if s.Provider != "" {
		solver, err := newSolver(s.Provider, s.Options, s.Node)
		if err != nil {
			a.close()
			return nil, err
		}
		byDNS := issuer
		byDNS.DNS01Solver = solver
		a.zone, _ = a.config(dir, byDNS)
	}
	// certmagic opens a port of its own for challenges unless it finds that
	// somebody answers there: this server does.
	host, port := listening(s.TLSAddr)
	issuer.ListenHost, issuer.AltTLSALPNPort, issuer.DisableTLSALPNChallenge = host, port, port == 0
	if plainHost, port := listening(s.HTTPAddr); port != 0 && (plainHost == host || s.TLSAddr == "") {
		issuer.ListenHost, issuer.AltHTTPPort, issuer.DisableHTTPChallenge = plainHost, port, false
	}
	a.domain, a.plain = a.config(dir, issuer)
	return a, nil
}

// withoutPlaceholder takes out of a new account the contact "default", which is
// certmagic's folder for accounts without one: of two orders at once the second
// takes the folder's name for an address, which authorities refuse.
func withoutPlaceholder(_ context.Context, _ *certmagic.ACMEIssuer, account protocol.Account) (protocol.Account, error) {
	account.Contact = slices.DeleteFunc(account.Contact, func(c string) bool { return c == "mailto:default" })
	return account, nil
}

func (a *acme) config(dir string, template certmagic.ACMEIssuer) (*certmagic.Config, *certmagic.ACMEIssuer) {
	config := certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: dir}, Logger: zap.NewNop(), OnEvent: a.event,
	})
	issuer := certmagic.NewACMEIssuer(config, template)
	config.Issuers = []certmagic.Issuer{issuer}
	return config, issuer
}

// listening takes an address apart; every way to say "all of them" becomes one.
func listening(addr string) (host string, port int) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	port, _ = strconv.Atoi(text)
	return host, port
}

// configOf tells certmagic how a certificate is renewed.
func (a *acme) configOf(c certmagic.Certificate) (*certmagic.Config, error) {
	return a.configFor(c.Names[0])
}

func (a *acme) configFor(name string) (*certmagic.Config, error) {
	n, ok := a.names.Load().find(name, time.Now())
	switch {
	case !ok:
		return nil, fmt.Errorf("%s is not served any more", name)
	case !n.zone:
		return a.domain, nil
	case a.zone == nil:
		return nil, errors.New("tls.dns is missing: only DNS-01 gives a wildcard")
	default:
		return a.zone, nil
	}
}

// follow reads from disk what was issued for new names, begins to obtain what
// the zone lacks, and forgets names that are gone.
func (a *acme) follow(names Names) {
	before := a.names.Swap(&names)
	a.standIn.follow(names)
	wanted := wantedOf(names)
	var gone []certmagic.SubjectIssuer
	for _, name := range wantedOf(*before) {
		if !slices.Contains(wanted, name) {
			gone = append(gone, certmagic.SubjectIssuer{Subject: name})
			a.forget(name)
		}
	}
	a.cache.RemoveManaged(gone)

	loaded := make(chan struct{})
	a.done.Go(func() {
		defer close(loaded)
		a.load(wanted)
	})
	select {
	case <-loaded:
	case <-time.After(loadTimeout):
	}
	if a.zone != nil {
		for _, name := range zoneOf(names) {
			a.want(name)
		}
	}
}

// zoneOf are the two certificates of a zone.
func zoneOf(names Names) []string {
	if names.Zone == "" {
		return nil
	}
	return []string{"*." + names.Zone, names.Zone}
}

func wantedOf(names Names) []string {
	return append(zoneOf(names), slices.Sorted(maps.Keys(names.Domains))...)
}

// load takes what is on disk. An expired one too: visitors are told so by their
// browser, and it is replaced as soon as the authority answers.
func (a *acme) load(names []string) {
	for _, name := range names {
		config, err := a.configFor(name)
		if err != nil || a.cached(name) != nil {
			continue
		}
		_, _ = config.CacheManagedCertificate(a.ctx, name) // none is the usual case
	}
}

// cached is the certificate for a host that ends last; nil if there is none.
func (a *acme) cached(host string) *tls.Certificate {
	var best *tls.Certificate
	for _, c := range a.cache.AllMatchingCertificates(host) {
		if best == nil || c.Leaf.NotAfter.After(best.Leaf.NotAfter) {
			best = &c.Certificate
		}
	}
	return best
}

func (a *acme) certificate(hello *tls.ClientHelloInfo, n need) *tls.Certificate {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol { // RFC 8737, section 3
		if n.zone {
			return nil
		}
		cert, err := a.domain.GetCertificate(hello)
		if err != nil {
			return nil
		}
		return cert
	}
	host := n.host
	if hello.ServerName == "" {
		host = "*." + n.subject // what is most asked for
	}
	if cert := a.cached(host); cert != nil {
		return cert
	}
	if n.zone || n.closed {
		return a.standIn.certificate(hello, n)
	}
	a.want(n.subject)
	return a.standIn.certificate(hello, n)
}

// pending is about domains only: the server's own authority is good enough for
// the zone until another takes over.
func (a *acme) pending(n need) bool {
	if n.zone || n.closed || a.cached(n.host) != nil {
		return false
	}
	a.want(n.subject)
	return true
}

func (a *acme) challenge(w http.ResponseWriter, r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if n, ok := a.names.Load().find(host, time.Now()); !ok || n.zone || n.closed {
		return false
	}
	return a.plain.HandleHTTPChallenge(w, r)
}

func (a *acme) close() {
	a.once.Do(func() {
		a.cancel()
		a.mu.Lock()
		for _, t := range a.attempts {
			if t.timer != nil {
				t.timer.Stop()
			}
		}
		a.mu.Unlock()
		a.cache.Stop()
	})
	a.done.Wait()
}
