package edge

import (
	"net/http"
	"strconv"
	"strings"
)

// fields tells the header fields of the request that the container gets, but
// for those that frame its body: what the client sent, less what concerns only
// its own connection, what the edge alone may say, and credentials that were
// spent; and then what the edge says. None of the latter can be named by the
// client's Connection header.
func (x *exchange) fields(tell func(name, value string)) {
	var few [4]string // mostly there is none, and never more than maxConnectionTokens
	options := connectionOptions(few[:0], x.r)
	keeps := x.keepsDestination()
	for name, values := range x.r.Header {
		if isHopByHop(name) || isFraming(name) || isForged(name) || anyNames(options, name) || keeps && name == "Overwrite" {
			continue
		}
		if name == "Sec-Websocket-Key" && x.r.Method == http.MethodConnect {
			continue // it is the edge's (RFC 8441, section 5)
		}
		values = x.evidence.spent.field(name, values)
		if tellsURL(name) {
			values = x.urls(name, values)
		}
		for _, value := range values {
			tell(name, value)
		}
	}
	if keeps {
		tell("Overwrite", "F")
	}
	if listed(x.r.Header["Te"], "trailers") {
		tell("Te", "trailers")
	}

	proto := "http"
	if x.r.TLS != nil {
		proto = "https"
	}
	tell("X-Forwarded-For", x.clientString())
	tell("X-Forwarded-Host", x.r.Host)
	tell("X-Forwarded-Proto", proto)
	tell("X-Request-Id", x.idString()) // as in the access log
	// No Via: Forwarded says as much, and servers stop to compress for it.
	by := forwarded(x.clientString(), x.r.Host, proto)
	if x.source.why != "" {
		by += ";swage-source=edge"
	}
	tell("Forwarded", by)
	route := &x.decision.Route
	if route.Instance > 0 {
		tell("Swage-Instance", strconv.Itoa(int(route.Instance)))
	}
	if route.Level != "" {
		tell("Swage-Level", route.Level)
	}
}

// isHopByHop says that a field concerns one connection only (RFC 9110, section
// 7.6.1). Upgrade is among them, and with it goes HTTP2-Settings (RFC 7540,
// section 3.2.1): the protocol that a connection changes to is the edge's to
// choose.
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Http2-Settings", "Proxy-Authenticate", "Proxy-Authorization":
		return true
	}
	return false
}

// isFraming says that a field is written with the request itself. Those with a
// colon stand for parts of its first line.
func isFraming(name string) bool {
	return name == "Host" || name == "Content-Length" || strings.HasPrefix(name, ":")
}

// listed says that a list of tokens holds one.
func listed(lists []string, token string) bool {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.Trim(one, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// forwarded is the value of the header Forwarded (RFC 7239, section 4). The
// host holds no quotes: the table knows it.
func forwarded(client, host, proto string) string {
	if strings.Contains(client, ":") {
		client = `"[` + client + `]"`
	}
	return "for=" + client + ";host=\"" + host + "\";proto=" + proto
}

// isWebSocket says that a request asks for a WebSocket (RFC 6455, section 4.1)
// and nothing else. Browsers upgrade to nothing but that, and other tunnels (h2c
// above all) would carry requests that nobody decides on. A server may ignore
// an Upgrade, and must ignore that of HTTP/1.0 (RFC 9110, section 7.8).
func isWebSocket(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 && r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && listed(r.Header["Connection"], "upgrade")
}
