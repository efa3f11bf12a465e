package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// TestMain has Pebble validate at once and reject no good nonce, and this
// process trust its API as operators trust that of a public authority.
func TestMain(m *testing.M) {
	if err := trustTestServers(); err != nil {
		panic(err)
	}
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	os.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	goleak.VerifyTestMain(m,
		// Pebble has no end; certmagic's limit on how fast it asks lives as
		// long as the process, and what keeps a lock sees later that it is gone.
		goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}

const zone = "node.example.com"

func open(t testing.TB, dir string) *CA {
	t.Helper()
	ca, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// serve makes a Source of the authority for the zone and some domains.
func serve(t testing.TB, ca *CA, domains ...string) *Source {
	t.Helper()
	s := New(ca, filepath.Join(t.TempDir(), "acme"), anyFile, slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	s.Follow(names(domains...))
	return s
}

func names(domains ...string) Names {
	n := Names{Zone: zone, Domains: map[string]time.Time{}}
	for _, d := range domains {
		n.Domains[d] = time.Time{}
	}
	return n
}

func roots(t testing.TB, pem []byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the PEM")
	}
	return pool
}

// handshake asks for a name, trusting the server's authority alone, and returns
// what was negotiated.
func handshake(t testing.TB, s *Source, name string, change func(*tls.Config)) (tls.ConnectionState, error) {
	t.Helper()
	config := &tls.Config{ServerName: name, RootCAs: roots(t, s.ca.PEM()), NextProtos: []string{"h2", "http/1.1"}, Time: time.Now}
	if change != nil {
		change(config)
	}
	near, far := net.Pipe()
	server := tls.Server(far, s.TLSConfig())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		if server.Handshake() == nil {
			_, _ = server.Write([]byte("x"))
		}
	}()
	client := tls.Client(near, config)
	err := client.Handshake()
	if err == nil { // session tickets of TLS 1.3 come with what is read
		_, err = client.Read(make([]byte, 1))
	}
	state := client.ConnectionState()
	near.Close()
	<-done
	return state, err
}

// TestNames: which names are served, and which refused in the handshake.
func TestNames(t *testing.T) {
	ca := open(t, t.TempDir())
	s := New(ca, t.TempDir(), anyFile, slog.New(slog.DiscardHandler))
	if _, err := handshake(t, s, zone, nil); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("before any name is known: %v", err)
	}
	s.Follow(names("shop.example.org"))
	for _, row := range []struct {
		name string
		ok   bool
	}{
		{zone, true},
		{"my-api." + zone, true},
		{"MY-API.Node.Example.Com", true},
		{"shop.example.org", true},
		{"Shop.Example.Org", true},
		{"a.b." + zone, false},
		{"x" + zone, false},
		{"example.com", false},
		{"www.shop.example.org", false},
		{"evil.org", false},
		{"localhost", false},
	} {
		_, err := handshake(t, s, row.name, nil)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: refused with %v", row.name, err)
		}
	}
	// A client that names nothing gets the zone's certificate.
	state, err := handshake(t, s, "", func(c *tls.Config) { c.InsecureSkipVerify = true })
	if err != nil || !slices.Contains(state.PeerCertificates[0].DNSNames, zone) {
		t.Errorf("no name: %v", err)
	}
}

