package edge

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"swage/edge/limit"
)

const (
	// quicLinger is how long the end of an answer over HTTP/3 may be on its
	// way, which is lost when the connection is closed.
	quicLinger = time.Second

	// quicStrangers is how many handshakes may go on before clients have to
	// prove that their address is theirs (RFC 9000, section 8.1.2), so that
	// nobody is counted out who never sent anything.
	quicStrangers = 64
)

// limitQUIC has the connections of a transport counted from their first packet
// on.
func (p *Proxy) limitQUIC(t *quic.Transport) {
	t.VerifySourceAddress = func(net.Addr) bool { return p.conns.Opening() >= quicStrangers }
	t.ConnContext = p.reserve
}

func (p *Proxy) reserve(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	e := p.conns.Reserve(limit.AddrOf(info.RemoteAddr), quicLinger)
	if e == nil {
		return nil, errCrowded
	}
	context.AfterFunc(ctx, e.Close) // also when the handshake fails
	return e.With(ctx), nil
}

var errCrowded = errors.New("too many connections")

// opened says how a connection of QUIC can be closed whose handshake is far
// enough.
func opened(conn *quic.Conn) {
	limit.OfContext(conn.Context()).Opened(func() {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
	})
}
