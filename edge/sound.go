package edge

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// sound says that a request reads the same for everyone. Of HTTP/1.1 the server
// refuses what does not. Of HTTP/2 and HTTP/3 it lets a space through, which
// would end the target in the request line that the container reads; of HTTP/2
// also much that RFC 9113 calls malformed (sections 8.1.1 and 8.3.1).
func sound(r *http.Request) bool {
	if strings.ContainsRune(r.RequestURI, ' ') || asksForTunnel(r) && announcesContent(r) ||
		r.RequestURI == "*" && r.Method != http.MethodOptions { // RFC 9112, section 3.2.4
		return false
	}
	if r.ProtoMajor != 2 {
		return true
	}
	if r.Method != http.MethodConnect {
		if _, ok := r.Header[":protocol"]; ok || !httpguts.ValidHeaderFieldName(r.Method) {
			return false
		}
		if !strings.HasPrefix(r.RequestURI, "/") && (r.RequestURI != "*" || r.Method != http.MethodOptions) {
			return false
		}
	}
	for _, host := range r.Header["Host"] {
		if host != r.Host {
			return false
		}
	}
	for _, length := range r.Header["Content-Length"] {
		if n, err := strconv.ParseUint(length, 10, 63); err != nil || int64(n) != r.ContentLength {
			return false
		}
	}
	return true
}

// asksForTunnel says that a request is the handshake of a WebSocket, in any
// version of HTTP.
func asksForTunnel(r *http.Request) bool { return wantsTunnel(r) || isWebSocket(r) }

// announcesContent says that a request has content, or trailers behind it, in
// any framing. A handshake with content is refused: what follows its head is
// the stream of the tunnel or, where there is none, the next request (RFC 9110,
// sections 7.8 and 9.3.6).
func announcesContent(r *http.Request) bool {
	if r.ProtoMajor == 1 {
		return r.ContentLength != 0 || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0
	}
	// The stream of an extended CONNECT comes as DATA without a length (RFC
	// 8441, section 5), so the server tells of it as of content.
	return len(r.Header["Content-Length"]) > 0 || len(r.Trailer) > 0
}
