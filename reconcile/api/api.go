// Package api is the agent's HTTP API, for commands on the same machine.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"swage/reconcile"
)

// Handler answers
//
//	GET /api/v1/status  the agent's newest report
//	GET /healthz        200 while the process runs
//	GET /readyz         200 once a commit was applied, else 503
func Handler(report func() *reconcile.Report) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(report()) // the caller went away
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if len(report().Commit) == 0 || report().Finished.IsZero() {
			http.Error(w, "no commit was applied yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// maxSocket is what the kernel allows for the path of a socket.
const maxSocket = 107

// Listen opens a unix socket that only this user reaches. One that a dead
// agent left is replaced; that of a live one is an error.
func Listen(socket string) (net.Listener, error) {
	if len(socket) > maxSocket {
		return nil, fmt.Errorf("the path of the socket %s has %d bytes, and a socket's has %d at most; name a shorter one in the node file", socket, len(socket), maxSocket)
	}
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		return nil, fmt.Errorf("another agent answers at %s; stop it first, or give this one a socket of its own in the node file", socket)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve answers on l until ctx ends, and closes l always.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		err := srv.Close()
		<-ended
		return err
	}
}

// Status asks the agent at a socket for its newest report.
func Status(ctx context.Context, socket string) (*reconcile.Report, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/api/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no agent answers at %s (start one with `swage agent`, or name its socket with --socket): %w", socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the agent at %s answered %s", socket, resp.Status)
	}
	var r reconcile.Report
	return &r, json.NewDecoder(resp.Body).Decode(&r)
}
