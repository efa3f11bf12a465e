package edge

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// answerSeeds are answers of many kinds.
var answerSeeds = []string{
	"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 204 No Content\r\ndate: now \r\nX-A: 1\r\nx-a:\t2\t\r\nX-B:\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
	"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: 00\r\n\r\n", "HTTP/1.1 999 x\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "HTTP/1.1 200 OK\r\nA: b\n\nC: d\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n a: b\r\n\r\nx",
	"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 099 a\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 +20 a\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 101 x\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 2000 OK\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\n: c\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\nA\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\nA: \xc3\xa4\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 O\rK\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\r\n\r\nto the end", "",
}

// differs reads an answer in both ways and says in what they differ, if they
// do. What the quick one leaves to the other is no difference.
func differs(text []byte, method string) (quick bool, difference string) {
	var a answer
	in := bufio.NewReader(bytes.NewReader(text))
	got := http.Header{}
	if !a.read(in, method, got) {
		if len(got) > 0 {
			return false, "it left a part of the header"
		}
		if left, _ := io.ReadAll(in); !bytes.Equal(left, text) {
			return false, "it took some of what it does not read"
		}
		return false, ""
	}
	slow := bufio.NewReader(bytes.NewReader(text))
	want, err := http.ReadResponse(slow, &http.Request{Method: method})
	if err != nil {
		return true, err.Error()
	}
	removeHopByHop(want.Header)
	body, failure := io.ReadAll(a.Body)
	wantBody, wantFailure := io.ReadAll(want.Body)
	left, _ := io.ReadAll(in)
	wantLeft, _ := io.ReadAll(slow)
	switch {
	case a.StatusCode != want.StatusCode || a.ContentLength != want.ContentLength || a.Close != want.Close || a.Trailer != nil || want.Trailer != nil:
		return true, "status, length or end"
	case !reflect.DeepEqual(got, want.Header):
		return true, "header"
	case (a.Body == http.NoBody) != (want.Body == http.NoBody) || !bytes.Equal(body, wantBody) || failure != wantFailure:
		return true, "body"
	case !bytes.Equal(left, wantLeft):
		return true, "what is left"
	}
	return true, ""
}

// TestAnswerIsReadAlike: what is read the quick way means what net/http reads
// in it, and what is usual is read so.
func TestAnswerIsReadAlike(t *testing.T) {
	for i, text := range answerSeeds {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			quick, difference := differs([]byte(text), method)
			if difference != "" {
				t.Errorf("%s %q: %s", method, text, difference)
			}
			if i < 6 && !quick {
				t.Errorf("%s %q is read slowly", method, text)
			}
		}
	}
}

// TestSized: a body ends where it was said to, however it arrives.
func TestSized(t *testing.T) {
	for _, row := range []struct {
		text string
		want error
	}{{"hello", nil}, {"hello and more", nil}, {"hell", io.ErrUnexpectedEOF}, {"", io.ErrUnexpectedEOF}} {
		for _, in := range []io.Reader{strings.NewReader(row.text), iotest.OneByteReader(strings.NewReader(row.text)), iotest.DataErrReader(strings.NewReader(row.text))} {
			got, err := io.ReadAll(&sized{in, 5})
			if err != row.want || string(got) != row.text[:min(5, len(row.text))] {
				t.Errorf("%q: %q, %v", row.text, got, err)
			}
		}
	}
}

func FuzzAnswerIsReadAlike(f *testing.F) {
	for _, text := range answerSeeds {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		if _, difference := differs(text, method); difference != "" {
			t.Errorf("%s %q: %s", method, text, difference)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	text := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 22 Nov 2026 08:04:26 GMT\r\nServer: app\r\nContent-Length: 5\r\n\r\nhello")
	src := bytes.NewReader(text)
	in := bufio.NewReader(src)
	var a answer
	for _, row := range []struct {
		name string
		read func() error
	}{
		{"quick", func() error {
			if !a.read(in, http.MethodGet, http.Header{}) {
				return io.ErrUnexpectedEOF
			}
			return nil
		}},
		{"net-http", func() error { _, err := http.ReadResponse(in, nil); return err }},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(text)
				in.Reset(src)
				if err := row.read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
