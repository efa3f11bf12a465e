package git

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// [G1] A server that wants to know machines by certificates, and tokens as
// bearer tokens only.
func TestClientCertificateAndBearer(t *testing.T) {
	bare, work := fixture(t)
	behind := serveWeb(t, filepath.Dir(bare))
	dir := t.TempDir()
	own := selfSigned(t, dir)
	var asked []string // scheme by scheme
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		asked = append(asked, scheme)
		if scheme != "Bearer" || token != "secret" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="fleet"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.SetBasicAuth("deploy", "secret")
		behind.Config.Handler.ServeHTTP(w, r)
	}))
	clients := x509.NewCertPool()
	clients.AddCert(own)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)

	o := behind.options(t)
	o.URL, o.CA = s.URL+"/fleet.git", writeCA(t, s)
	if err := newRemote(t, o).sync(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	o.Certificate, o.Key = filepath.Join(dir, "own.crt"), filepath.Join(dir, "own.key")
	o.State = t.TempDir()
	r := newRemote(t, o)
	tipIs(t, r, work)
	if asked[0] != "Basic" || len(asked) < 3 || strings.Contains(strings.Join(asked[1:], " "), "Basic") {
		t.Errorf("asked with %v", asked)
	}
	o.Password = func() (string, error) { return "wrong", nil }
	o.State = t.TempDir()
	if err := newRemote(t, o).sync(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses source.token") {
		t.Errorf("with a wrong token: %v", err)
	}

	o.Key = filepath.Join(dir, "own.crt")
	if _, err := NewRemote(o); err == nil || !strings.Contains(err.Error(), "source.client_certificate") {
		t.Errorf("without the key: %v", err)
	}
}

// selfSigned writes own.crt and own.key.
func selfSigned(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "own.crt", string(pemOf(der)))
	write(t, dir, "own.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return own
}
