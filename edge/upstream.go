package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
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

	// idleUpstream is below the five seconds after which common application
	// servers close: a request must not meet a connection that is closing.
	idleUpstream = 4 * time.Second

	handshakeTimeout       = 5 * time.Second
	idlePerPort            = 64
	responseHeaderTimeout  = 5 * time.Minute
	expectContinueTimeout  = time.Second
	maxResponseHeaderBytes = 256 << 10
)

// place is a container at an address. Both make the key of a pool of
// connections: what was opened to one container is never used for another that
// has the address later.
type place struct {
	containerID string
	addr        netip.Addr
	http2       bool // the connections speak HTTP/2 and nothing else
}

// upstreams holds a pool of connections for each place in use. Its zero value
// is ready.
type upstreams struct {
	pools sync.Map // place → *http.Transport
}

// RoundTrip sends a request to the place of its exchange.
func (u *upstreams) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	route := x.decision.Route
	return u.pool(place{route.ContainerID, route.Addr.Addr(), isGRPC(x.r)}).RoundTrip(r)
}

// isGRPC says that a request can only be answered over HTTP/2, which is how
// gRPC is defined. All else goes over HTTP/1.1, which every server speaks.
func isGRPC(r *http.Request) bool {
	kind := r.Header.Get("Content-Type")
	const grpc = "application/grpc"
	return r.ProtoMajor >= 2 && r.Method == http.MethodPost && strings.HasPrefix(kind, grpc) &&
		(len(kind) == len(grpc) || kind[len(grpc)] == '+' || kind[len(grpc)] == ';')
}

func (u *upstreams) pool(to place) *http.Transport {
	if pool, ok := u.pools.Load(to); ok {
		return pool.(*http.Transport)
	}
	pool, _ := u.pools.LoadOrStore(to, newTransport(to.http2))
	return pool.(*http.Transport)
}

// keep drops the pools of places that the table does not hold. Connections in
// use are not put back into a dropped pool, they end with their request.
func (u *upstreams) keep(t *Table) {
	u.pools.Range(func(key, pool any) bool {
		if to := key.(place); t.addrOf(to.containerID) != to.addr {
			u.pools.Delete(key)
			pool.(*http.Transport).CloseIdleConnections()
		}
		return true
	})
}

// addrOf is where a container is, the zero Addr if nowhere.
func (t *Table) addrOf(containerID string) netip.Addr {
	if t == nil || t.byID[containerID] == nil {
		return netip.Addr{}
	}
	return t.byID[containerID].addr
}

func newTransport(http2 bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	protocols.SetUnencryptedHTTP2(http2)
	alpn := []string{"http/1.1"}
	if http2 {
		alpn = []string{"h2"}
	}
	return &http.Transport{
		DialContext: dial,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialTLS(ctx, network, address, alpn)
		},
		Protocols:              protocols,
		DisableCompression:     true, // bodies are passed on as they are
		MaxIdleConnsPerHost:    idlePerPort,
		IdleConnTimeout:        idleUpstream,
		ResponseHeaderTimeout:  responseHeaderTimeout,
		ExpectContinueTimeout:  expectContinueTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
	}
}

// dial opens a connection, trying again while nobody answers. A refusal is an
// answer: the container is there and nothing listens.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTotal)
	defer cancel()
	for wait := dialFirst; ; wait = min(2*wait, dialLongest) {
		tried := time.After(wait)
		conn, err := (&net.Dialer{Timeout: wait}).DialContext(ctx, network, address)
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

// dialTLS opens a connection to where the request of the context goes. The
// address holds the name that is asked for, so that connections are shared by
// requests for one name only.
//
// The certificate is not verified: the container is asked at its own address,
// on a network of this host, and knows best what it calls itself.
func dialTLS(ctx context.Context, network, address string, alpn []string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, network, exchangeOf(ctx).decision.Route.Addr.String())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: alpn})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// unanswered says that nobody replied in time, as opposed to a refusal or a
// broken connection.
func unanswered(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// upstreamError answers when the container did not.
func upstreamError(_ http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	x.err = err
	var cut cutError
	switch {
	case x.started.Load():
		panic(http.ErrAbortHandler)
	case errors.As(context.Cause(x.ctx), &cut):
		x.refuse(cut.decision)
	case x.ctx.Err() != nil:
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	case unanswered(err):
		x.page(noAnswer)
	case errors.Is(err, syscall.ECONNREFUSED):
		x.page(nothingListens)
	default:
		x.page(brokenAnswer)
	}
}

// statusClientGone stands in logs for a request whose client did not wait; no
// answer has it.
const statusClientGone = 499
