package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"swage/edge/limit"
)

// Limits of what one client may take up. There is none on a whole body: bodies
// are streams of any length.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 64 << 10

	// serverHeaderBytes is what the server reads of a header over TCP. Of
	// HTTP/2 it ends the whole connection when a field is larger, so it reads
	// more than what is accepted, and the request alone is answered 431.
	serverHeaderBytes = 4 * maxHeaderBytes

	maxStreams = 250 // at the same time on one connection of HTTP/2 or HTTP/3

	// pingAfter is how long a connection of HTTP/2 may be silent before the
	// client must prove that it is there, and pingTimeout how long that takes.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second

	// drainTimeout is how long requests may go on once Serve is to end.
	drainTimeout = 10 * time.Second
)

// Options of a [Proxy].
type Options struct {
	// Logger receives one line for each request, at level Info, and
	// connection errors at level Debug. Nil is slog.Default(). If its Handler
	// is a LineHandler, lines cost less.
	Logger *slog.Logger

	// Transparent opens connections to containers from their clients' own
	// addresses, where it can. Nil: all come from the edge's.
	Transparent ClientDialer

	// Limits of what is passed on at the same time. Of each that is 0 the
	// default holds: 1,000 requests and 10,000 tunnels of one client, 4,000
	// and 40,000 to one container.
	Limits Limits

	// API answers at the host "api" of a [Config] that has one. It asks for
	// credentials itself. Nil answers 404.
	API http.Handler

	// Guesses counts wrong credentials, also those that others look at. Nil
	// are those of the Proxy alone.
	Guesses *limit.Guesses

	// Conns counts the connections of clients. Nil are those of the Proxy
	// alone, with [limit.DefaultCaps].
	Conns *limit.Conns

	// Verifier checks passwords and JWTs. Nil proves none.
	Verifier Verifier

	// Pending says that the certificate of a server name is still being
	// obtained, which being asked may begin. Requests for it are answered
	// 503. Nil is never.
	Pending func(serverName string) bool

	// Strict says that strangers can verify the zone's certificate, so that
	// browsers may be told to insist on HTTPS. Nil is no.
	Strict func() bool

	// Challenge answers a certificate authority that asks without TLS (RFC
	// 8555, section 8.3); false says that nothing was written. It may be nil.
	Challenge func(http.ResponseWriter, *http.Request) bool

	// Git answers at the host "git" in the same way.
	Git http.Handler

	// QUICSecret is what the process before had and the one after will have:
	// whom the one knew, the other can send away at once. 32 random bytes do.
	// Without it clients of HTTP/3 find out by themselves, which takes longer.
	QUICSecret []byte
}

// Proxy is the edge as it runs: it owns connections in both directions and the
// requests that are live, and takes a [Table] from [Proxy.Swap] for its rules.
// It is safe for concurrent use.
type Proxy struct {
	log   *slog.Logger
	api   http.Handler
	git   http.Handler
	drain time.Duration

	quicIdle time.Duration // of connections without a request
	windows  windows

	verifier Verifier
	guesses  *limit.Guesses
	conns    *limit.Conns

	pending   func(string) bool
	strict    func() bool
	challenge func(http.ResponseWriter, *http.Request) bool

	swapping  sync.Mutex // held by Swap
	live      registry
	load      load
	upstreams upstreams
	quic      sync.Map // port → the Alt-Svc of where HTTP/3 is served

	quicSecret []byte
	draining   atomic.Int32 // servers over TCP that end
}

