package certs

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testLog shows what is logged with the test that fails.
func testLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// TestWildcardByDNS: the zone has its certificates at once, by records that are
// gone afterwards, and no name of a container is told to the authority.
func TestWildcardByDNS(t *testing.T) {
	s := newSite(t)
	eventually(t, "the wildcard is served", func() bool { return s.issued(t, s.Source, "a."+zone) != nil })
	eventually(t, "the zone's own is served", func() bool { return s.issued(t, s.Source, zone) != nil })
	if got := s.issued(t, s.Source, "secret-host."+zone).DNSNames; !slices.Equal(got, []string{"*." + zone}) {
		t.Errorf("a host of the zone is served with %q", got)
	}
	eventually(t, "the records are gone", func() bool { return s.dns.left() == 0 })
	if n := s.orders.Load(); n != 2 {
		t.Errorf("%d orders, want two", n)
	}
	if s.Pending("a." + zone) {
		t.Error("the zone is pending")
	}
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	private(t, filepath.Join(s.dir, "acme"))
}

// private: nobody but the owner can read what is stored.
func private(t testing.TB, dir string) {
	t.Helper()
	keys := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode().Perm())
		}
		if filepath.Ext(path) == ".key" {
			keys++
		}
		return err
	})
	if err != nil || keys == 0 {
		t.Errorf("%d keys, %v", keys, err)
	}
}

// TestDomainOnFirstRequest [E5]: the first visitor meets a stand-in, the next
// ones the certificate, by either challenge; after a restart it is there at
// once.
func TestDomainOnFirstRequest(t *testing.T) {
	for _, challenge := range []string{"HTTP-01", "TLS-ALPN-01"} {
		t.Run(challenge, func(t *testing.T) {
			s := newSite(t, "shop.example.com", "never.example.com")
			eventually(t, "the zone is done", func() bool { return s.issued(t, s.Source, "a."+zone) != nil && s.issued(t, s.Source, zone) != nil })
			settings := s.settings()
			if challenge == "HTTP-01" {
				settings.TLSAddr = ""
			} else {
				settings.HTTPAddr = ""
			}
			use(t, s.Source, settings)
			before := s.orders.Load()
			if !s.Pending("shop.example.com") {
				t.Error("it is not pending before anybody asked")
			}
			if _, err := handshake(t, s.Source, "shop.example.com", nil); err != nil { // trusts the stand-in
				t.Errorf("the first visitor: %v", err)
			}
			eventually(t, "the certificate is served", func() bool { return s.issued(t, s.Source, "shop.example.com") != nil })
			if s.Pending("shop.example.com") {
				t.Error("it is pending still")
			}
			if got := s.issued(t, s.Source, "shop.example.com").DNSNames; !slices.Equal(got, []string{"shop.example.com"}) {
				t.Errorf("served with %q", got)
			}
			if n := s.orders.Load() - before; n != 1 {
				t.Errorf("%d orders, want one: nobody asked for the other domain", n)
			}

			s.down.Store(true)
			again := s.start(t, "shop.example.com")
			if s.issued(t, again, "shop.example.com") == nil || s.issued(t, again, "a."+zone) == nil {
				t.Error("not there after a restart, with the authority away")
			}
		})
	}
}

// TestNotInTheTable: nobody can have a certificate ordered by asking for a
// name.
func TestNotInTheTable(t *testing.T) {
	s := newSite(t, "shop.example.com")
	eventually(t, "the zone is done", func() bool { return s.issued(t, s.Source, "a."+zone) != nil && s.issued(t, s.Source, zone) != nil })
	before := s.orders.Load()
	for _, name := range []string{"evil.example.com", "www.shop.example.com", "a.b." + zone, "example.com"} {
		for _, protocols := range [][]string{{"h2"}, {"acme-tls/1"}} {
			_, err := handshake(t, s.Source, name, func(c *tls.Config) { c.NextProtos, c.InsecureSkipVerify = protocols, true })
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%s with %v: %v", name, protocols, err)
			}
		}
		if s.Pending(name) {
			t.Errorf("%s is pending", name)
		}
	}
	// A challenge of a name that is served is answered to nobody else.
	if _, err := handshake(t, s.Source, "shop.example.com", func(c *tls.Config) {
		c.NextProtos, c.InsecureSkipVerify = []string{"acme-tls/1"}, true
	}); err == nil {
		t.Error("a challenge that nobody made is answered")
	}
	if n := s.orders.Load() - before; n != 0 {
		t.Errorf("%d orders", n)
	}
}

