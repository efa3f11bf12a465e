package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

const (
	// A kernel repeats a SYN that nobody answered after one second, and a
	// container's address answers some time after it is assigned. So a try
	// is short at first, and each is twice as long as the one before.
	dialFirst   = 100 * time.Millisecond
	dialLongest = time.Second
	dialTotal   = 5 * time.Second

	handshakeTimeout = 5 * time.Second
)

// dial opens a connection from the edge's own address.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialFor(ctx, dialTotal, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	})
}

// dialFor tries again while nobody answers, so long. A refusal is an answer: the
// container is there and nothing listens.
func dialFor(ctx context.Context, total time.Duration, try func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, total)
	defer cancel()
	for wait := dialFirst; ; wait = min(2*wait, dialLongest) {
		tried := time.After(wait)
		once, cancel := context.WithTimeout(ctx, wait)
		conn, err := try(once)
		cancel()
		if err == nil || !unanswered(err) {
			return conn, err
		}
		select {
		case <-tried: // "no route to host" comes before the try is over
		case <-ctx.Done():
			return nil, err
		}
	}
}

// dialRaw opens a connection to a place, below TLS.
func (u *upstreams) dialRaw(ctx context.Context, to *place) (net.Conn, error) {
	if to.client.IsValid() {
		return u.sources.dial(ctx, to.client, to.target)
	}
	return dial(ctx, "tcp", to.target.String())
}

// dialPlace opens a connection to a place, which speaks the protocol where it
// is over TLS. Raw is what it is over, or itself.
func (u *upstreams) dialPlace(ctx context.Context, to *place, protocol string) (conn, raw net.Conn, err error) {
	if raw, err = u.dialRaw(ctx, to); err != nil || to.server == "" {
		return raw, raw, err
	}
	conn, err = secure(ctx, raw, to.server, protocol)
	return conn, raw, err
}

// secure speaks TLS on a connection that was opened, or closes it.
//
// The certificate is not verified: the container is asked at its own address,
// on a network of this host, and knows best what it calls itself.
func secure(ctx context.Context, raw net.Conn, server, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Client(raw, &tls.Config{ServerName: server, InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// unanswered says that nobody replied in time, as opposed to a refusal or a
// broken connection.
func unanswered(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
