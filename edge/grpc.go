package edge

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// isGRPC says that a request can only be answered over HTTP/2, which is how
// gRPC is defined. All else goes over HTTP/1.1, which every server speaks.
func isGRPC(r *http.Request) bool {
	if r.ProtoMajor < 2 || r.Method != http.MethodPost {
		return false
	}
	const grpc = "application/grpc"
	kind := r.Header.Get("Content-Type")
	return strings.HasPrefix(kind, grpc) && (len(kind) == len(grpc) || kind[len(grpc)] == '+' || kind[len(grpc)] == ';')
}

// newTransport speaks HTTP/2 with a place.
func (u *upstreams) newTransport(to place) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, _, err := u.dialPlace(ctx, &to, "h2")
		return conn, err
	}
	return &http.Transport{
		DialContext:            dial,
		DialTLSContext:         dial,
		Protocols:              protocols,
		DisableCompression:     true, // bodies are passed on as they are
		IdleConnTimeout:        idleUpstream,
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// forwardGRPC passes a call on over HTTP/2.
func (p *Proxy) forwardGRPC(x *exchange) {
	body := &heldBody{ReadCloser: x.r.Body}
	defer x.r.Body.Close() // so that nothing reads it any more
	res, err := p.upstreams.call(x, body)
	if err != nil {
		again, learn := p.upstreams.sources.failed(x, err)
		if learn == nil {
			x.fail(err)
			return
		}
		x.source = again
		if res, err = p.upstreams.call(x, body); err != nil {
			x.fail(err)
			return
		}
		learn()
	}
	defer res.Body.Close()
	x.pass(res, nil)
}

func (u *upstreams) call(x *exchange, body io.ReadCloser) (*http.Response, error) {
	to := x.place(true)
	_, p := u.take(&to, x.begun, false, nil)
	// Opaque is what net/url prints unchanged; but two slashes in front would be
	// taken for an authority.
	at := &url.URL{Opaque: x.target()}
	if strings.HasPrefix(at.Opaque, "//") {
		var err error
		if at, err = url.ParseRequestURI(at.Opaque); err != nil {
			return nil, errUnsound
		}
	}
	at.Scheme, at.Host = "http", to.target.String()
	if to.server != "" {
		at.Scheme = "https"
	}
	out := (&http.Request{
		Method: x.r.Method, URL: at, Host: x.r.Host, Header: http.Header{}, Body: body, ContentLength: x.out.Content().Length(),
	}).WithContext(x.ctx)
	if x.out.Content().Empty() {
		out.Body = http.NoBody
	}
	x.fields(out.Header.Add)
	if len(out.Header["User-Agent"]) == 0 {
		out.Header["User-Agent"] = nil // or net/http would name itself
	}
	for _, name := range x.out.Content().Trailers() {
		if out.Trailer == nil {
			out.Trailer = http.Header{}
			out.Body = &trailedBody{body, x.r, out}
		}
		out.Trailer[name] = nil
	}
	return p.grpc.RoundTrip(out)
}

// heldBody is a request's body that outlives a try which did not begin: a
// Transport closes what it was given.
type heldBody struct {
	io.ReadCloser
	read atomic.Bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

func (b *heldBody) Close() error {
	if !b.read.Load() {
		return nil // the server closes it when the handler returns
	}
	return b.ReadCloser.Close()
}

// trailedBody copies the trailers of a request, which are known at the end of
// its body, to the request that is passed on.
type trailedBody struct {
	io.ReadCloser
	in, out *http.Request
}

func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.out.Trailer { // those announced, without the forged
			b.out.Trailer[name] = b.in.Trailer[name]
		}
	}
	return n, err
}