// TestExpiredAliasByACME [E5]: its certificate is served further; none is
// issued or renewed.
func TestExpiredAliasByACME(t *testing.T) {
	s := newSite(t, "shop.example.com")
	s.Pending("shop.example.com")
	eventually(t, "its certificate is served", func() bool { return s.issued(t, s.Source, "shop.example.com") != nil })
	eventually(t, "the zone is done", func() bool { return s.issued(t, s.Source, "a."+zone) != nil && s.issued(t, s.Source, zone) != nil })
	past := time.Now().Add(-time.Second)
	s.Follow(Names{Zone: zone, Domains: map[string]time.Time{"shop.example.com": past, "new.example.com": past}})
	before := s.orders.Load()
	leaf := s.issued(t, s.Source, "shop.example.com")
	if leaf == nil {
		t.Fatal("its certificate is not served further")
	}
	if s.Pending("new.example.com") {
		t.Error("a domain of an expired alias is pending")
	}
	if _, err := handshake(t, s.Source, "new.example.com", nil); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a domain of an expired alias without a certificate: %v", err)
	}
	s.renewNow(t, leaf)
	a := s.state.Load().issuer.(*acme)
	renew(t, a, "shop.example.com")
	if err := a.domain.RenewCertSync(t.Context(), "shop.example.com", true); err == nil || !strings.Contains(err.Error(), "its alias has expired") {
		t.Errorf("a renewal: %v", err)
	}
	if n := s.orders.Load() - before; n != 0 {
		t.Errorf("%d orders", n)
	}
	if got := s.issued(t, s.Source, "shop.example.com"); got == nil || !got.Equal(leaf) {
		t.Error("another certificate is served")
	}
}

