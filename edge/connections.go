package edge

import (
	"context"
	"errors"
	"math"
	"net"
	"sync/atomic"
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

	// Each stream of HTTP/3 takes a goroutine and memory from its first byte on,
	// and one frame opens all streams that may be open. The server has no bound
	// on how long the head of a request may take, so what binds is how many there
	// are: maxStreams on each of a client's first connections, then fewer.
	someStreams  = 32
	leastStreams = 8 // more than browsers want of a host over HTTP/1.1

	// maxUniStreams are three that HTTP/3 has and some that a client makes up
	// (RFC 9114, section 6.2).
	maxUniStreams = 8

	// What a client sends that nobody reads stays in memory, up to these: the
	// content of requests that wait, parts behind one that is missing, and all on
	// the streams of QPACK, whose table is not used. Windows grow while what comes
	// is read; see windows.
	streamWindow     = 2 * maxHeaderBytes
	connectionWindow = 3 * maxHeaderBytes
)

// quicConfig gives each connection as many streams as its client may have.
func (p *Proxy) quicConfig() *quic.Config {
	room := &p.windows
	config := func(streams int) *quic.Config {
		return &quic.Config{
			Allow0RTT:             false,
			HandshakeIdleTimeout:  readHeaderTimeout,
			MaxIdleTimeout:        idleTimeout,
			KeepAlivePeriod:       quicKeepAlive,
			MaxIncomingStreams:    int64(streams),
			MaxIncomingUniStreams: maxUniStreams,

			InitialStreamReceiveWindow:     streamWindow,
			InitialConnectionReceiveWindow: connectionWindow,
			AllowConnectionWindowIncrease:  room.grow,
		}
	}
	all := config(maxStreams)
	all.GetConfigForClient = func(info *quic.ClientInfo) (*quic.Config, error) {
		return config(p.conns.Streams(limit.AddrOf(info.RemoteAddr), maxStreams, someStreams, leastStreams)), nil
	}
	return all
}

// limitQUIC has the connections of a transport counted from their first packet
// on.
func (p *Proxy) limitQUIC(t *quic.Transport) {
	t.VerifySourceAddress = func(net.Addr) bool { return p.conns.Opening() >= quicStrangers }
	t.ConnContext = p.reserve
}

// windows is how many bytes connections may still have of windows that have
// grown, together. One that gets no more goes on with the window that it has.
type windows struct{ left atomic.Int64 }

// grow is [quic.Config.AllowConnectionWindowIncrease]. Of the connection nothing
// but its context may be asked for here, which takes no lock.
func (w *windows) grow(conn *quic.Conn, more uint64) bool {
	n := int64(more)
	if w.left.Add(-n) < 0 {
		w.left.Add(n)
		return false
	}
	context.AfterFunc(conn.Context(), func() { w.left.Add(n) })
	return true
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
// enough, and has that done once it was idle for long.
func (p *Proxy) opened(conn *quic.Conn) {
	counted := limit.OfContext(conn.Context())
	closed := func(code http3.ErrCode) func() {
		return func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(code), "") }
	}
	counted.Opened(closed(http3.ErrCodeExcessiveLoad))
	expire(conn.Context(), counted, p.quicIdle, closed(http3.ErrCodeNoError))
}

// expire closes a connection once it has carried no request for so long. To
// http3.Server one is not idle while a stream is open, whatever came on it.
func expire(ctx context.Context, counted *limit.Conn, after time.Duration, closed func()) {
	var t *time.Timer
	t = time.AfterFunc(math.MaxInt64, func() {
		switch idle := counted.IdleFor(time.Now()); {
		case idle < after:
			t.Reset(after - max(0, idle))
		default:
			closed()
		}
	})
	t.Reset(after)
	context.AfterFunc(ctx, func() { t.Stop() })
}
