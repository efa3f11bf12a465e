package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"swage/reconcile"
)

// How long a container that was just deployed may take to answer, before a push
// says that it does not.
const (
	answerIn    = 1500 * time.Millisecond
	answerAgain = 100 * time.Millisecond
	refusedFor  = 500 * time.Millisecond
)

// live says for each container, by its first URL, whether it answers: all are
// asked at the same time.
func live(ctx context.Context, r *reconcile.Report, list []reconcile.ContainerReport) []string {
	out := make([]string, len(list))
	var all sync.WaitGroup
	for i, c := range list {
		all.Go(func() {
			ref := c.Project + "/" + c.Name
			port := portOf(r, c)
			err := answers(ctx, c, port)
			switch {
			case err == nil:
				out[i] = fmt.Sprintf("live: %s %s", c.URLs[0], ref)
			case errors.Is(err, syscall.ECONNREFUSED):
				out[i] = fmt.Sprintf("live: %s %s (502 until something listens on its port %d)", c.URLs[0], ref, port)
			default:
				out[i] = fmt.Sprintf("no answer: %s %s: %v", c.URLs[0], ref, err)
			}
		})
	}
	all.Wait()
	return out
}

// portOf is the port that the first URL of a container leads to; 0 where that is
// a program's, which starts when it is called.
func portOf(r *reconcile.Report, c reconcile.ContainerReport) uint16 {
	for _, a := range r.Aliases {
		if a.URL != c.URLs[0] {
			continue
		}
		switch {
		case a.Program != "http" && a.Program != "https":
			return 0
		case a.Port == 0 && a.Program == "https":
			return 443
		case a.Port != 0:
			return a.Port
		}
	}
	return 80
}

// answers is nil for a container whose port takes a connection.
func answers(ctx context.Context, c reconcile.ContainerReport, port uint16) error {
	host := c.Address
	if host == "" {
		host = c.IPv6
	}
	switch {
	case host == "":
		return errors.New("it has no address")
	case port == 0:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	for begun := time.Now(); ; {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			conn.Close()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not answer; swage status tells of the host", net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
		if errors.Is(err, syscall.ECONNREFUSED) && time.Since(begun) > refusedFor {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(answerAgain):
		}
	}
}
