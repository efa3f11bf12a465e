package edge

import (
	"slices"
	"strings"
)

// tellsURL says that a field holds the URL of a page, query included, of which
// the request's own need not be part: what browsers send by themselves
// (Referer, and for <a ping> Ping-From and Ping-To), what scripts do (htmx,
// Turbolinks), and what names further resources (RFC 4918, RFC 9110).
func tellsURL(name string) bool {
	switch name {
	case "Referer", "Ping-From", "Ping-To", "Hx-Current-Url", "Turbolinks-Referrer", "Turbolinks-Referer",
		"Content-Location", "Destination", "If":
		return true
	}
	return false
}

// withoutParams are the values of a field that tells URLs, without the
// parameters that hold credentials where the page came from, or where the
// request goes. They are taken out by their names, since a page's parameter is
// no part of what this request proves. URLs of other servers stay as they are.
func (x *exchange) withoutParams(name string, values []string) []string {
	if !x.table.params || !slices.ContainsFunc(values, func(v string) bool { return strings.ContainsAny(v, "?#@") }) {
		return values
	}
	out := make([]string, 0, len(values))
	for _, value := range values {
		if name != "If" {
			out = append(out, x.withoutParam(value))
			continue
		}
		var b strings.Builder
		from := 0
		eachTag(value, func(start, end int) {
			b.WriteString(value[from:start])
			b.WriteString(x.withoutParam(value[start:end]))
			from = end
		})
		b.WriteString(value[from:])
		out = append(out, b.String())
	}
	return out
}

func (x *exchange) withoutParam(url string) string {
	page := splitURL(url)
	own := x.table.documentAt(&x.request)
	theirs := own
	if page.host != "" {
		if !x.table.covers(page.host) {
			return url
		}
		path := page.path
		if path == "" {
			path = "/"
		}
		theirs = x.table.documentAt(&Request{Host: page.host, Path: path, Time: x.request.Time})
	}
	query, has := strings.CutPrefix(page.query, "?")
	for _, d := range []*document{own, theirs} {
		if d == nil {
			continue
		}
		for _, param := range d.reading.params {
			query = stripParam(query, param)
		}
	}
	if has && (query != "" || page.query == "?") {
		query = "?" + query
	}
	return page.scheme + page.host + page.path + query
}

// documentAt is documentOf, of a container that is closed too.
func (t *Table) documentAt(r *Request) *document {
	var at spot
	var d Decision
	if !t.locate(r, &at, &d) {
		return nil
	}
	return at.container.document
}

// pageURL is a URL in parts which together are the URL, but for the user and
// the fragment, which no field of a request may hold (RFC 9110, section
// 10.1.3).
type pageURL struct{ scheme, host, path, query string }

// splitURL reads a URL as browsers do (WHATWG URL, section 4.4): "\" is "/",
// and the last "@" ends the user. One without a host is relative, whether or
// not it has a scheme.
func splitURL(url string) (p pageURL) {
	url, _, _ = strings.Cut(url, "#")
	rest := url
	if end := strings.IndexByte(url, ':'); end >= 0 && !strings.ContainsAny(url[:end], "/?\\") {
		p.scheme, rest = url[:end+1], url[end+1:]
	}
	slashes := 0
	for slashes < len(rest) && (rest[slashes] == '/' || rest[slashes] == '\\') {
		slashes++
	}
	if slashes > 1 {
		p.scheme, rest = p.scheme+rest[:slashes], rest[slashes:]
		end := strings.IndexAny(rest, "/\\?")
		if end < 0 {
			end = len(rest)
		}
		p.host, rest = rest[:end], rest[end:]
		p.host = p.host[strings.LastIndexByte(p.host, '@')+1:]
	}
	end := strings.IndexByte(rest, '?')
	if end < 0 {
		end = len(rest)
	}
	p.path, p.query = rest[:end], rest[end:]
	return p
}
