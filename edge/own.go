package edge

import (
	"context"
	"net/http"
	"time"

	"swage/edge/limit"
)

// serveOwn has the agent itself answer, at the host "api" or "git". Its clients
// are held to the same rate as those of containers, and to as many requests
// each.
func (p *Proxy) serveOwn(x *exchange, h http.Handler) {
	client := subscriber(x.request.Client)
	counters := p.load.client(client)
	if !counters.take(client, aRequest, p.load.limits.ClientRequests) {
		x.w.Header().Set("Retry-After", "1")
		x.page(overloaded)
		return
	}
	defer counters.give(client, aRequest)
	x.own = true
	r := x.r.WithContext(x.ctx)
	r.Body = &pacedBody{r.Body, x}
	h.ServeHTTP(x, r)
	x.lastStream()
}

// mayAnswerEarly lets an answer go before the request's body has come. Without
// it a server of HTTP/1.1 would wait for some of the body first, for as long as
// the client likes.
func (x *exchange) mayAnswerEarly() {
	if x.r.ProtoMajor == 1 && x.r.Body != http.NoBody {
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
}

// lastReads bounds what the server reads after the handler, to save the
// connection: the rest of a body that nobody wanted. The next request takes the
// bound away.
func (x *exchange) lastReads() {
	cut := x.ctx != nil && x.ctx.why() != context.Canceled // which has set a bound; left is Canceled
	if x.link != nil && x.r.ProtoMajor == 1 && x.r.Body != http.NoBody && !cut {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(limit.Grace))
	}
}

// lastStream bounds what is still to be sent on a stream of HTTP/2 or HTTP/3,
// for an answer of the edge's own.
func (x *exchange) lastStream() {
	if x.r.ProtoMajor >= 2 {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(limit.Grace))
	}
}
