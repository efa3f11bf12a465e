package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Serve answers on a unix socket that only this user reaches, until ctx ends.
// A socket that a dead agent left is replaced; that of a live one is an error.
func Serve(ctx context.Context, socket string, h http.Handler, log *slog.Logger) error {
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		return fmt.Errorf("another agent answers at %s; stop it first, or give this one a socket of its own in the node file", socket)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		l.Close()
		return err
	}
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
