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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"swage/edge/limit"
)

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
	// It is there with these rights or not at all: nobody comes in between.
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	return c.Listen(context.Background(), "unix", socket)
}

// atOnce bounds the connections of one socket: only one user may open it.
const atOnce = 256

// Serve answers on l until ctx ends, and closes l always.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	conns := limit.NewConns(limit.Caps{All: atOnce, Network: atOnce, Client: atOnce, Few: atOnce}, log)
	srv := &http.Server{
		Handler: limit.WhileBusy(h), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ConnState: limit.ConnState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return limit.Of(c).With(ctx) }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(conns.Listen(l)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		err := srv.Close()
		<-ended
		return err
	}
}
