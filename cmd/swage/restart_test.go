package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"swage/edge"
	"swage/edge/certs"
	"swage/reconcile"
)

const restartZone = "node.example.com"

// serveInherited is an agent without a reconciler: it serves the sockets that
// it was given until SIGTERM.
func serveInherited(state string) error {
	streams, _, err := inheritedSockets()
	if err != nil {
		return err
	}
	ca, err := certs.Open(filepath.Join(state, "ca"))
	if err != nil {
		return err
	}
	table, err := edge.Compile(edge.Config{Zone: restartZone})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	log := slog.New(slog.DiscardHandler)
	source := certs.New(ca, filepath.Join(state, "acme"), log)
	defer source.Close()
	f := &front{
		ctx: ctx, group: g, log: log, certs: source, inherited: true,
		proxy: edge.NewProxy(edge.Options{Logger: log}),
	}
	if err := f.publish(reconcile.Edge{Zone: restartZone, Table: table}); err != nil {
		return err
	}
	for _, l := range streams {
		f.serve(ctx, l)
	}
	return g.Wait()
}

// TestRestartRefusesNobody: while processes that are given the same socket
// follow each other, every request is answered.
func TestRestartRefusesNobody(t *testing.T) {
	if state := os.Getenv("SWAGE_TEST_SERVES"); state != "" {
		if err := serveInherited(state); err != nil {
			t.Fatal(err)
		}
		return
	}
	state := t.TempDir()
	ca, err := certs.Open(filepath.Join(state, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stream, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	start := func() *exec.Cmd {
		child := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestRestartRefusesNobody$'`, os.Args[0])
		child.Env = append(os.Environ(), "SWAGE_TEST_SERVES="+state, "LISTEN_FDS=1")
		child.ExtraFiles = []*os.File{stream}
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		return child
	}

	var answered atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		for _, keep := range []bool{true, false} {
			transport := &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
				},
				TLSClientConfig:   &tls.Config{RootCAs: roots},
				ForceAttemptHTTP2: i%2 == 0,
				DisableKeepAlives: !keep,
			}
			defer transport.CloseIdleConnections()
			c := &http.Client{Transport: transport, Timeout: time.Minute}
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					res, err := c.Get("https://nothing." + restartZone)
					if err != nil {
						t.Error(err)
						return
					}
					body, err := io.ReadAll(res.Body)
					res.Body.Close()
					if res.StatusCode != http.StatusNotFound || err != nil || !strings.Contains(string(body), "nothing at this address") {
						t.Errorf("%d %q %v", res.StatusCode, body, err)
						return
					}
					answered.Add(1)
				}
			})
		}
	}
	for round := range 3 {
		child := start()
		before := answered.Load()
		for begun := time.Now(); answered.Load() < before+50 && time.Since(begun) < time.Minute; {
			time.Sleep(time.Millisecond)
		}
		if answered.Load() < before+50 {
			t.Errorf("round %d: only %d answers", round, answered.Load()-before)
		}
		if round == 2 {
			close(stop)
			clients.Wait()
		}
		if err := child.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err != nil {
			t.Fatal(fmt.Errorf("round %d: %w", round, err))
		}
	}
}
