package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	idlePerPort            = 256 // fewer than are in use at once would be dialled again and again
	idlePerClient          = 4   // of one client to one port
	maxPools               = 2048
	responseHeaderTimeout  = 5 * time.Minute
	expectContinueTimeout  = time.Second
	maxResponseHeaderBytes = 256 << 10
)

// place is a container at an address, as one client reaches it. All make the
// key of a pool of connections: what was opened to one container is never used
// for another that has the address later, and what was opened in the name of
// one client never for another.
type place struct {
	containerID string
	addr        netip.Addr
	client      netip.Addr // whose address the connections come from; zero: the edge's own
	http2       bool       // the connections speak HTTP/2 and nothing else
}

// upstreams holds a pool of connections for each place in use. Its zero value
// is ready.
type upstreams struct {
	sources sources
	pools   sync.Map // place → *pool
	count   atomic.Int64
	pruning sync.Mutex // held by prune
}

// pool are the connections to one place.
type pool struct {
	http.Transport
	used atomic.Int64 // when the last request came, in nanoseconds since 1970
}

// RoundTrip sends a request to the place of its exchange.
func (u *upstreams) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	if x.source.client.IsValid() && r.Body != nil && r.Body != http.NoBody {
		r.Body = &unreadBody{ReadCloser: r.Body}
	}
	res, err := u.roundTrip(r, x)
	if err != nil {
		return u.roundTripAgain(r, x, err)
	}
	return res, nil
}

func (u *upstreams) roundTrip(r *http.Request, x *exchange) (*http.Response, error) {
	s := &x.source
	p := u.pool(place{x.decision.Route.ContainerID, s.target.Addr(), s.client, isGRPC(x.r)})
	p.used.Store(x.begun.UnixNano())
	return p.RoundTrip(r)
}

// isGRPC says that a request can only be answered over HTTP/2, which is how
// gRPC is defined. All else goes over HTTP/1.1, which every server speaks.
func isGRPC(r *http.Request) bool {
	kind := r.Header.Get("Content-Type")
	const grpc = "application/grpc"
	return r.ProtoMajor >= 2 && r.Method == http.MethodPost && strings.HasPrefix(kind, grpc) &&
		(len(kind) == len(grpc) || kind[len(grpc)] == '+' || kind[len(grpc)] == ';')
}

func (u *upstreams) pool(to place) *pool {
	if p, ok := u.pools.Load(to); ok {
		return p.(*pool)
	}
	made := u.newPool(to)
	made.used.Store(time.Now().UnixNano())
	p, loaded := u.pools.LoadOrStore(to, made)
	if !loaded && u.count.Add(1) > maxPools {
		u.prune()
	}
	return p.(*pool)
}

// drop takes a pool away, if nobody else did.
func (u *upstreams) drop(key, p any) {
	if u.pools.CompareAndDelete(key, p) {
		u.count.Add(-1)
		p.(*pool).CloseIdleConnections()
	}
}

// prune drops the quarter of the pools that was not used for longest. It is
// rare: pools are made again only when so many others were used since.
func (u *upstreams) prune() {
	if !u.pruning.TryLock() {
		return
	}
	defer u.pruning.Unlock()
	type aged struct {
		key, pool any
		used      int64
	}
	all := make([]aged, 0, maxPools+64)
	u.pools.Range(func(key, p any) bool {
		all = append(all, aged{key, p, p.(*pool).used.Load()})
		return true
	})
	slices.SortFunc(all, func(a, b aged) int { return cmp.Compare(a.used, b.used) })
	for _, old := range all[:len(all)-min(len(all), maxPools*3/4)] {
		u.drop(old.key, old.pool)
	}
}

// keep drops the pools of places that the table does not hold. Connections in
// use are not put back into a dropped pool, they end with their request.
func (u *upstreams) keep(t *Table) {
	u.pools.Range(func(key, p any) bool {
		if to := key.(place); !t.holds(to.containerID, to.addr) {
			u.drop(key, p)
		}
		return true
	})
	u.sources.keep(t)
}

// holds reports whether a container is at an address.
func (t *Table) holds(containerID string, addr netip.Addr) bool {
	if t == nil || t.byID[containerID] == nil {
		return false
	}
	c := t.byID[containerID]
	return addr == c.addr || addr == c.addr6
}

func (u *upstreams) newPool(to place) *pool {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!to.http2)
	protocols.SetHTTP2(to.http2)
	protocols.SetUnencryptedHTTP2(to.http2)
	alpn := []string{"http/1.1"}
	if to.http2 {
		alpn = []string{"h2"}
	}
	plain, idle := dial, idlePerPort
	if to.client.IsValid() {
		idle = idlePerClient
		plain = func(ctx context.Context, _, address string) (net.Conn, error) {
			return u.sources.dial(ctx, to.client, address)
		}
	}
	return &pool{Transport: http.Transport{
		DialContext: plain,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialTLS(ctx, network, address, alpn, plain)
		},
		Protocols:              protocols,
		DisableCompression:     true, // bodies are passed on as they are
		MaxIdleConnsPerHost:    idle,
		IdleConnTimeout:        idleUpstream,
		ResponseHeaderTimeout:  responseHeaderTimeout,
		ExpectContinueTimeout:  expectContinueTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
	}}
}

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

// dialer opens a connection as http.Transport asks for it.
type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// dialTLS opens a connection to where the request of the context goes. The
// address holds the name that is asked for, so that connections are shared by
// requests for one name only.
//
// The certificate is not verified: the container is asked at its own address,
// on a network of this host, and knows best what it calls itself.
func dialTLS(ctx context.Context, network, address string, alpn []string, plain dialer) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := plain(ctx, network, exchangeOf(ctx).source.target.String())
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
	if x.ctx.Err() != nil && x.r.ProtoMajor == 1 {
		// A body that was broken off would be read as the next request.
		x.w.Header().Set("Connection", "close")
	}
	switch {
	case x.started.Load():
		panic(http.ErrAbortHandler)
	case errors.As(context.Cause(x.ctx), &cut):
		x.refuse(cut.decision)
	case context.Cause(x.ctx) == errSlow:
		x.page(tooSlow)
	case x.ctx.Err() != nil:
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	case x.truncated.Load():
		x.page(malformed)
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