// TestCertificatesTellNoOthers: a stranger who reads one certificate does not
// learn what else is served.
func TestCertificatesTellNoOthers(t *testing.T) {
	s := serve(t, open(t, t.TempDir()), "shop.example.org", "blog.example.net")
	for name, want := range map[string][]string{
		zone:               {zone, "*." + zone},
		"my-api." + zone:   {zone, "*." + zone},
		"shop.example.org": {"shop.example.org"},
		"blog.example.net": {"blog.example.net"},
	} {
		state, err := handshake(t, s, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := state.PeerCertificates[0].DNSNames; !slices.Equal(got, want) {
			t.Errorf("%s is served with %v, want %v", name, got, want)
		}
	}
}

func TestNamesChange(t *testing.T) {
	s := serve(t, open(t, t.TempDir()), "shop.example.org")
	serial := func(name string) string {
		state, err := handshake(t, s, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	first := serial(zone)
	s.Follow(names("blog.example.net"))
	if serial(zone) != first {
		t.Error("another domain leads to a new certificate of the zone")
	}
	serial("blog.example.net")
	if _, err := handshake(t, s, "shop.example.org", nil); err == nil {
		t.Error("a domain that is gone is still served")
	}
	s.Follow(Names{Zone: "other.example.com"})
	if _, err := handshake(t, s, zone, nil); err == nil {
		t.Error("the old zone is still served")
	}
	serial("a.other.example.com")
}

// TestExpiredAlias [E5]: the certificate that is there is served further, and
// none is made.
func TestExpiredAlias(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, open(t, dir))
		end := time.Now().Add(24 * time.Hour)
		s.Follow(Names{Zone: zone, Domains: map[string]time.Time{"seen.example.org": end, "new.example.org": end}})
		before, err := handshake(t, s, "seen.example.org", nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(80 * 24 * time.Hour) // it would be time for a new one
		after, err := handshake(t, s, "seen.example.org", nil)
		if err != nil || !after.PeerCertificates[0].Equal(before.PeerCertificates[0]) {
			t.Errorf("its certificate is not served further: %v", err)
		}
		if _, err := handshake(t, s, "new.example.org", nil); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("made for an expired alias: %v", err)
		}
	})
}

// TestResumption: a session goes on without a certificate only where the same
// name is still served.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := serve(t, open(t, t.TempDir()), "shop.example.org")
		kept := &oneSession{}
		ask := func(name string) (bool, error) {
			state, err := handshake(t, s, name, func(c *tls.Config) {
				c.ClientSessionCache, c.MaxVersion, c.InsecureSkipVerify = kept, version, true
			})
			return state.DidResume, err
		}
		for i, row := range []struct {
			name   string
			resume bool
		}{
			{"shop.example.org", false},
			{"shop.example.org", true},
			{"a." + zone, false},
			{"b." + zone, true},
			{"shop.example.org", false},
		} {
			if resumed, err := ask(row.name); err != nil || resumed != row.resume {
				t.Errorf("%s: %d, %s: resumed %v, %v", tls.VersionName(version), i, row.name, resumed, err)
			}
		}
		s.Follow(names())
		if _, err := ask("shop.example.org"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: a session of a domain that is gone: %v", tls.VersionName(version), err)
		}
	}
}

// oneSession gives the last session to whoever asks, as no client should.
type oneSession struct{ last *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.last, o.last != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState)    { o.last = s }

func TestProtocols(t *testing.T) {
	s := serve(t, open(t, t.TempDir()))
	for _, row := range []struct {
		what   string
		change func(*tls.Config)
		ok     bool
		alpn   string
	}{
		{"TLS 1.3", nil, true, "h2"},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true, "h2"},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false, ""},
		{"TLS 1.2 with CBC", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false, ""},
		{"HTTP/1.1", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, true, "http/1.1"},
	} {
		state, err := handshake(t, s, zone, row.change)
		if (err == nil) != row.ok || row.ok && state.NegotiatedProtocol != row.alpn {
			t.Errorf("%s: %q, %v", row.what, state.NegotiatedProtocol, err)
		}
	}
	state, err := handshake(t, s, zone, nil)
	if err != nil || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("key exchange %v, %v, want the hybrid with ML-KEM", state.CurveID, err)
	}
}

// TestSurvives: an authority is the same after a restart, and its folder opens
// to nobody else.
func TestSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "certs")
	first := open(t, dir)
	again := open(t, dir)
	if !bytes.Equal(first.PEM(), again.PEM()) {
		t.Error("another authority after a restart")
	}
	if _, err := handshake(t, serve(t, again), zone, func(c *tls.Config) { c.RootCAs = roots(t, first.PEM()) }); err != nil {
		t.Errorf("what it signs after a restart: %v", err)
	}
	if bytes.Contains(first.PEM(), []byte("PRIVATE")) {
		t.Error("PEM holds the key")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, caFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: want %s alone", entries, err, caFile)
	}
}

