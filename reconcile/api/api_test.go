package api

import (
	"context"
	"log/slog"
	"net"

	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"swage/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswers(t *testing.T) {
	fresh := &reconcile.Report{Server: "lab", State: reconcile.Pending}
	done := &reconcile.Report{Server: "lab", Commit: "c1", State: reconcile.Applied, Finished: time.Unix(1, 0)}
	for _, c := range []struct {
		method, path string
		report       *reconcile.Report
		status       int
		body         string
	}{
		{"GET", "/healthz", fresh, 200, "ok"},
		{"GET", "/readyz", fresh, 503, "no commit"},
		{"GET", "/readyz", done, 200, "ok"},
		{"GET", "/api/v1/status", done, 200, `"commit":"c1","state":"applied"`},
		{"POST", "/api/v1/status", done, 405, ""},
		{"GET", "/", done, 404, ""},
	} {
		w := httptest.NewRecorder()
		API{Report: func() *reconcile.Report { return c.report }}.Local().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}

// socketIn is short: a socket's path has 107 bytes.
func socketIn(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "sock")
}

func TestOneAgentASocket(t *testing.T) {
	socket, log := socketIn(t), slog.New(slog.DiscardHandler)
	h := API{Report: func() *reconcile.Report { return &reconcile.Report{Server: "lab"} }}.Local()
	if _, err := Status(t.Context(), socket); err == nil || !strings.Contains(err.Error(), "swage agent") {
		t.Errorf("without an agent: %v", err)
	}
	// What a killed agent left is in nobody's way.
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, socket, h, log) }()
	for deadline := time.Now().Add(10 * time.Second); ; {
		r, err := Status(t.Context(), socket)
		if err == nil && r.Server == "lab" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is open to others: %v %v", info.Mode(), err)
	}
	if err := Serve(t.Context(), socket, h, log); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
	if _, err := Status(t.Context(), socket); err != nil {
		t.Errorf("the first one is gone: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
