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

// maxValues is how many values of one source are looked at. Each costs a check,
// and is a guess.
const maxValues = 4

// values are what stands at a canonical source: the first that differ from each
// other and are not empty. An empty one is what a logout leaves.
type values struct {
	all [maxValues]string
	n   int
}

func (v *values) add(value string) {
	if value != "" && v.n < maxValues && !slices.Contains(v.all[:v.n], value) {
		v.all[v.n] = value
		v.n++
	}
}

func (s Source) read(r *http.Request) (out values) {
	switch {
	case s == authorization:
		for _, value := range r.Header[s.Header] {
			if token, ok := scheme(value, "Bearer"); ok {
				out.add(token)
			}
		}
	case s.Header != "":
		for _, value := range r.Header[s.Header] {
			out.add(value)
		}
	case s.Cookie != "":
		for _, line := range r.Header["Cookie"] {
			for part := range strings.SplitSeq(line, ";") {
				name, v, _ := strings.Cut(strings.Trim(part, " \t"), "=")
				if strings.TrimRight(name, " \t") != s.Cookie {
					continue
				}
				v = strings.Trim(v, " \t")
				if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
					v = v[1 : len(v)-1] // RFC 6265, section 4.1.1
				}
				out.add(v)
			}
		}
	default:
		for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
			name, v, _ := strings.Cut(part, "=")
			if unescape(name) == s.Param {
				out.add(unescape(v))
			}
		}
	}
	return out
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

// spent are sources whose credentials must not be passed on.
type spent []Source

// field is what is left of a header field; all else stays as it is, byte for
// byte. Of a header every spelling goes that servers may take for it.
func (s spent) field(name string, values []string) []string {
	for _, from := range s {
		switch {
		case from.Header != "" && sameName(from.Header, name):
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
