package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = "node.example.com"

func open(t testing.TB, dir string) *CA {
	t.Helper()
	ca, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func setNames(t testing.TB, ca *CA, names ...string) {
	t.Helper()
	if err := ca.SetNames(names...); err != nil {
		t.Fatal(err)
	}
}

// handshake asks for a name, trusting the authority alone, and returns what
// was negotiated.
func handshake(t testing.TB, ca *CA, name string, change func(*tls.Config)) (tls.ConnectionState, error) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.PEM()) {
		t.Fatal("no certificate in the PEM")
	}
	config := &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}, Time: time.Now}
	if change != nil {
		change(config)
	}
	near, far := net.Pipe()
	server := tls.Server(far, ca.TLSConfig())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = server.Handshake()
	}()
	client := tls.Client(near, config)
	err := client.Handshake()
	state := client.ConnectionState()
	near.Close()
	<-done
	return state, err
}

// TestNames: which names are served with which certificate.
func TestNames(t *testing.T) {
	ca := open(t, t.TempDir())
	if _, err := handshake(t, ca, zone, nil); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("before any name is set: %v", err)
	}
	setNames(t, ca, zone, "*."+zone, "Shop.Example.Org")
	for _, row := range []struct {
		name string
		ok   bool
	}{
		{zone, true},
		{"my-api." + zone, true},
		{"MY-API.Node.Example.Com", true},
		{"shop.example.org", true},
		{"a.b." + zone, false},
		{"example.com", false},
		{"www.shop.example.org", false},
		{"evil.org", false},
		{"localhost", false},
	} {
		_, err := handshake(t, ca, row.name, nil)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: refused with %v", row.name, err)
		}
	}
	// A client that names nothing gets the certificate.
	state, err := handshake(t, ca, "", func(c *tls.Config) { c.InsecureSkipVerify = true })
	if err != nil || !slices.Contains(state.PeerCertificates[0].DNSNames, zone) {
		t.Errorf("no name: %v", err)
	}
}

func TestNamesChange(t *testing.T) {
	ca := open(t, t.TempDir())
	setNames(t, ca, zone)
	first := ca.leaf.Load()
	setNames(t, ca, strings.ToUpper(zone), zone)
	if ca.leaf.Load() != first {
		t.Error("the same names lead to a new certificate")
	}
	setNames(t, ca, "other.example.com")
	if _, err := handshake(t, ca, "other.example.com", nil); err != nil {
		t.Errorf("the new name: %v", err)
	}
	if _, err := handshake(t, ca, zone, nil); err == nil {
		t.Error("the old name is still served")
	}
	if err := ca.SetNames(); err == nil {
		t.Error("a certificate without names")
	}
}

func TestProtocols(t *testing.T) {
	ca := open(t, t.TempDir())
	setNames(t, ca, zone)
	for _, row := range []struct {
		what   string
		change func(*tls.Config)
		ok     bool
		alpn   string
	}{
		{"TLS 1.3", nil, true, "h2"},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true, "h2"},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false, ""},
		{"HTTP/1.1", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, true, "http/1.1"},
	} {
		state, err := handshake(t, ca, zone, row.change)
		if (err == nil) != row.ok || row.ok && state.NegotiatedProtocol != row.alpn {
			t.Errorf("%s: %q, %v", row.what, state.NegotiatedProtocol, err)
		}
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
	setNames(t, again, zone)
	first.leaf.Store(again.leaf.Load())
	if _, err := handshake(t, first, zone, nil); err != nil {
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
		setNames(t, ca, zone)
		serial := func() string {
			state, err := handshake(t, ca, zone, nil)
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
		if _, err := handshake(t, ca, zone, func(c *tls.Config) {
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
		state, err := handshake(t, ca, zone, nil)
		if err != nil || !state.PeerCertificates[0].NotAfter.Equal(ca.cert.NotAfter) {
			t.Errorf("on its last day: %v", err)
		}
		time.Sleep(25 * time.Hour)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("after its last day: %v", err)
		}
	})
}

// TestRenewalDoesNotBlock: while one handshake makes the new leaf, the others
// use the old.
func TestRenewalDoesNotBlock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca := open(t, dir)
		setNames(t, ca, zone)
		old := ca.leaf.Load()
		time.Sleep(80 * 24 * time.Hour)
		ca.minting.Lock()
		cert, err := ca.certificate(&tls.ClientHelloInfo{ServerName: zone})
		if err != nil || cert != old.cert {
			t.Errorf("got %v, %v, want the old certificate", cert, err)
		}
		ca.minting.Unlock()
		if cert, err := ca.certificate(&tls.ClientHelloInfo{ServerName: zone}); err != nil || cert == old.cert {
			t.Errorf("not renewed: %v", err)
		}
	})
}
