package edge

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
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

// tunnel carries a WebSocket between a stream of HTTP/2 or HTTP/3 and a
// connection of HTTP/1.1, which is all that applications speak. The frames in
// it pass as they are.
func (p *Proxy) tunnel(x *exchange) {
	in := x.r.WithContext(context.WithValue(x.ctx, exchangeKey{}, x))
	out := in.Clone(in.Context())
	out.Method, out.Body, out.ContentLength, out.Trailer = http.MethodGet, nil, 0, nil
	for name := range out.Header {
		if name[0] == ':' {
			delete(out.Header, name)
		}
	}
	key := newWebSocketKey()
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", "websocket")
	out.Header.Set("Sec-Websocket-Key", key)
	if len(out.Header["User-Agent"]) == 0 {
		out.Header.Set("User-Agent", "") // or net/http would name itself
	}
	rewrite(&httputil.ProxyRequest{In: in, Out: out})

	res, err := p.upstreams.RoundTrip(out)
	if err != nil {
		upstreamError(nil, out, err)
		return
	}
	defer res.Body.Close()
	back, upgraded := res.Body.(io.ReadWriteCloser)
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols && upgraded && accepts(res, key):
	case res.StatusCode < 300: // would open the tunnel
		upstreamError(nil, out, fmt.Errorf("status %d is no answer to the WebSocket handshake", res.StatusCode))
		return
	default:
		p.passRefusal(x, res)
		return
	}

	for name, values := range res.Header {
		x.Header()[name] = values
	}
	removeHopByHop(x.Header())
	x.Header().Del("Sec-Websocket-Accept")
	x.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(x.w)
	if controller.Flush() != nil {
		return
	}
	stop := context.AfterFunc(x.ctx, func() { _ = back.Close() })
	defer stop()

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if _, err := io.Copy(back, x.r.Body); err != nil {
			_ = back.Close() // the client is gone
			return
		}
		// The client said all it has to say, and may still listen.
		if half, ok := back.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(flushing{x, controller}, back)
	_ = controller.SetReadDeadline(past) // wakes the other direction
	<-sent
	if err != nil {
		panic(http.ErrAbortHandler) // an end in order would be taken for the application's
	}
}

// passRefusal passes on the answer of an application that opens no tunnel.
func (p *Proxy) passRefusal(x *exchange, res *http.Response) {
	for name, values := range res.Header {
		x.Header()[name] = values
	}
	removeHopByHop(x.Header())
	x.WriteHeader(res.StatusCode)
	if _, err := io.Copy(x, res.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// removeHopByHop removes what concerns one connection only (RFC 9110, section
// 7.6.1).
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate",
	} {
		h.Del(name)
	}
}

// newWebSocketKey is the nonce of a handshake (RFC 6455, section 4.1): the
// client made none, and one that it chose must not reach the application.
func newWebSocketKey() string {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// accepts says that a response completes the handshake begun with the key: a
// server that does not know WebSocket cannot.
func accepts(res *http.Response, key string) bool {
	return strings.EqualFold(res.Header.Get("Upgrade"), "websocket") && res.Header.Get("Sec-Websocket-Accept") == acceptKey(key)
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
