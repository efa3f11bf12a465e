package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// TestP18HTTP3WithoutMore [E3]: an agent whose sockets are handed over, as make up
// starts it, answers over HTTP/3 at the port that Alt-Svc names.
func TestP18HTTP3WithoutMore(t *testing.T) {
	s := newSite(t)
	s.start()
	s.write("projects/web/app.cue", "containers: app: {}\naliases: app: container: \"app\"\n")
	s.settled(s.push())
	s.eventually("it answers under its URL", s.answers("app", `"host"`))
	pem, err := os.ReadFile(s.path("state/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}
	host := "app.lab.containers.localhost"
	trusts := &tls.Config{RootCAs: roots, ServerName: host}
	stream := &http.Transport{TLSClientConfig: trusts.Clone(), ForceAttemptHTTP2: true}
	defer stream.CloseIdleConnections()
	quic := &http3.Transport{TLSClientConfig: trusts.Clone()}
	defer quic.Close()
	for name, transport := range map[string]http.RoundTripper{"HTTP/2": stream, "HTTP/3": quic} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:"+s.port+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Proto, name) || !strings.Contains(string(body), host) {
			t.Errorf("%s: %s %s, %v: %s", name, resp.Proto, resp.Status, err, body)
		}
		if want := `h3=":` + s.port + `"`; name == "HTTP/2" && !strings.Contains(resp.Header.Get("Alt-Svc"), want) {
			t.Errorf("Alt-Svc is %q, want %s in it", resp.Header.Get("Alt-Svc"), want)
		}
	}
}
