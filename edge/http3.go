package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// quicKeepAlive is how often a connection with nothing to say is proved alive,
// so that a silent WebSocket outlives the mappings of routers on the way.
const quicKeepAlive = 25 * time.Second

// ServeQUIC answers on conn with HTTP/3, as Serve does on a listener. While it
// runs, answers of Serve on a port of the same number advertise it.
//
// Early data (0-RTT) is refused: it can be replayed, and comes from an address
// that nobody has proved to have.
func (p *Proxy) ServeQUIC(ctx context.Context, conn net.PacketConn, config *tls.Config) error {
	defer conn.Close()
	var serving handlers
	srv := &http3.Server{
		Handler:        serving.await(p),
		TLSConfig:      http3.ConfigureTLSConfig(config),
		MaxHeaderBytes: maxHeaderBytes,
		IdleTimeout:    idleTimeout,
		QUICConfig: &quic.Config{
			Allow0RTT:            false,
			HandshakeIdleTimeout: readHeaderTimeout,
			MaxIdleTimeout:       idleTimeout,
			KeepAlivePeriod:      quicKeepAlive,
			MaxIncomingStreams:   maxStreams,
		},
		// ReverseProxy breaks off an answer that it cannot complete only where
		// it sees this key; otherwise a part would pass for the whole.
		ConnContext: func(ctx context.Context, _ *quic.Conn) context.Context {
			return context.WithValue(ctx, http.ServerContextKey, &http.Server{})
		},
		Logger: slog.New(slog.DiscardHandler), // the access log has what matters
	}
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	go p.watch(base)
	port := portOf(conn.LocalAddr())
	p.quic.Store(port, fmt.Sprintf(`h3=":%d"; ma=86400`, port))
	err := p.runUntil(ctx, srv, func() error { return srv.Serve(conn) })
	p.quic.Delete(port)
	err = errors.Join(err, srv.Close())
	serving.end()
	if err != nil {
		return fmt.Errorf("serve %v over QUIC: %w", conn.LocalAddr(), err)
	}
	return nil
}

// altSvc is the header that tells a client of HTTP/1.1 or HTTP/2 about HTTP/3
// on the port that it came to (RFC 7838, section 3); empty if there is none.
func (p *Proxy) altSvc(r *http.Request) string {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || r.ProtoMajor >= 3 {
		return ""
	}
	value, _ := p.quic.Load(portOf(local))
	header, _ := value.(string)
	return header
}

func portOf(addr net.Addr) int {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	default:
		return 0
	}
}
