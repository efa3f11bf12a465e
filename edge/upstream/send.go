package upstream

import (
	"errors"
	"io"
	"net/http"
)

// ErrTooLong is the error of content that is longer than its head announced.
var ErrTooLong = errors.New("the body is longer than announced")

// Buffer is what content is copied through.
type Buffer [32 << 10]byte

// Send writes the content behind the head, piece by piece as it comes from
// another reader, and then those trailers that the head declared, which are
// asked for at the end. It calls progress after each piece.
//
// No more is written than the head announced. If less is written, one of the
// errors says why, and the connection must not be used any more; read is that of
// the reader, write that of the writer. A request without content reads nothing
// and writes nothing.
func (r *Request) Send(to io.Writer, from io.Reader, trailers func() http.Header, buf *Buffer, progress func()) (read, write error) {
	const (
		digits = "0123456789abcdef"
		size   = 4 // hexadecimal digits of a chunk's size
		before = size + len("\r\n")
	)
	if r.content.Empty() {
		return nil, nil
	}
	left, chunks := r.content.length, r.content.kind == chunked
	into := buf[before : len(buf)-len("\r\n")]
	for {
		n, err := from.Read(into)
		if !chunks && int64(n) > left {
			return ErrTooLong, nil
		}
		switch {
		case n == 0:
		case chunks:
			buf[0], buf[1], buf[2], buf[3] = digits[n>>12], digits[n>>8&15], digits[n>>4&15], digits[n&15]
			buf[4], buf[5] = '\r', '\n'
			buf[before+n], buf[before+n+1] = '\r', '\n'
			_, write = to.Write(buf[:before+n+2])
		default:
			left -= int64(n)
			_, write = to.Write(into[:n])
		}
		progress()
		switch {
		case write != nil:
			return nil, write
		case err == io.EOF && chunks:
			_, write = to.Write(r.content.appendTrailers(append(buf[:0], "0\r\n"...), trailers()))
			return nil, write
		case err == io.EOF && left > 0:
			return io.ErrUnexpectedEOF, nil
		case err == io.EOF:
			return nil, nil
		case err != nil:
			return err, nil
		}
	}
}

// appendTrailers appends the trailer section (RFC 9112, section 7.1.2): of the
// fields those that were declared.
func (c *Content) appendTrailers(b []byte, fields http.Header) []byte {
	for _, name := range c.trailers {
		for _, value := range fields[name] {
			if validField(name, value) {
				b = appendField(b, name, value)
			}
		}
	}
	return append(b, "\r\n"...)
}
