package upstream

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// forbiddenTrailers are fields beside those of [httpguts.ValidTrailerHeader]
// that change how a message is framed, routed, authenticated or handled, which
// nobody may learn after the content (RFC 9110, section 6.5.1). Canonical.
var forbiddenTrailers = map[string]bool{
	"Accept-Encoding": true, "Age": true, "Alt-Svc": true, "Clear-Site-Data": true, "Cookie": true, "Cookie2": true,
	"Date": true, "Depth": true, "Destination": true, "Early-Data": true, "Expires": true, "Http2-Settings": true,
	"If": true, "Location": true, "Lock-Token": true, "Method": true, "Origin": true, "Overwrite": true,
	"Referer": true, "Refresh": true, "Retry-After": true, "Set-Cookie": true, "Set-Cookie2": true,
	"Strict-Transport-Security": true, "Timeout": true, "Upgrade": true, "Vary": true, "Via": true, "Warning": true,
	"X-Http-Method": true, "X-Http-Method-Override": true, "X-Method-Override": true,
}

// ForbiddenTrailer says that a field must not follow the content of a request or
// an answer, whoever declares it. Many servers read "_" and "." in a name as
// "-", so these spellings are meant too.
func ForbiddenTrailer(name string) bool {
	if strings.ContainsAny(name, "_.") {
		name = dashes.Replace(name)
	}
	name = http.CanonicalHeaderKey(name)
	return !httpguts.ValidTrailerHeader(name) || forbiddenTrailers[name] || strings.HasPrefix(name, "Access-Control-") ||
		strings.HasPrefix(name, "Content-") && name != "Content-Digest" && name != "Content-Md5" ||
		strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Sec-")
}

var dashes = strings.NewReplacer("_", "-", ".", "-")
