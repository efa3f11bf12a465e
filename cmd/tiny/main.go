//go:build linux

// Tiny is the smallest useful guest: a static program that is the whole of a
// container. As process 1 it reaps orphans and ends when it is told to; beside
// that it is an HTTP server which tells back what it was asked, so that a test
// sees exactly what arrived after every proxy on the way.
//
// The port is $PORT, else 80, on all addresses. The paths:
//
//	/ws               echoes WebSocket messages
//	/slow?ms=N        answers like any path, N milliseconds later (at most 60 s)
//	/stream?n=N&ms=M  N lines, each flushed, M milliseconds apart
//	/sse?n=N&ms=M     the same as server-sent events
//	/bytes?n=N        N zero bytes (at most 4 GiB)
//	/sink             counts the body and answers {"bytes": count}
//	/status?code=N    the same as any path, under status N (200 to 599)
//	anything else     a JSON description of the request; see Echo
//
// The network is set up from outside, by whoever creates the container.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// rtmin3 (SIGRTMIN+3) asks systemd to power off. LXC sends it instead of
// SIGPWR to any init that catches it, and Go programs catch every signal.
const rtmin3 = syscall.Signal(37)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	// Caught before anything else: an early signal must not be lost, since
	// process 1 has no default actions.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, rtmin3, syscall.SIGPWR, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	go attend(signals, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run serves until ctx ends. It does not drain: a guest that is told to stop
// stops at once, and that is the end of the container.
func run(ctx context.Context, _ []string, _ io.Reader, _, stderr io.Writer) int {
	log := log.New(stderr, "tiny: ", 0)
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		log.Print(fmt.Errorf("listen on port %q (is PORT a free port?): %w", port, err))
		return 1
	}
	server := &http.Server{Handler: handler(), ReadHeaderTimeout: time.Minute, ErrorLog: log}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
		return 1
	}
	return 0
}

// attend is what a process 1 owes its container: every orphan is reaped, and
// any request to power off or restart ends the program. Tiny starts no
// children of its own, so every child that ends here is an orphan.
func attend(signals <-chan os.Signal, stop func()) {
	for s := range signals {
		if s != syscall.SIGCHLD {
			stop()
			return
		}
		// One signal may stand for many children.
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
}
