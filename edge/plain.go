package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"swage/edge/limit"
)

// plainTimeout bounds a whole request without TLS: nothing long is answered
// there.
const plainTimeout = 20 * time.Second

// hsts makes browsers insist on HTTPS for half a year (RFC 6797, section
// 6.1.1). It concerns the one host: there is nothing below it.
const hsts = "max-age=15552000"

// ServePlain answers on l without TLS, as Serve does with it: challenges of a
// certificate authority, and for the hosts of the table the way to HTTPS at the
// port that port names at that moment. Nothing is passed on. Other hosts are
// not redirected: the link would be of a stranger's making.
func (p *Proxy) ServePlain(ctx context.Context, l net.Listener, port func() int) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var serving handlers
	srv := &http.Server{
		Handler: serving.await(limit.WhileBusy(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.plain(w, r, port())
		}))),
		ConnState:      limit.ConnState,
		ConnContext:    func(ctx context.Context, conn net.Conn) context.Context { return limit.Of(conn).With(ctx) },
		ReadTimeout:    plainTimeout,
		WriteTimeout:   plainTimeout,
		IdleTimeout:    plainTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		BaseContext:    func(net.Listener) context.Context { return base },
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true,
	}
	err := p.runUntil(ctx, srv, func() error { return srv.Serve(p.conns.Listen(l)) })
	cut()
	err = errors.Join(err, srv.Close())
	serving.end()
	if err != nil {
		return fmt.Errorf("serve %v: %w", l.Addr(), err)
	}
	return nil
}

func (p *Proxy) plain(w http.ResponseWriter, r *http.Request, port int) {
	x := newExchange(w, r)
	x.ctx = newEnding(r.Context()) // never cut: it ends soon
	defer p.logAccess(x)
	if p.challenge != nil && p.challenge(x, r) {
		return
	}
	var buf [maxHost]byte
	name, ok := normalise(&buf, r.Host)
	t := p.live.table.Load()
	switch {
	case t == nil:
		w.Header().Set("Retry-After", "5")
		x.page(starting)
	case !ok || !t.covers(r.Host):
		x.page(unknown)
	case x.request.Path[0] != '/': // "*", which would become a part of the host
		x.page(malformed)
	case isChallenge(r.URL.Path): // the authority's, of an order that is over
		x.page(unknown)
	case p.isPending(string(name)):
		x.obtaining()
	default:
		host := string(name)
		if port != 443 {
			host = net.JoinHostPort(host, strconv.Itoa(port))
		}
		to := "https://" + host + x.request.Path
		if r.URL.RawQuery != "" || r.URL.ForceQuery {
			to += "?" + r.URL.RawQuery
		}
		w.Header()["Location"] = []string{asLocation(to)}
		// 308 keeps the method and the body (RFC 9110, section 15.4.9).
		x.WriteHeader(http.StatusPermanentRedirect)
	}
}

// asLocation escapes what a request may hold and a URI may not.
func asLocation(to string) string {
	var out strings.Builder
	for _, c := range []byte(to) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// isChallenge says that a path is only for certificate authorities (RFC 8555,
// section 8.3).
func isChallenge(path string) bool { return strings.HasPrefix(path, "/.well-known/acme-challenge/") }

func (p *Proxy) isPending(name string) bool { return p.pending != nil && p.pending(name) }

// obtaining answers while the certificate of the host is on its way. The
// connection ends with it, since it began with a stand-in.
func (x *exchange) obtaining() {
	x.w.Header().Set("Retry-After", "10")
	x.w.Header().Set("Connection", "close")
	x.page(noCertificate)
}

// sameCertificate says that one certificate serves both names: those of the
// zone share one, a custom domain shares its own with nobody. So browsers may
// use one connection for many hosts of the zone (RFC 9113, section 9.1.1), and
// what was meant for one domain does not reach another. A client that named no
// server was given the zone's.
func (t *Table) sameCertificate(serverName, host string) bool {
	var a, b [maxHost]byte
	if serverName == "" {
		serverName = t.zone
	}
	from, ok := normalise(&a, serverName)
	if !ok {
		return false
	}
	to, ok := normalise(&b, host)
	return ok && (bytes.Equal(from, to) || t.inZone(from) && t.inZone(to))
}

func (t *Table) inZone(name []byte) bool {
	_, below := t.label(name)
	return below || string(name) == t.zone
}
