package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Limits of what one client may take up. There is none on a whole body: bodies
// are streams of any length.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 64 << 10

	// drainTimeout is how long requests may go on once Serve is to end.
	drainTimeout = 10 * time.Second
)

// Options of a [Proxy].
type Options struct {
	// Logger receives one line for each request, at level Info, and
	// connection errors at level Debug. Nil is slog.Default().
	Logger *slog.Logger

	// API answers at the host "api" of a [Config] that has one. It asks for
	// credentials itself. Nil answers 404.
	API http.Handler

	// Git answers at the host "git" in the same way.
	Git http.Handler
}

// Proxy is the edge as it runs: it owns connections in both directions and the
// requests that are live, and takes a [Table] from [Proxy.Swap] for its rules.
// It is safe for concurrent use.
type Proxy struct {
	log     *slog.Logger
	api     http.Handler
	git     http.Handler
	reverse *httputil.ReverseProxy
	drain   time.Duration

	swapping  sync.Mutex // held by Swap
	live      registry
	upstreams upstreams
	quic      sync.Map // port → struct{}: where HTTP/3 is served
}

// NewProxy returns a Proxy without a table: it answers 503 until the first
// [Proxy.Swap].
func NewProxy(o Options) *Proxy {
	p := &Proxy{log: o.Logger, api: o.API, git: o.Git, drain: drainTimeout}
	if p.api == nil {
		p.api = http.NotFoundHandler()
	}
	if p.git == nil {
		p.git = http.NotFoundHandler()
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	p.live.init()
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &p.upstreams,
		ModifyResponse: modifyResponse,
		ErrorHandler:   upstreamError,
		BufferPool:     &bufferPool{},
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
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
	p.live.swap(t)
	p.upstreams.keep(t)
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

	var serving handlers
	srv := &http.Server{
		Handler:           serving.await(p),
		TLSConfig:         config,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withSocket,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	err := p.runUntil(ctx, srv, func() error { return srv.ServeTLS(l, "", "") })
	cut()
	err = errors.Join(err, srv.Close())
	serving.end()
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
	x.altSvc = p.altSvc(r)
	defer func() {
		p.live.leave(x)
		v := recover()
		p.logAccess(x)
		if v != nil {
			if v != http.ErrAbortHandler {
				p.log.Error("panic while serving", "error", v, "request_id", x.idString(), "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}
	}()

	// Only HTTP/2 lets a space through, which would end the target in the
	// request line that the container reads.
	if strings.ContainsRune(r.RequestURI, ' ') {
		x.page(malformed)
		return
	}
	tunnel := wantsTunnel(r)
	if r.Method == http.MethodConnect && !tunnel {
		x.page(unsupported)
		return
	}

	p.live.admit(x)
	switch {
	case x.table == nil:
		w.Header().Set("Retry-After", "5")
		x.page(starting)
	case x.decision.Route.API:
		p.api.ServeHTTP(x, x.r.WithContext(x.ctx))
	case x.decision.Route.Git:
		p.git.ServeHTTP(x, x.r.WithContext(x.ctx))
	case x.decision.Verdict == Allow && tunnel:
		p.tunnel(x)
	case x.decision.Verdict == Allow:
		if r.ProtoMajor == 1 { // the others are so anyway
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		p.reverse.ServeHTTP(x, x.r.WithContext(context.WithValue(x.ctx, exchangeKey{}, x)))
	case x.decision.Verdict == NotFound && r.TLS != nil && r.TLS.ServerName != "" && !x.table.covers(r.Host):
		x.page(wrongConnection)
	default:
		x.page(x.decision.refusal())
	}
}

// clientAddr is the caller's address as the socket has it. Headers never count.
func clientAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // belongs to no group
	}
	return ap.Addr().Unmap().WithZone("")
}

// bufferPool lends the buffers that response bodies are copied through.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buf[:]
	}
	return make([]byte, bufferSize)
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put((*[bufferSize]byte)(buf)) }
