package edge

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
)

// rewrite makes the request that the container gets. ReverseProxy has removed
// the hop-by-hop headers already, so none of those set here can be named by
// the client's Connection header.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	route := x.decision.Route

	u := pr.Out.URL
	u.RawQuery = pr.In.URL.RawQuery // ReverseProxy drops what it cannot parse
	path := route.Path
	if path == "" {
		path = route.Prefix + x.request.Path
	}
	// Opaque is what net/url prints unchanged; RawPath is escaped anew when
	// it holds bytes such as "|". A path that starts with two slashes would
	// be taken for an authority, so that one keeps to RawPath.
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
	}

	stripForged(pr.Out.Header)
	if len(pr.In.Trailer) > 0 && pr.Out.Body != nil {
		stripForged(pr.Out.Trailer)
		pr.Out.Body = &trailedBody{pr.Out.Body, x.r, pr.Out}
		pr.Out.ContentLength = -1 // nothing can follow a body of known length
	}

	strip(x.evidence.spent, pr.Out)

	// Browsers upgrade to nothing but WebSocket, and other tunnels (h2c above
	// all) would carry requests that nobody decides on. A server may ignore
	// an Upgrade (RFC 9110, section 7.8).
	if !isWebSocket(pr.Out) {
		pr.Out.Header.Del("Connection")
		pr.Out.Header.Del("Upgrade")
		pr.Out.Header.Del("Http2-Settings")
	}

	proto := "http"
	if pr.In.TLS != nil {
		proto = "https"
	}
	h := pr.Out.Header
	client := "unknown" // RFC 7239, section 6.2
	if x.request.Client.IsValid() {
		client = x.request.Client.String()
	}
	// One array for all, of which each header may have no more than its own.
	values := [...]string{client, pr.In.Host, proto, x.idString()}
	h["X-Forwarded-For"] = values[0:1:1]
	h["X-Forwarded-Host"] = values[1:2:2]
	h["X-Forwarded-Proto"] = values[2:3:3]
	h["X-Request-Id"] = values[3:4:4] // as in the access log
	// No Via: Forwarded says as much, and servers stop to compress for it.
	setTarget(pr.Out, x)
	if route.Instance > 0 {
		h["Swage-Instance"] = []string{strconv.Itoa(int(route.Instance))}
	}
	if route.Level != "" {
		h["Swage-Level"] = []string{route.Level}
	}
}

// setTarget writes what depends on the connection that a request is sent over.
func setTarget(out *http.Request, x *exchange) {
	u := out.URL
	u.Scheme = "http"
	u.Host = x.source.target.String()
	proto := "http"
	if x.decision.Route.TLS { // dialTLS finds the address
		var buf [maxHost]byte
		name, _ := normalise(&buf, x.r.Host)
		u.Scheme = "https"
		u.Host = net.JoinHostPort(strings.TrimSuffix(string(name), "."), strconv.Itoa(int(x.source.target.Port())))
	}
	if x.r.TLS != nil {
		proto = "https"
	}
	value := forwarded(x.request.Client, x.r.Host, proto)
	if x.source.why != "" {
		value += ";swage-source=edge"
	}
	out.Header["Forwarded"] = []string{value}
}

// trailedBody copies the trailers of a request, which are known at the end of
// its body, to the request that is passed on.
type trailedBody struct {
	io.ReadCloser
	in  *http.Request // as the server gave it: copies of it may not learn them
	out *http.Request
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

// forwarded is the value of the header Forwarded (RFC 7239, section 4). The
// host holds no quotes: the table knows it.
func forwarded(client netip.Addr, host, proto string) string {
	node := "unknown"
	switch {
	case client.Is4():
		node = client.String()
	case client.Is6():
		node = `"[` + client.String() + `]"`
	}
	return "for=" + node + `;host="` + host + `";proto=` + proto
}

// isWebSocket says that a request asks for a WebSocket (RFC 6455, section 4.1)
// and nothing else.
func isWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// stripForged removes the headers by which applications are told who calls.
// Only the edge may say so. Many servers read "_" and "." in a name as "-", so
// these spellings go too.
func stripForged(h http.Header) {
	for name := range h {
		if isForged(name) {
			delete(h, name)
		}
	}
}

func isForged(name string) bool {
	var buf [32]byte
	plain := buf[:min(len(name), len(buf))] // no name below is longer
	for i := range plain {
		switch c := name[i]; {
		case c == '_', c == '.':
			plain[i] = '-'
		case 'A' <= c && c <= 'Z':
			plain[i] = c + 'a' - 'A'
		default:
			plain[i] = c
		}
	}
	switch string(plain) {
	case "forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip",
		"true-client-ip", "cf-connecting-ip", "fastly-client-ip",
		"x-original-forwarded-for", "x-original-host", "x-original-url", "x-rewrite-url",
		"remote-user", "x-remote-user", "x-remote-addr", "x-request-id":
		return len(name) == len(plain)
	}
	return hasPrefix(plain, "x-forwarded") || hasPrefix(plain, "swage-")
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// modifyResponse adds the only header that the edge adds to an application's
// answer: a generated host works as a credential, so links must not carry it
// to other sites.
func modifyResponse(res *http.Response) error {
	if x := exchangeOf(res.Request.Context()); x.decision.Generated && len(res.Header["Referrer-Policy"]) == 0 {
		res.Header["Referrer-Policy"] = []string{"no-referrer"}
	}
	return nil
}
