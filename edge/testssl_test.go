package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swage/edge/certs"
)

// TestTestssl: testssl finds nothing above LOW in the edge's TLS with
// certificates of its own authority, which testssl is told to trust. With
// SWAGE_SOAK it checks all that it knows, otherwise the protocols, the classes
// of ciphers and what the server chooses by itself.
func TestTestssl(t *testing.T) {
	testssl := installed(t, "testssl")
	dir := t.TempDir()
	ca, err := certs.Open(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	source := certs.New(ca, filepath.Join(dir, "acme"), func(name string, _ int64) ([]byte, error) { return os.ReadFile(name) }, slog.New(slog.DiscardHandler))
	defer source.Close()
	source.Follow(certs.Names{Zone: zone})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler)})
	p.drain = 100 * time.Millisecond
	p.Swap(mustCompile(t, Config{Zone: zone}))
	serving, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(serving, l, source.TLSConfig()) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()

	trusted, report := filepath.Join(dir, "trusted.pem"), filepath.Join(dir, "report.json")
	if err := os.WriteFile(trusted, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	checks, limit := []string{"-p", "-s", "-S"}, 3*time.Minute
	if os.Getenv("SWAGE_SOAK") != "" {
		checks, limit = nil, 30*time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// Nothing is asked outside: no names, no revocation lists.
	cmd := exec.CommandContext(ctx, testssl, append(checks, "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--nodns", "none",
		"--connect-timeout", "10", "--openssl-timeout", "10", "--add-ca", trusted, "--jsonfile", report, "x."+zone+":"+port)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.WaitDelay = time.Second
	out, runErr := cmd.CombinedOutput() // its status counts findings

	var findings []struct{ ID, Severity, Finding string }
	text, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(text, &findings)
	}
	if err != nil || ctx.Err() != nil {
		t.Fatalf("%v, %v, %v\n%s", runErr, ctx.Err(), err, out)
	}
	protocols := map[string]string{}
	for _, f := range findings {
		if strings.HasPrefix(f.ID, "SSLv") || strings.HasPrefix(f.ID, "TLS1") {
			protocols[f.ID], _, _ = strings.Cut(f.Finding, " with")
		}
		// What an authority of one's own cannot have: anybody's trust in its
		// chain, OCSP and revocation lists, a record in somebody's DNS.
		if slices.Contains([]string{"cert_chain_of_trust", "cert_revocation", "cert_ocspURL", "OCSP_stapling", "DNS_CAArecord"}, f.ID) {
			continue
		}
		switch f.Severity {
		case "OK", "INFO", "LOW":
		case "WARN":
			t.Logf("%s: %s", f.ID, f.Finding) // a check that this machine's openssl cannot make
		default:
			t.Errorf("%s: %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	for id, want := range map[string]string{
		"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered",
	} {
		if protocols[id] != want {
			t.Errorf("%s is %q, want %q", id, protocols[id], want)
		}
	}
	t.Logf("%d findings", len(findings))
}
