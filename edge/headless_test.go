package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"swage/edge/limit"
)

// TestA1StreamsWithoutAHead: one frame opens every stream that a connection of
// HTTP/3 may have, and each takes memory for as long as its head does not come.
// A client has few of them for each connection once it has many.
func TestA1StreamsWithoutAHead(t *testing.T) {
	s := serve(t, mustCompile(t, at(netip.Addr{}, nil)), func(p *Proxy) {
		p.conns = limit.NewConns(limit.Caps{All: 1000, Network: 1000, Client: 1000, Few: 2}, p.log)
	})
	before := runtime.NumGoroutine()
	streams := 0
	for i := range 24 {
		conn := s.dialH3(t, "x."+zone).conn
		n := 0
		var last *quic.Stream
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			stream, err := conn.OpenStreamSync(ctx)
			cancel()
			if err != nil {
				break
			}
			last, n = stream, n+1
		}
		want := leastStreams
		switch {
		case i < 2:
			want = maxStreams
		case i < 16:
			want = someStreams
		}
		if n != want {
			t.Errorf("connection %d may have %d streams, want %d", i, n, want)
		}
		if _, err := last.Write([]byte{h3Headers}); err != nil {
			t.Fatal(err)
		}
		streams += n
	}
	until(t, "the streams do not come", func() bool { return runtime.NumGoroutine() >= before+streams })
	if got, want := streams, 2*maxStreams+14*someStreams+8*leastStreams; got != want {
		t.Errorf("%d streams, want %d", got, want)
	}
}

// TestA1UnidirectionalStreams: HTTP/3 needs three.
func TestA1UnidirectionalStreams(t *testing.T) {
	s := serve(t, mustCompile(t, at(netip.Addr{}, nil)))
	conn := s.dialH3(t, "x."+zone).conn
	n := 1 // for control
	for ; n < 100; n++ {
		if _, err := conn.OpenUniStream(); err != nil {
			break
		}
	}
	if n != maxUniStreams {
		t.Errorf("a client may open %d, want %d", n, maxUniStreams)
	}
}

// TestA1OpenStreamsAreNoRequests: a connection without a request ends, whatever
// streams are open; one with a request stays.
func TestA1OpenStreamsAreNoRequests(t *testing.T) {
	done := make(chan struct{})
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-done
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)), func(p *Proxy) { p.quicIdle = time.Second })
	res, err := s.client(t, "127.0.0.2", 3).Get(origin(app.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	// The second begins when the first has ended, so that the request outlasts the
	// time for which a connection may be idle twice.
	for range 2 {
		idle := s.dialH3(t, "x."+zone).conn
		stream, err := idle.OpenStream()
		if err == nil {
			_, err = stream.Write([]byte{h3Headers})
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-idle.Context().Done():
			if end, ok := errors.AsType[*quic.ApplicationError](context.Cause(idle.Context())); !ok || http3.ErrCode(end.ErrorCode) != http3.ErrCodeNoError {
				t.Errorf("it ends with %v", context.Cause(idle.Context()))
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	}
	close(done)
	if _, err := fmt.Fscan(res.Body, new(string)); err == nil || err.Error() != "EOF" {
		t.Errorf("the request ends with %v", err)
	}
}

// TestA1WhatNobodyReads: of what a client sends over HTTP/3 and nobody reads,
// little is kept, on the streams of QPACK as well.
func TestA1WhatNobodyReads(t *testing.T) {
	s := serve(t, mustCompile(t, at(netip.Addr{}, nil)))
	conn := s.dialH3(t, "x."+zone).conn
	sent := 0
	for _, kind := range []byte{2, 3} { // encoder, decoder
		stream, err := conn.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<20)
		b[0] = kind
		if err := stream.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := stream.Write(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes are sent, and %v", n, err)
		}
		sent += n
	}
	if sent > connectionWindow {
		t.Errorf("%d bytes are taken, want %d at most", sent, connectionWindow)
	}
}

// TestA1WindowsGrow: an upload over HTTP/3 has windows that grow, of what all
// connections share; that comes back at their end. Without any it comes as well.
func TestA1WindowsGrow(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	})
	for _, room := range []int64{64 << 20, 0} {
		s := serve(t, mustCompile(t, at(app.Addr(), nil)))
		s.windows.left.Store(room)
		c := s.client(t, "127.0.0.2", 3)
		const size = 16 << 20
		res, err := c.Post(origin(app.Port()), "text/plain", io.LimitReader(zeroes{}, size))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprint(size, nil); err != nil || string(body) != want {
			t.Errorf("with %d bytes of room: %q, %v; want %q", room, body, err, want)
		}
		if left := s.windows.left.Load(); room > 0 && left == room {
			t.Error("no window has grown")
		}
		if err := c.Transport.(*http3.Transport).Close(); err != nil {
			t.Error(err)
		}
		until(t, "what the windows had does not come back", func() bool { return s.windows.left.Load() == room })
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
