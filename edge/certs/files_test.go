package certs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// issue makes a chain and a key for names, as PEM.
func issue(t testing.TB, ca *CA, names ...string) (chain, key []byte) {
	t.Helper()
	cert, err := ca.sign(names)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: pkcs8})
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// put writes a new pair for names into a folder.
func put(t testing.TB, ca *CA, dir string, names ...string) Pair {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	chain, key := issue(t, ca, names...)
	write(t, p.Certificate, chain)
	write(t, p.Key, key)
	return p
}

func fromFiles(pairs ...Pair) Settings { return Settings{Kind: Files, Files: pairs} }

func use(t testing.TB, s *Source, settings Settings) {
	t.Helper()
	if err := s.Use(settings); err != nil {
		t.Fatal(err)
	}
}

// served is the serial number of the certificate of a name.
func served(t testing.TB, s *Source, name string) string {
	t.Helper()
	state, err := handshake(t, s, name, nil)
	if err != nil {
		return err.Error()
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 30 s: " + what)
		}
	}
}

// TestFilesByName: each pair serves what its certificate holds for; what no
// file covers is refused, and said.
func TestFilesByName(t *testing.T) {
	ca, dir := open(t, t.TempDir()), t.TempDir()
	s := serve(t, ca, "shop.example.org", "blog.example.org", "bare.example.net")
	use(t, s, fromFiles(
		put(t, ca, filepath.Join(dir, "zone"), "*."+zone),
		put(t, ca, filepath.Join(dir, "org"), "*.example.org", "example.org"),
		put(t, ca, filepath.Join(dir, "blog"), "blog.example.org", "other.example.com"),
	))
	for _, row := range []struct{ name, want string }{
		{"a." + zone, "*." + zone},
		{"shop.example.org", "*.example.org"},
		{"SHOP.example.org", "*.example.org"},
		{zone, ""},                // the files hold for names below it only
		{"bare.example.net", ""},  // a domain without a file
		{"other.example.com", ""}, // a file without a domain
		{"a.b." + zone, ""},
	} {
		state, err := handshake(t, s, row.name, nil)
		switch {
		case row.want == "":
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%s is served: %v", row.name, err)
			}
		case err != nil || state.PeerCertificates[0].DNSNames[0] != row.want:
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if state, err := handshake(t, s, "", func(c *tls.Config) { c.InsecureSkipVerify = true }); err != nil || state.PeerCertificates[0].DNSNames[0] != "*."+zone {
		t.Errorf("a client that names nothing: %v", err)
	}
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], "holds for bare.example.net") {
		t.Errorf("warnings %q", w)
	}
}