// NewProxy returns a Proxy without a table: it answers 503 until the first
// [Proxy.Swap].
func NewProxy(o Options) *Proxy {
	p := &Proxy{log: o.Logger, api: o.API, git: o.Git, drain: drainTimeout, quicIdle: idleTimeout, verifier: o.Verifier, guesses: o.Guesses, conns: o.Conns}
	p.pending, p.strict, p.challenge, p.quicSecret = o.Pending, o.Strict, o.Challenge, o.QUICSecret
	if p.guesses == nil {
		p.guesses = limit.NewGuesses()
	}
	if p.api == nil {
		p.api = http.NotFoundHandler()
	}
	if p.git == nil {
		p.git = http.NotFoundHandler()
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	if p.conns == nil {
		p.conns = limit.NewConns(limit.DefaultCaps(0), p.log)
	}
	p.windows.left.Store(p.conns.Memory() / 2)
	p.load.init(Limits{
		cmp.Or(o.Limits.ClientRequests, defaultLimits.ClientRequests), cmp.Or(o.Limits.ClientTunnels, defaultLimits.ClientTunnels),
		cmp.Or(o.Limits.ContainerRequests, defaultLimits.ContainerRequests), cmp.Or(o.Limits.ContainerTunnels, defaultLimits.ContainerTunnels),
	})
	p.upstreams.init(o.Transparent)
	return p
}

// Swap makes t the table of every request that comes, decides every live
// request again, and cuts those which t refuses or would send elsewhere.
// Others are not touched. Idle connections to addresses that t no longer holds
// are closed, since an address may soon be another container's.
//
// After Swap returns nothing is passed on under an earlier table. A nil table
// refuses all.
func (p *Proxy) Swap(t *Table) {
	p.swapping.Lock()
	defer p.swapping.Unlock()
	before := p.live.table.Load()
	p.live.swap(t)
	p.upstreams.keep(t)
	p.audit(t, before)
}

// Serve answers on l, over TLS 1.2 or later with HTTP/1.1 and HTTP/2, until
// ctx ends. Then it stops accepting, lets requests finish for a while, and
// cuts what is left, tunnels such as WebSockets among them. It returns nil
// after such an end, and closes l always. The certificates come from config.
func (p *Proxy) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)

	// A request's context descends from base, so that ending base cuts all
	// that this call serves. Ending ctx must not: that starts the drain.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	gate := newGate(base, p.conns.Listen(l), func() time.Duration { return p.drain / 20 })
	srv := &http.Server{
		Handler:           gate.serving.await(gate.pending.count(limit.WhileBusy(p))),
		ConnState:         gate.state,
		TLSConfig:         config,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    serverHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: limit.Stall},
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       gate.context,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),

		// It would answer for every host, and wait for bodies that nobody looks at.
		DisableGeneralOptionsHandler: true,
	}
	go p.watch(base)
	err := p.runUntil(ctx, gatedServer{gate, srv}, func() error { return srv.ServeTLS(gate, "", "") })
	cut()
	err = errors.Join(err, srv.Close())
	gate.serving.end()
	if err != nil {
		return fmt.Errorf("serve %v: %w", l.Addr(), err)
	}
	return nil
}

// runUntil runs a server until it fails or ctx ends, and then lets its requests
// finish for a while.
func (p *Proxy) runUntil(ctx context.Context, srv interface{ Shutdown(context.Context) error }, run func() error) error {
	failed := make(chan error, 1)
	go func() { failed <- run() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		p.draining.Add(1)
		defer p.draining.Add(-1)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.drain)
		defer cancel()
		err := srv.Shutdown(deadline)
		<-failed
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
}

// handlers awaits the handlers of a server that is at its end: servers forget
// connections that were hijacked.
type handlers struct{ running sync.RWMutex }

func (h *handlers) await(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.running.TryRLock() {
			panic(http.ErrAbortHandler)
		}
		defer h.running.RUnlock()
		next.ServeHTTP(w, r)
	})
}

// end returns when no handler runs, and none will.
func (h *handlers) end() { h.running.Lock() }

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(w, r)
	x.link.hears()
	x.altSvc = p.altSvc(r)
	x.firstWrites()
	defer func() {
		v := recover()
		if x.detached != nil {
			go x.detached()
			return
		}
		if v == nil {
			p.awaitTaken(x)
		}
		p.end(x, v)
		if v != nil {
			panic(http.ErrAbortHandler)
		}
	}()

	switch {
	case exceeds(r):
		x.pageAndClose(tooLarge)
		return
	case !sound(r):
		x.pageAndClose(malformed)
		return
	}
	tunnel := wantsTunnel(r)
	if r.Method == http.MethodConnect && !tunnel {
		x.page(unsupported)
		return
	}

	if t := p.live.table.Load(); t != nil && r.TLS != nil {
		switch {
		case !t.sameCertificate(r.TLS.ServerName, r.Host):
			x.page(wrongConnection)
			return
		case p.isPending(r.TLS.ServerName):
			x.obtaining()
			return
		}
		x.strict = p.strict != nil && p.strict() && t.sameCertificate("", r.Host)
	}
	if tunnel || isWebSocket(r) {
		x.kind = aTunnel
	}
	p.admit(x)
	switch {
	case x.table == nil:
		w.Header().Set("Retry-After", "5")
		x.page(starting)
	case x.decision.Route.API:
		p.serveOwn(x, p.api)
	case x.decision.Route.Git:
		p.serveOwn(x, p.git)
	case x.decision.Verdict == Allow && !p.load.enter(x):
		w.Header().Set("Retry-After", "1")
		x.page(overloaded)
	case x.decision.Verdict == Allow:
		x.source = p.upstreams.sources.choose(&x.decision.Route, x.request.Client, x.begun)
		if r.ProtoMajor == 1 { // the others are so anyway
			x.duplex = true
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		p.forward(x)
		x.finish()
	default:
		x.refuse(x.decision)
	}
}

// end is the last of an exchange, which may have ended in a panic.
func (p *Proxy) end(x *exchange, v any) {
	p.live.leave(x)
	p.load.leave(x)
	x.lastWrites()
	p.logAccess(x)
	if v != nil && v != http.ErrAbortHandler {
		p.log.Error("panic while serving", "error", v, "request_id", x.idString(), "stack", string(debug.Stack()))
	}
}
