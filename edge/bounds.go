package edge

import (
	"net/http"
	"strings"
)

// Bounds of the header of a request, so that what costs time for each pair of
// two things in it costs little. A request beyond one of them is answered 431.
const (
	// maxFields counts lines of the header, and declared trailers. Cookies
	// that HTTP/2 and HTTP/3 send in fields of their own are one.
	maxFields = 128

	maxConnectionTokens = 32   // in the field Connection
	maxCookies          = 1024 // browsers keep 180 to 600 for one host
	maxParameters       = 4096 // of a query; common frameworks read 1,000 to 4,096
)

// exceeds says that a request is larger than the edge reads. Its time is linear
// in the bytes of the request, and it comes before everything else that looks
// into the header.
func exceeds(r *http.Request) bool {
	fields, bytes := len(r.Trailer), len(r.RequestURI)
	for name, values := range r.Header {
		fields += len(values)
		for _, value := range values {
			bytes += len(name) + len(value) + len(": \r\n")
		}
	}
	return fields > maxFields || bytes > maxHeaderBytes ||
		count(r.Header["Connection"], ",") >= maxConnectionTokens ||
		count(r.Header["Cookie"], ";") >= maxCookies ||
		strings.Count(r.URL.RawQuery, "&") >= maxParameters
}

// count is how many separators lines hold, and ends of lines between them.
func count(lines []string, separator string) (n int) {
	for _, line := range lines {
		n += strings.Count(line, separator) + 1
	}
	return max(0, n-1)
}

// connectionOptions appends the names of fields that concern only the client's
// connection because its field Connection says so (RFC 9110, section 7.6.1).
// Those that always do are left out, so that there are none most of the time.
func connectionOptions(names []string, r *http.Request) []string {
	for _, line := range r.Header["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			switch token = strings.Trim(token, " \t"); {
			case token == "", strings.EqualFold(token, "close"), strings.EqualFold(token, "keep-alive"), strings.EqualFold(token, "upgrade"):
			default:
				names = append(names, token)
			}
		}
	}
	return names
}

// anyNames says that one of a few tokens is that of a field.
func anyNames(tokens []string, field string) bool {
	for _, token := range tokens {
		if len(token) == len(field) && strings.EqualFold(token, field) {
			return true
		}
	}
	return false
}
