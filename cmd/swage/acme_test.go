package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"swage/edge"
	"swage/edge/certs"
	"swage/reconcile"
	"swage/reconcile/hostfile"
	"swage/schema"
)

// TestDomainOnFirstRequest [E5]: a visitor of a custom domain is told to come
// again, and then served with a certificate that everyone can verify; without
// TLS he is sent on only then. Validation is by HTTP-01 on the same listener.
//
// The system's roots are read once in a process, so this starts a second one.
func TestDomainOnFirstRequest(t *testing.T) {
	if os.Getenv("SWAGE_TEST_ACME") == "" {
		srv := httptest.NewTLSServer(nil) // all of httptest have this certificate
		defer srv.Close()
		roots := filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDomainOnFirstRequest$", "-test.v")
		child.Env = append(os.Environ(), "SWAGE_TEST_ACME=1", "SSL_CERT_FILE="+roots, "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}

	const zone, domain = "lab.example.com", "shop.example.org"
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer app.Close()
	appAddr := netip.MustParseAddrPort(app.Listener.Addr().String())
	table, err := edge.Compile(edge.Config{
		Zone: zone,
		Containers: []edge.Container{{
			ProjectID: strings.Repeat("a", 24), ID: strings.Repeat("b", 24), Name: "web/api",
			Addr: appAddr.Addr(), Permissions: &edge.Permissions{Default: edge.Allow}, Catalogue: &edge.Catalogue{},
		}},
		Aliases: []edge.Alias{{
			Name: "my-api", Domains: []string{domain}, AllowPathOverride: true,
			Target: edge.Target{Container: "web/api", Program: "http", Port: appAddr.Port()},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := reconcile.Edge{
		Zone: zone, Table: table,
		Listen: []string{"127.0.0.1:" + freePort(t)}, HTTP: []string{"127.0.0.1:" + freePort(t)},
	}
	directory, roots := pebble(t, at)
	at.TLS = schema.TLS{Type: "acme", Directory: directory}

	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	dir := t.TempDir()
	own, err := certs.Open(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	source := certs.New(own, filepath.Join(dir, "acme"), hostfile.Read, logger)
	defer source.Close()
	f := &front{
		ctx: ctx, group: group, log: logger, certs: source, open: map[endpoint]context.CancelFunc{},
		proxy: edge.NewProxy(edge.Options{Logger: logger, Pending: source.Pending, Strict: source.Public, Challenge: source.Challenge}),
	}
	defer func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if err := f.publish(at); err != nil {
		t.Fatal(err)
	}

	ask := func(scheme string, config *tls.Config) (*http.Response, string, error) {
		to := at.Listen[0]
		if scheme == "http" {
			to = at.HTTP[0]
		}
		client := &http.Client{
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, to)
				},
				TLSClientConfig: config, DisableKeepAlives: true,
			},
		}
		res, err := client.Get(scheme + "://" + domain + "/x")
		if err != nil {
			return nil, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res, string(body), err
	}
	stranger := &tls.Config{RootCAs: roots}
	res, body, err := ask("https", &tls.Config{InsecureSkipVerify: true})
	if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "certificate of this host is being obtained") {
		t.Fatalf("the first visitor: %v %s %v", res, body, err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, body, err = ask("https", stranger)
		if err == nil && res.StatusCode == 200 && body == "hello" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("never served: %v %s %v; %q", res, body, err, source.Warnings())
		}
	}
	if got := res.Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("HSTS on a custom domain: %s", got)
	}
	_, port, _ := net.SplitHostPort(at.Listen[0])
	if res, _, err := ask("http", nil); err != nil || res.StatusCode != 308 || res.Header.Get("Location") != "https://"+domain+":"+port+"/x" {
		t.Errorf("without TLS: %v %v", res, err)
	}
}

// pebble is an authority that finds every name at 127.0.0.1, at the ports of an
// edge. It returns its directory and the roots of what it issues.
func pebble(t *testing.T, at reconcile.Edge) (directory string, roots *x509.CertPool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if q := r.Question[0]; q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = names.ActivateAndServe() }()
	t.Cleanup(func() { _ = names.Shutdown() })

	portOf := func(addr string) int {
		_, port, _ := net.SplitHostPort(addr)
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default"}})
	validates := va.New(quiet, portOf(at.HTTP[0]), portOf(at.Listen[0]), false, l.Addr().String(), store)
	front := wfe.New(quiet, store, validates, issuer, []string{"pebble"}, false, false, 0, 0)
	srv := httptest.NewTLSServer(front.Handler())
	t.Cleanup(srv.Close)
	roots = x509.NewCertPool()
	roots.AddCert(issuer.GetRootCert(0).Cert)
	return srv.URL + wfe.DirectoryPath, roots
}
