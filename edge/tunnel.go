package edge

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"

	"swage/edge/upstream"
)

// wantsTunnel says that a request asks for a WebSocket by an extended CONNECT
// (RFC 8441, RFC 9220). net/http tells the protocol in a header that no client
// can send, quic-go in place of the version.
func wantsTunnel(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	switch r.ProtoMajor {
	case 2:
		return strings.EqualFold(r.Header.Get(":protocol"), "websocket")
	case 3:
		return strings.EqualFold(r.Proto, "websocket")
	default:
		return false
	}
}

// tunnel carries a WebSocket between a client and a container, which speaks
// HTTP/1.1: applications know nothing else. The client's side is a connection of
// HTTP/1.1, or a stream of HTTP/2 or HTTP/3 and then the key is the edge's. The
// frames in it pass as they are.
func (p *Proxy) tunnel(x *exchange, res *http.Response, key string) {
	c := x.conn
	switch {
	case x.kind != aTunnel || !strings.EqualFold(res.Header.Get("Upgrade"), "websocket"):
		x.fail(errors.New("the answer changes to a protocol that nobody asked for"))
		return
	case key != "" && res.Header.Get("Sec-Websocket-Accept") != acceptKey(key):
		x.fail(errors.New("the answer is none to the WebSocket handshake"))
		return
	}
	removeHopByHop(res.Header)
	maps.Copy(x.w.Header(), res.Header)
	x.keepToHost(x.w.Header())
	if key == "" {
		p.tunnelConn(x, c)
	} else {
		x.tunnelStream(c)
	}
}

// tunnelConn has a client of HTTP/1.1. The tunnel outlives the handler, so that
// the server's buffers and the stack that a handshake has made large are freed:
// there are thousands of tunnels, which are silent most of the time.
func (p *Proxy) tunnelConn(x *exchange, c *conn) {
	h := x.w.Header()
	x.advertise()
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	client, buffered, err := x.Hijack()
	if err != nil {
		x.fail(err)
		return
	}
	head := bytes.NewBufferString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(head)
	head.WriteString("\r\n")
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	if _, err = client.Write(head.Bytes()); err == nil {
		_, err = c.Write(early)
	}
	carry := func() {
		defer client.Close()
		if err == nil {
			x.relay(client, client, client.(closeWriter), c)
		}
	}
	if !x.mayDetach() || !x.link.gate.serving.running.TryRLock() {
		carry()
		return
	}
	x.detach()
	x.conn = nil
	p.live.forgetServer(x)
	x.detached = func() {
		defer x.link.gate.serving.running.RUnlock()
		defer func() {
			x.ctx.takeBack(towardsContainer)
			c.kill()
			p.end(x, recover())
		}()
		carry()
	}
}

// tunnelStream has a client of HTTP/2 or HTTP/3.
func (x *exchange) tunnelStream(c *conn) {
	x.w.Header().Del("Sec-Websocket-Accept")
	x.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(x.w)
	if controller.Flush() != nil {
		return
	}
	// The stream's own end in order would be taken for the application's.
	if !x.relay(x.r.Body, flushing{x, controller}, nil, c) {
		panic(http.ErrAbortHandler)
	}
}

// closeWriter can end one direction alone.
type closeWriter interface{ CloseWrite() error }

// relay copies in both directions until both have ended, or one has failed. It
// reports whether the container's ended in order. The end of a client without
// a closeWriter is that of the exchange.
func (x *exchange) relay(from io.Reader, to io.Writer, end closeWriter, c *conn) bool {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if _, err := pipe(c, from); err != nil {
			c.kill() // the client is gone
			return
		}
		// The client said all it has to say, and may still listen.
		if half, ok := c.Conn.(closeWriter); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err := to.Write(c.early())
	if err == nil {
		var n int64
		n, err = pipe(to, c.Conn)
		x.written += n
	}
	switch {
	case err != nil:
		x.sever()
	case end != nil:
		_ = end.CloseWrite()
	}
	if end == nil || err != nil {
		_ = http.NewResponseController(x.w).SetReadDeadline(past) // wakes the other direction
	}
	<-sent
	return err == nil
}

// pipe copies until src ends. Most tunnels are silent most of the time: a large
// buffer is lent to them only while more comes than the small one holds.
func pipe(dst io.Writer, src io.Reader) (written int64, err error) {
	small := make([]byte, 1<<10)
	for {
		n, err := src.Read(small)
		if n > 0 {
			if _, err := dst.Write(small[:n]); err != nil {
				return written, err
			}
			written += int64(n)
		}
		if n == len(small) && err == nil {
			n, err = pipeOnce(dst, src)
			written += int64(n)
		}
		switch err {
		case nil:
		case io.EOF:
			return written, nil
		default:
			return written, err
		}
	}
}

// pipeOnce copies what one read gives, of much.
func pipeOnce(dst io.Writer, src io.Reader) (int, error) {
	buf := buffers.Get().(*upstream.Buffer)
	defer buffers.Put(buf)
	n, err := src.Read(buf[:])
	if n > 0 {
		if _, err := dst.Write(buf[:n]); err != nil {
			return n, err
		}
	}
	return n, err
}

// removeHopByHop removes what concerns one connection only (RFC 9110, section
// 7.6.1).
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for name := range h {
		if isHopByHop(name) {
			delete(h, name)
		}
	}
}

// newWebSocketKey is the nonce of a handshake (RFC 6455, section 4.1): the
// client made none, and one that it chose must not reach the application.
func newWebSocketKey() string {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// acceptKey is the answer to the key of a handshake (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// flushing sends what is written at once.
type flushing struct {
	w          io.Writer
	controller *http.ResponseController
}

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	return n, errors.Join(err, f.controller.Flush())
}
