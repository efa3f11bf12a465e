package edge

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorization is the source of HTTP Basic and of bearer tokens.
var authorization = Source{Header: "Authorization"}

// canonical is the source in the spelling that net/http has for it.
func (s Source) canonical() Source {
	if s.Header != "" {
		s.Header = http.CanonicalHeaderKey(s.Header)
	}
	return s
}

// read returns what stands at a canonical source, and how often there is
// something. More than once is one too many: two readers of the request might
// mean different ones.
func (s Source) read(r *http.Request) (value string, n int) {
	switch {
	case s == authorization:
		values := r.Header[s.Header]
		if len(values) == 0 {
			return "", 0
		}
		token, ok := scheme(values[0], "Bearer")
		if !ok && len(values) == 1 {
			return "", 0
		}
		return token, len(values)
	case s.Header != "":
		values := r.Header[s.Header]
		if len(values) == 0 {
			return "", 0
		}
		return values[0], len(values)
	case s.Cookie != "":
		for _, line := range r.Header["Cookie"] {
			for part := range strings.SplitSeq(line, ";") {
				name, v, _ := strings.Cut(strings.Trim(part, " \t"), "=")
				if strings.TrimRight(name, " \t") != s.Cookie {
					continue
				}
				n++
				value = strings.Trim(v, " \t")
				if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
					value = value[1 : len(value)-1] // RFC 6265, section 4.1.1
				}
			}
		}
		return value, n
	default:
		for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
			name, v, _ := strings.Cut(part, "=")
			if unescape(name) == s.Param {
				n++
				value = unescape(v)
			}
		}
		return value, n
	}
}

// scheme returns the credentials of an Authorization header of a scheme (RFC
// 9110, section 11.4).
func scheme(header, name string) (string, bool) {
	if len(header) <= len(name) || header[len(name)] != ' ' || !strings.EqualFold(header[:len(name)], name) {
		return "", false
	}
	return strings.Trim(header[len(name):], " "), true
}

// basicAuth reads HTTP Basic (RFC 7617, section 2). Two Authorization headers
// are none.
func basicAuth(r *http.Request) (user, password string, ok bool) {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return "", "", false
	}
	text, ok := scheme(values[0], "Basic")
	if !ok {
		return "", "", false
	}
	const most = 128 // is short enough for the stack
	plain, err := base64.StdEncoding.AppendDecode(make([]byte, 0, most), append(make([]byte, 0, most), text...))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(plain), ":")
}

// unescape reads a part of a query; what cannot be read stands for itself.
func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// spent are credentials that must not be passed on.
type spent []Source

// field is what is left of a header field; all else stays as it is, byte for
// byte.
func (s spent) field(name string, values []string) []string {
	for _, from := range s {
		switch {
		case from.Header != "" && from.Header == name:
			return nil
		case from.Cookie != "" && name == "Cookie":
			values = stripCookie(values, from.Cookie)
		}
	}
	return values
}

// query is what is left of a query.
func (s spent) query(query string) string {
	for _, from := range s {
		if from.Param != "" {
			query = stripParam(query, from.Param)
		}
	}
	return query
}

func stripCookie(lines []string, cookie string) (kept []string) {
	for _, line := range lines {
		parts := strings.Split(line, ";")
		left := slices.DeleteFunc(slices.Clone(parts), func(part string) bool {
			name, _, _ := strings.Cut(part, "=")
			return strings.Trim(name, " \t") == cookie
		})
		switch {
		case len(left) == len(parts):
			kept = append(kept, line)
		case strings.Trim(strings.Join(left, ""), " \t") != "":
			kept = append(kept, strings.TrimLeft(strings.Join(left, ";"), " \t"))
		}
	}
	return kept
}

func stripParam(query, param string) string {
	parts := strings.Split(query, "&")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool {
		name, _, _ := strings.Cut(part, "=")
		return unescape(name) == param
	}), "&")
}
