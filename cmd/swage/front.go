package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"swage/edge"
	"swage/edge/certs"
	"swage/reconcile"
)

// front is the edge with its listeners. Only the reconciler's goroutine calls
// publish.
type front struct {
	ctx   context.Context
	group *errgroup.Group
	log   *slog.Logger
	proxy *edge.Proxy
	ca    *certs.CA

	inherited bool                          // the sockets were passed in
	open      map[string]context.CancelFunc // by address
}

// publish takes a new table, and follows the addresses and the zone that the
// fleet names now. The table is in force before anything new listens.
func (f *front) publish(e reconcile.Edge) error {
	var failed []error
	if err := f.ca.SetNames(slices.Concat([]string{e.Zone, "*." + e.Zone}, e.Table.Domains())...); err != nil {
		failed = append(failed, fmt.Errorf("no certificate for %s; the last one stays in use: %w", e.Zone, err))
	}
	f.proxy.Swap(e.Table)
	if f.inherited {
		return errors.Join(failed...)
	}
	wanted := map[string]bool{}
	for _, addr := range e.Listen {
		wanted[addr] = true
		if f.open[addr] != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			failed = append(failed, fmt.Errorf("the edge cannot serve: %w", err))
			continue
		}
		ctx, cancel := context.WithCancel(f.ctx)
		f.open[addr] = cancel
		f.serve(ctx, l)
	}
	for addr, cancel := range f.open {
		if !wanted[addr] {
			cancel()
			delete(f.open, addr)
		}
	}
	return errors.Join(failed...)
}

func (f *front) serve(ctx context.Context, l net.Listener) {
	f.log.Info("listening", "address", l.Addr().String())
	f.group.Go(func() error { return f.proxy.Serve(ctx, l, f.ca.TLSConfig()) })
}

// inheritedListeners takes the sockets that systemd or another parent passed
// in (sd_listen_fds(3)): descriptors from 3 on, LISTEN_FDS of them, meant for
// the process LISTEN_PID.
func inheritedListeners() ([]net.Listener, error) {
	if pid := os.Getenv("LISTEN_PID"); pid == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 64 {
		return nil, fmt.Errorf("LISTEN_FDS is %q, want a small number", os.Getenv("LISTEN_FDS"))
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name) // not for our children
	}
	var out []net.Listener
	for fd := 3; fd < 3+n; fd++ {
		file := os.NewFile(uintptr(fd), "inherited")
		l, err := net.FileListener(file) // a copy of its own, closed on exec
		err = errors.Join(err, file.Close())
		if err != nil {
			return nil, fmt.Errorf("inherited descriptor %d: %w", fd, err)
		}
		out = append(out, l)
	}
	return out, nil
}
