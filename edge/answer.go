package edge

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// answer is what most applications say: a header that came in one piece, and a
// body whose length it tells. [http.ReadResponse] reads everything else, and
// would read this the same way with twice the allocations.
//
// Its header is not in the Response, but where it is to go.
type answer struct {
	http.Response
	body sized
}

var (
	crlfcrlf = []byte("\r\n\r\n")          // ends a header
	encoding = []byte("Transfer-Encoding") // as nearly everybody spells it
)

// read takes the header of the answer to a request of a method from in to h, less
// what concerns this connection only; or nothing if it is of another kind, whole
// or broken. There is nothing else in h.
func (a *answer) read(in *bufio.Reader, method string, h http.Header) (taken bool) {
	defer func() {
		if !taken {
			clear(h)
		}
	}()
	if _, err := in.Peek(1); err != nil {
		return false
	}
	there, _ := in.Peek(in.Buffered())
	end := bytes.Index(there, crlfcrlf)
	if end < 0 || bytes.Contains(there[:end], encoding) { // which would be found later, too
		return false
	}
	// One string for all names and values.
	text := string(there[:end+len("\r\n")])
	status, rest, _ := strings.Cut(text, "\r\n")
	code, ok := cutStatus(status)
	if !ok {
		return false
	}
	length, ok := cutHeader(rest, h)
	if !ok {
		return false
	}
	*a = answer{Response: http.Response{StatusCode: code, ProtoMajor: 1, ProtoMinor: 1, ContentLength: length}}
	switch empty := code == http.StatusNoContent || code == http.StatusNotModified; {
	case method == http.MethodHead:
		a.Body = http.NoBody
	case empty, length == 0:
		a.Body, a.ContentLength = http.NoBody, 0
	case length < 0:
		return false // the body ends with the connection
	default:
		a.body = sized{in, length}
		a.Body = &a.body
	}
	_, _ = in.Discard(end + len(crlfcrlf))
	return true
}

// cutStatus reads a status line (RFC 9112, section 4) of a final answer.
func cutStatus(line string) (code int, ok bool) {
	const before = "HTTP/1.1 "
	if len(line) < len(before)+len("200") || line[:len(before)] != before || !isText(line) {
		return 0, false
	}
	digits := line[len(before) : len(before)+len("200")]
	if !isDigits(digits) || len(line) > len(before)+len(digits) && line[len(before)+len(digits)] != ' ' {
		return 0, false
	}
	code, _ = strconv.Atoi(digits)
	return code, code >= http.StatusOK
}

// cutHeader reads lines of a header into h, and the length that it tells, -1 if
// it does not. It reports false for fields that say how the rest is to be read in
// another way, and for spellings that few servers have.
func cutHeader(text string, h http.Header) (length int64, ok bool) {
	length = -1
	values := make([]string, 0, strings.Count(text, "\n"))
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\r\n")
		name, value, found := strings.Cut(line, ":")
		if !found || !httpguts.ValidHeaderFieldName(name) || !isText(value) {
			return 0, false
		}
		value = strings.Trim(value, " \t")
		switch name = http.CanonicalHeaderKey(name); name {
		case "Transfer-Encoding", "Trailer", "Pragma":
			return 0, false
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return 0, false
			}
		case "Content-Length":
			var err error
			if length >= 0 || !isDigits(value) {
				return 0, false
			}
			if length, err = strconv.ParseInt(value, 10, 64); err != nil {
				return 0, false
			}
		}
		switch several := h[name]; {
		case isHopByHop(name):
		case several != nil:
			h[name] = append(several, value)
		default:
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	return length, true
}

// isText says that there is nothing but printable ASCII and blanks.
func isText(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' || c > '~') && c != '\t' {
			return false
		}
	}
	return true
}

// sized is a body of known length. Its end is told with its last bytes.
type sized struct {
	in   io.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.in.Read(p)
	s.left -= int64(n)
	switch {
	case s.left == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer; whoever stops reading closes the connection.
func (s *sized) Close() error { return nil }