// TestFilesChange: every usual way of replacing files is seen, and connections
// stay.
func TestFilesChange(t *testing.T) {
	ca := open(t, t.TempDir())
	for _, row := range []struct {
		what    string
		prepare func(t *testing.T, dir string) Pair
		replace func(t *testing.T, dir string)
		again   func(t *testing.T, dir string) // what another way shows; it may be nil
	}{
		{
			"written in place",
			func(t *testing.T, dir string) Pair { return put(t, ca, dir, zone) },
			func(t *testing.T, dir string) { put(t, ca, dir, zone) },
			nil,
		},
		{
			"renamed",
			func(t *testing.T, dir string) Pair { return put(t, ca, dir, zone) },
			func(t *testing.T, dir string) {
				put(t, ca, filepath.Join(dir, "new"), zone)
				for _, name := range []string{"tls.key", "tls.crt"} {
					rename(t, filepath.Join(dir, "new", name), filepath.Join(dir, name))
				}
			},
			nil,
		},
		{ // as Kubernetes does
			"a link to the folder is swapped",
			func(t *testing.T, dir string) Pair {
				put(t, ca, filepath.Join(dir, "..1"), zone)
				link(t, "..1", filepath.Join(dir, "..data"))
				for _, name := range []string{"tls.key", "tls.crt"} {
					link(t, filepath.Join("..data", name), filepath.Join(dir, name))
				}
				return Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
			},
			func(t *testing.T, dir string) {
				put(t, ca, filepath.Join(dir, "..2"), zone)
				link(t, "..2", filepath.Join(dir, "..tmp"))
				rename(t, filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))
			},
			func(t *testing.T, dir string) { put(t, ca, filepath.Join(dir, "..2"), zone) },
		},
		{ // as certbot does
			"links to the files are swapped",
			func(t *testing.T, dir string) Pair {
				put(t, ca, filepath.Join(dir, "archive", "1"), zone)
				live := filepath.Join(dir, "live")
				if err := os.Mkdir(live, 0o700); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"tls.key", "tls.crt"} {
					link(t, filepath.Join(dir, "archive", "1", name), filepath.Join(live, name))
				}
				return Pair{filepath.Join(live, "tls.crt"), filepath.Join(live, "tls.key")}
			},
			func(t *testing.T, dir string) {
				put(t, ca, filepath.Join(dir, "archive", "2"), zone)
				for _, name := range []string{"tls.key", "tls.crt"} {
					link(t, filepath.Join(dir, "archive", "2", name), filepath.Join(dir, "tmp"))
					rename(t, filepath.Join(dir, "tmp"), filepath.Join(dir, "live", name))
				}
			},
			nil,
		},
		{
			"the target of a link is written",
			func(t *testing.T, dir string) Pair {
				put(t, ca, filepath.Join(dir, "far"), zone)
				for _, name := range []string{"tls.key", "tls.crt"} {
					link(t, filepath.Join(dir, "far", name), filepath.Join(dir, name))
				}
				return Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
			},
			func(t *testing.T, dir string) { put(t, ca, filepath.Join(dir, "far"), zone) },
			nil,
		},
	} {
		t.Run(row.what, func(t *testing.T) {
			dir := t.TempDir()
			s := serve(t, ca)
			use(t, s, fromFiles(row.prepare(t, dir)))
			first := served(t, s, zone)
			row.replace(t, dir)
			eventually(t, "the new certificate is served", func() bool { return served(t, s, zone) != first })
			eventually(t, "all is well", func() bool { return len(warningsBut(s, "*."+zone)) == 0 })
			if row.again != nil {
				second := served(t, s, zone)
				row.again(t, dir)
				eventually(t, "what comes after is served", func() bool { return served(t, s, zone) != second })
			}
		})
	}
}

// warningsBut leaves out those about one name.
func warningsBut(s *Source, name string) []string {
	var out []string
	for _, w := range s.Warnings() {
		if !strings.Contains(w, name) {
			out = append(out, w)
		}
	}
	return out
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenFiles: what cannot be used never replaces what can, and is told
// with the file and the cause.
func TestBrokenFiles(t *testing.T) {
	ca, dir := open(t, t.TempDir()), t.TempDir()
	chain, key := issue(t, ca, zone)
	_, otherKey := issue(t, ca, zone)
	for _, row := range []struct {
		what       string
		chain, key []byte
		want       string
	}{
		{"no key in it", chain, []byte("nothing"), "failed to find any PEM data in key"},
		{"key of another", chain, otherKey, "private key does not match public key"},
		{"cut off", chain[:len(chain)/4], key, "failed to find"},
		{"too long", bytes.Repeat([]byte("a"), maxPEM+1), key, "more than 1048576 bytes"},
	} {
		t.Run(row.what, func(t *testing.T) {
			p := put(t, ca, filepath.Join(dir, row.what), "*."+zone)
			s := serve(t, ca)
			use(t, s, fromFiles(p))
			first := served(t, s, "a."+zone)
			write(t, p.Certificate, row.chain)
			write(t, p.Key, row.key)
			eventually(t, "the fault is told", func() bool { return strings.Contains(strings.Join(s.Warnings(), "\n"), row.want) })
			if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], p.Certificate) && !strings.Contains(w[0], p.Key) || !strings.Contains(w[0], "stays in use") {
				t.Errorf("warnings %q", w)
			}
			if now := served(t, s, "a."+zone); now != first {
				t.Errorf("served %s, want %s", now, first)
			}
			// Other files are named by a commit, and are as bad: still the same.
			worse := Pair{filepath.Join(dir, "none.crt"), filepath.Join(dir, "none.key")}
			use(t, s, fromFiles(worse))
			if now := served(t, s, "a."+zone); now != first {
				t.Errorf("after a commit that names missing files: %s, want %s", now, first)
			}
			if w := strings.Join(s.Warnings(), "\n"); !strings.Contains(w, "no such file") {
				t.Errorf("warnings %q", w)
			}
		})
	}
}