// TestOpenTogether: of several that begin at once all get one authority.
func TestOpenTogether(t *testing.T) {
	dir := t.TempDir()
	var got [8][]byte
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			if ca, err := Open(dir); err != nil {
				t.Error(err)
			} else {
				got[i] = ca.PEM()
			}
		})
	}
	all.Wait()
	for _, pem := range got {
		if !bytes.Equal(pem, got[0]) {
			t.Fatal("two authorities in one folder")
		}
	}
}

// TestHalfWritten: what a crash left behind is neither used nor in the way.
func TestHalfWritten(t *testing.T) {
	dir := t.TempDir()
	whole, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, caFile+".123"), whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// TestDamaged: an authority that visitors may trust is never replaced in
// silence.
func TestDamaged(t *testing.T) {
	whole, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.Index(whole, []byte("-----BEGIN CERTIFICATE"))
	otherCut := bytes.Index(other, []byte("-----BEGIN CERTIFICATE"))
	for _, row := range []struct {
		what string
		data []byte
		mode os.FileMode
		want string
	}{
		{"empty", nil, 0o600, "no private key"},
		{"cut off", whole[:cut+20], 0o600, "no certificate"},
		{"no key", whole[cut:], 0o600, "no private key"},
		{"key of another", slices.Concat(other[:otherCut], whole[cut:]), 0o600, "do not belong together"},
		{"readable by others", whole, 0o640, "others can read the key"},
	} {
		path := filepath.Join(t.TempDir(), caFile)
		if err := os.WriteFile(path, row.data, row.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(filepath.Dir(path))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.what, err, row.want)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, row.data) {
			t.Errorf("%s: the file has changed", row.what)
		}
	}
}

// TestRenewal runs on a clock of its own: a leaf is good for visitors whose
// clock is an hour slow, lasts ninety days at most, and is replaced in time.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca := open(t, dir)
		s := serve(t, ca)
		serial := func() string {
			state, err := handshake(t, s, zone, nil)
			if err != nil {
				t.Fatal(err)
			}
			leaf := state.PeerCertificates[0]
			if left := time.Until(leaf.NotAfter); left < leafLifetime/3-time.Hour {
				t.Errorf("%v left", left)
			}
			if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 90*24*time.Hour {
				t.Errorf("it lasts %v", life)
			}
			return leaf.SerialNumber.String()
		}
		first := serial()
		if _, err := handshake(t, s, zone, func(c *tls.Config) {
			c.Time = func() time.Time { return time.Now().Add(-59 * time.Minute) }
		}); err != nil {
			t.Errorf("a slow clock: %v", err)
		}
		time.Sleep(59 * 24 * time.Hour) // the bubble's clock: no time passes
		if serial() != first {
			t.Error("renewed although a third is left")
		}
		time.Sleep(2 * 24 * time.Hour)
		second := serial()
		if second == first {
			t.Error("not renewed")
		}
		// Nobody came until long after it expired.
		time.Sleep(200 * 24 * time.Hour)
		if serial() == second {
			t.Error("an expired certificate is served")
		}
		// At the end of the authority a leaf does not outlive it.
		time.Sleep(time.Until(ca.cert.NotAfter) - 24*time.Hour)
		if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "authority expires") {
			t.Errorf("warnings on its last day: %q", w)
		}
		state, err := handshake(t, s, zone, nil)
		if err != nil || !state.PeerCertificates[0].NotAfter.Equal(ca.cert.NotAfter) {
			t.Errorf("on its last day: %v", err)
		}
		time.Sleep(25 * time.Hour)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("after its last day: %v", err)
		}
	})
}

// anyFile is a ReadFile for tests.
func anyFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if int64(len(src)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return src, err
}
