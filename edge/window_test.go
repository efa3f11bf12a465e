package edge

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// TestA1ShutWindows: answers that a client of HTTP/2 has asked for and does not
// take are counted and looked at, all but a few, and end with its connection: a
// container's, and pages of the edge.
func TestA1ShutWindows(t *testing.T) {
	impatient(t)
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	for _, row := range []struct {
		name string
		look bool
	}{{host, true}, {"nothing." + zone, false}} {
		f := s.dialH2(t, row.name)
		if err := f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
			t.Fatal(err)
		}
		for range maxStreams {
			f.last += 2
			if err := f.headers(parseFields(":method: GET | :scheme: https | :authority: "+row.name+" | :path: /"), true); err != nil {
				t.Fatal(err)
			}
		}
		if row.look {
			until(t, "nothing is awaited", func() bool { return s.live.count() > 0 })
			time.Sleep(2 * afterwards)
			if n := s.load.counters(); n != 2 {
				t.Errorf("%d clients and containers are counted", n)
			}
			s.live.look(time.Now().Add(3 * time.Minute))
		}
		_ = f.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, f.conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection lasts", row.name)
		}
	}
	until(t, "a connection is left", func() bool { return s.conns.Counts().Open == 0 })
	until(t, "a client is counted at the end", func() bool { return s.load.counters() == 0 })
}

// TestA1ShutWindowsOfQUIC: over HTTP/3 they all are counted and looked at.
func TestA1ShutWindowsOfQUIC(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 2500)) // more than a packet
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	conn, err := quic.DialAddr(t.Context(), s.addr, &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{http3.NextProtoH3}}, &quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	request := appendH3(nil, h3Headers, packed(parseFields(":method: GET | :scheme: https | :authority: "+host+" | :path: /")))
	const streams = 20
	for range streams {
		stream, err := conn.OpenStreamSync(t.Context())
		if err == nil {
			_, err = stream.Write(request)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Close()
	}
	waits := func() (n int) {
		for i := range s.live.shards {
			s.live.shards[i].mu.Lock()
			for x := range s.live.shards[i].each {
				if x.sending.Waits() {
					n++
				}
			}
			s.live.shards[i].mu.Unlock()
		}
		return n
	}
	until(t, "not all are awaited", func() bool { return waits() == streams })
	s.live.look(time.Now().Add(3 * time.Minute))
	until(t, "some last", func() bool { return s.live.count() == 0 && s.load.counters() == 0 })
}

// TestA1WindowsThatOpen: who takes answers late has them whole.
func TestA1WindowsThatOpen(t *testing.T) {
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	f := s.dialH2(t, host)
	_ = f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const streams = 60
	for range streams {
		f.last += 2
		if err := f.headers(parseFields(":method: GET | :scheme: https | :authority: "+host+" | :path: /"), true); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	_ = f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	_ = f.conn.SetReadDeadline(time.Now().Add(patience))
	ended, bytes := 0, 0
	for ended < streams {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			t.Fatalf("%d of %d answers: %v", ended, streams, err)
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			bytes += len(data.Data())
			if data.StreamEnded() {
				ended++
			}
		}
	}
	if bytes != streams*1000 {
		t.Errorf("%d bytes arrive", bytes)
	}
}