// TestChoose: of several certificates for a name, what the client can verify
// comes first, then what ends last.
func TestChoose(t *testing.T) {
	ca := open(t, t.TempDir())
	var list []*tls.Certificate
	for range 3 {
		cert, err := ca.sign([]string{zone})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
	list[1].Leaf.NotAfter = list[1].Leaf.NotAfter.Add(time.Hour)
	list[2].Leaf.NotAfter = list[2].Leaf.NotAfter.Add(2 * time.Hour)
	_, list[2].PrivateKey, _ = ed25519.GenerateKey(nil)
	hello := &tls.ClientHelloInfo{
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
	if got := choose(list, hello, []string{zone}); got != list[1] {
		t.Errorf("chose number %d", slices.Index(list, got))
	}
	if got := choose(list[2:], hello, []string{zone}); got != list[2] {
		t.Error("the only one is not chosen")
	}
	if got := choose(list, hello, []string{"a." + zone}); got != nil {
		t.Error("chose one that does not hold for the name")
	}
}

// TestSoon: when the end of a certificate is told.
func TestSoon(t *testing.T) {
	const day = 24 * time.Hour
	for _, row := range []struct {
		left, life time.Duration
		want       string
	}{
		{15 * day, 90 * day, ""},
		{13 * day, 90 * day, "it expires at"},
		{3 * day, 7 * day, ""},
		{day, 7 * day, "it expires at"},
		{-time.Hour, 7 * day, "it has expired at"},
	} {
		end := time.Now().Add(row.left)
		got := strings.Join(soon("it", &x509.Certificate{NotBefore: end.Add(-row.life), NotAfter: end}), "\n")
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%v of %v left: %q, want %q", row.left, row.life, got, row.want)
		}
	}
}

func TestKeyThatAllCanRead(t *testing.T) {
	ca := open(t, t.TempDir())
	p := put(t, ca, t.TempDir(), "*."+zone)
	s := serve(t, ca)
	use(t, s, fromFiles(p))
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	if err := os.Chmod(p.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(s.Warnings(), "\n"); !strings.Contains(w, p.Key+": every user of this node can read the key") {
		t.Errorf("warnings %q", w)
	}
}

// TestSettingsChange: the next handshake follows, and connections stay.
func TestSettingsChange(t *testing.T) {
	ca := open(t, t.TempDir())
	s := serve(t, ca)
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // echoes until the listener ends
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 4)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					_, _ = conn.Write(buf[:n])
				}
			}()
		}
	}()
	dial := func() *tls.Conn {
		t.Helper()
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.Addr().String(),
			&tls.Config{ServerName: "a." + zone, RootCAs: roots(t, ca.PEM())})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	serial := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }

	old := dial()
	use(t, s, fromFiles(put(t, ca, t.TempDir(), "*."+zone)))
	if !s.Public() {
		t.Error("certificates from files are not public")
	}
	fresh := dial()
	if serial(old) == serial(fresh) {
		t.Error("the next handshake does not follow")
	}
	use(t, s, Settings{})
	if s.Public() || serial(dial()) == serial(fresh) {
		t.Error("the way back is not followed")
	}
	if err := s.Use(Settings{Kind: "magic"}); err == nil || !strings.Contains(err.Error(), "magic") {
		t.Errorf("an unknown kind: %v", err)
	}
	if err := s.Use(Settings{Kind: Files}); err == nil {
		t.Error("files without a file")
	}
	for _, conn := range []*tls.Conn{old, fresh} {
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 4)); n != 4 || err != nil {
			t.Errorf("a connection from before: %v", err)
		}
	}
}
