package edge

import (
	"net/http"
	"time"

	"swage/edge/limit"
)

// afterwards is how long the rest of an exchange may take that the registry no
// longer knows. A test has less patience.
var afterwards = limit.Grace

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
	r.Body = &pacedBody{ReadCloser: r.Body, x: x}
	if x.bodyMayStall() {
		x.duplex = true
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
	h.ServeHTTP(x, r)
	x.tooSlowFor()
	x.lastStream()
	if x.bodyMayStall() && !x.arrived.Load() && x.ctx.why() == nil {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(afterwards))
	}
}

// tooSlowFor answers 408 in the place of the agent, whatever that made of a body
// that did not come, and reports whether it did.
func (x *exchange) tooSlowFor() bool {
	if !x.own || x.status != 0 || x.ctx.why() != errSlow {
		return false
	}
	clear(x.w.Header())
	x.page(tooSlow)
	return true
}

// bodyMayStall says that the server itself may wait for the request's body: over
// HTTP/1.1 it reads some of what the handler left, to save the connection.
func (x *exchange) bodyMayStall() bool { return x.r.ProtoMajor == 1 && x.r.Body != http.NoBody }

// beforePage bounds what a page has to wait for: the client that has to take it,
// and over HTTP/1.1 the body that the server reads before it answers, or after,
// if the handler may do both at once. Then the connection must end: what came
// later of a body that was broken off would be read as the next request. The
// next request takes the bound away.
func (x *exchange) beforePage() {
	x.lastStream()
	if !x.bodyMayStall() {
		return
	}
	if x.duplex && !x.arrived.Load() {
		x.w.Header()["Connection"] = []string{"close"}
	}
	if x.ctx == nil || x.ctx.why() == nil { // else there is a bound
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(afterwards))
	}
}

// closeUnread has the connection end after an answer of the agent's own that does
// not wait for the request's body.
func (x *exchange) closeUnread() {
	if x.own && x.bodyMayStall() && !x.arrived.Load() {
		x.w.Header()["Connection"] = []string{"close"}
	}
}

// lastStream bounds what is still to be sent on a stream of HTTP/2 or HTTP/3,
// for an answer of the edge's own.
func (x *exchange) lastStream() {
	if x.r.ProtoMajor >= 2 {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(afterwards))
	}
}
