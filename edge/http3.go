package edge

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
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
// When ctx ends, clients are asked to come back over another connection, and
// may do so for as long as other requests to the Proxy go on: nobody else reads
// conn meanwhile. What comes last is left in conn for the process that follows.
//
// Early data (0-RTT) is refused: it can be replayed, and comes from an address
// that nobody has proved to have.
func (p *Proxy) ServeQUIC(ctx context.Context, conn net.PacketConn, config *tls.Config) error {
	defer conn.Close()
	failed := func(err error) error { return fmt.Errorf("serve %v over QUIC: %w", conn.LocalAddr(), err) }
	transport, err := p.quicTransport(conn)
	if err != nil {
		return failed(err)
	}
	l, err := transport.ListenEarly(http3.ConfigureTLSConfig(config), p.quicConfig())
	if err != nil {
		return failed(err)
	}
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	go p.watch(base)
	port := portOf(conn.LocalAddr())
	p.quic.Store(port, fmt.Sprintf(`h3=":%d"; ma=86400`, port))

	var serving handlers
	first, second := p.newGeneration(&serving), p.newGeneration(&serving)
	door := &door{to: first}
	ended := make(chan error, 1)
	go func() { ended <- door.lead(l, p.opened) }()
	select {
	case err = <-ended:
		first.leave(0, 0, nil)
	case <-ctx.Done():
		door.turn(second)
		first.leave(p.drain*4/5, p.drain/20, func() bool { return p.draining.Load() == 0 })
		_ = l.Close() // no more handshakes; those that are over are still led in
		if err = <-ended; errors.Is(err, quic.ErrServerClosed) {
			err = nil
		}
	}
	second.leave(p.drain/5, p.drain/20, nil)
	p.quic.Delete(port)
	err = errors.Join(err, transport.Close())
	serving.end()
	if err != nil {
		return failed(err)
	}
	return nil
}

// quicTransport makes connections on conn that the next process on the same
// address can end: it knows nothing of them, and tells their clients so at once
// (RFC 9000, section 10.3). Keys are those of one address, since at another a
// client would be told so as well.
func (p *Proxy) quicTransport(conn net.PacketConn) (*quic.Transport, error) {
	t := &quic.Transport{Conn: conn}
	p.limitQUIC(t)
	if len(p.quicSecret) == 0 {
		return t, nil
	}
	key := func(purpose string) (out [32]byte, err error) {
		b, err := hkdf.Key(sha256.New, p.quicSecret, nil, purpose+" "+conn.LocalAddr().String(), len(out))
		copy(out[:], b)
		return out, err
	}
	reset, err := key("stateless reset")
	if err != nil {
		return nil, err
	}
	token, err := key("token")
	t.StatelessResetKey, t.TokenGeneratorKey = (*quic.StatelessResetKey)(&reset), (*quic.TokenGeneratorKey)(&token)
	return t, err
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