// renew looks for what the authority wants renewed, as certmagic does each ten
// minutes; what it learned last would count for hours.
func renew(t testing.TB, a *acme, name string) {
	t.Helper()
	config, err := a.configFor(name)
	if err != nil {
		t.Fatal(err)
	}
	a.cache.RemoveManaged(subjects(name))
	askAgain(t, config, name)
	if _, err := config.CacheManagedCertificate(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := a.cache.RenewManagedCertificates(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestRenewalByARI: a certificate is replaced when the authority says, long
// before its end, and the old one is served until then. The name is its own:
// certmagic remembers for all of a process which renewals failed.
func TestRenewalByARI(t *testing.T) {
	s := newSite(t, "renewed.example.com")
	s.Pending("renewed.example.com")
	a := s.state.Load().issuer.(*acme)
	for _, name := range []string{"*." + zone, "renewed.example.com"} {
		host := strings.Replace(name, "*", "a", 1)
		eventually(t, name+" is served", func() bool { return s.issued(t, s.Source, host) != nil })
		first := s.issued(t, s.Source, host)
		renew(t, a, name)
		if got := s.issued(t, s.Source, host); got == nil || !got.Equal(first) {
			t.Errorf("%s is renewed before it is time", name)
		}
		s.renewNow(t, first)
		renew(t, a, name)
		eventually(t, name+" is renewed", func() bool {
			now := s.issued(t, s.Source, host)
			return now != nil && !now.Equal(first)
		})
	}
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

// TestAuthorityDown: what is there stays in use, what is not is told with the
// cause, and the authority is not asked again and again.
func TestAuthorityDown(t *testing.T) {
	s := newSite(t, "shop.example.com", "new.example.com")
	s.Pending("shop.example.com")
	eventually(t, "all is done", func() bool {
		return s.issued(t, s.Source, "shop.example.com") != nil && s.issued(t, s.Source, "a."+zone) != nil && s.issued(t, s.Source, zone) != nil
	})
	s.down.Store(true)
	for range 3 {
		if !s.Pending("new.example.com") {
			t.Error("a domain without a certificate is not pending")
		}
	}
	told := func(texts ...string) func() bool {
		return func() bool {
			for _, w := range s.Warnings() {
				if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(w, text) }) {
					return true
				}
			}
			return false
		}
	}
	eventually(t, "the cause is told", told("no certificate for new.example.com from 127.0.0.1", "503", "next try"))
	a := s.state.Load().issuer.(*acme)
	a.mu.Lock()
	attempt := *a.attempts["new.example.com"]
	a.mu.Unlock()
	for range 10 {
		s.Pending("new.example.com")
	}
	a.mu.Lock()
	if now := a.attempts["new.example.com"]; now.failed != 1 || now.cancel != nil || time.Until(attempt.next) > firstPause || attempt.next.Before(time.Now()) {
		t.Errorf("attempts %+v", now)
	}
	a.mu.Unlock()
	if s.issued(t, s.Source, "shop.example.com") == nil || s.issued(t, s.Source, "a."+zone) == nil {
		t.Error("what was there is not served")
	}
	if err := a.domain.RenewCertSync(t.Context(), "shop.example.com", true); err == nil {
		t.Error("renewed by an authority that is down")
	}
	eventually(t, "a failed renewal is told", told("certificate of shop.example.com stays in use", "503"))

	// The pause is over, and the authority is back.
	s.down.Store(false)
	a.mu.Lock()
	a.attempts["new.example.com"].next = time.Time{}
	a.mu.Unlock()
	s.Pending("new.example.com")
	eventually(t, "the new domain is served", func() bool { return s.issued(t, s.Source, "new.example.com") != nil })
	if err := a.domain.RenewCertSync(t.Context(), "shop.example.com", true); err != nil {
		t.Error(err)
	}
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
}

// TestACMESettings: what is wrong is told before anything is changed.
func TestACMESettings(t *testing.T) {
	s := serve(t, open(t, t.TempDir()))
	good := Settings{Kind: ACME, Directory: "https://127.0.0.1:1/dir"}
	for _, row := range []struct {
		provider string
		options  map[string]string
		want     string
	}{
		{"route66", nil, "there are exec, rfc2136, webhook"},
		{"rfc2136", nil, `option "server" is missing`},
		{"rfc2136", map[string]string{"server": "192.0.2.53", "key": "k"}, "belong together"},
		{"rfc2136", map[string]string{"server": "192.0.2.53", "key": "k", "secret": "not base 64"}, `"secret" is not Base64`},
		{"rfc2136", map[string]string{"server": "192.0.2.53", "key": "k", "secret": "YQ==", "algorithm": "hmac-md5"}, "hmac-sha256"},
		{"rfc2136", map[string]string{"server": "192.0.2.53", "sever": "x"}, `has no option "sever"`},
		{"rfc2136", map[string]string{"server": "192.0.2.53", "wait": "soon"}, `"wait"`},
		{"exec", nil, "no program is given"},
		{"exec", map[string]string{"program": "/hook"}, "no program is given"},
		{"webhook", map[string]string{"url": "http://dns.example.com/"}, "is an https URL"},
	} {
		next := good
		next.Provider, next.Options = row.provider, row.options
		if err := s.Use(next); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s %v: %v, want %q", row.provider, row.options, err, row.want)
		}
		if s.Public() {
			t.Fatal("faulty settings are in force")
		}
	}
	if err := s.Use(Settings{Kind: ACME}); err == nil {
		t.Error("no directory")
	}
	use(t, s, good)
	if _, err := handshake(t, s, zone, nil); err != nil {
		t.Errorf("without a DNS provider: %v", err)
	}
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "tls.dns is missing") {
		t.Errorf("warnings %q", w)
	}
}
