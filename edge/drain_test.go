package edge

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestDrainOfHTTP3: while requests of others are awaited, over whatever version,
// clients of HTTP/3 are still let in, since nobody else reads the socket. One
// that sleeps holds nothing up.
func TestDrainOfHTTP3(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 2)
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			held <- struct{}{}
			<-hold
		}
		_, _ = io.WriteString(w, "hello")
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	s.drain = 30 * time.Second
	url := origin(app.Port())
	answers := make(chan string, 2)
	for version := 1; version <= 3; version += 2 {
		c := s.client(t, "127.0.0.2", version)
		go func() {
			_, body := get(t, c, url+"/hold")
			answers <- body
		}()
		<-held
	}
	asleep := s.client(t, "127.0.0.3", 3)
	get(t, asleep, url)

	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	until(t, "no drain begins", func() bool { return s.draining.Load() > 0 })
	begun := time.Now()
	for range 3 {
		if _, body := get(t, s.client(t, "127.0.0.4", 3), url); body != "hello" {
			t.Errorf("a newcomer got %q", body)
		}
	}
	if _, body := get(t, asleep, url); body != "hello" { // over another connection
		t.Errorf("one who was there got %q", body)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended although requests are under way: %v", err)
	default:
	}
	close(hold)
	for range 2 {
		if body := <-answers; body != "hello" {
			t.Errorf("one who was awaited got %q", body)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > s.drain*2/3 {
		t.Errorf("the drain took %v", took)
	}
}

// TestHeard: who has asked for something is not waited for as one who has just
// come.
func TestHeard(t *testing.T) {
	for version := 1; version <= 2; version++ {
		fresh := make(chan bool, 1)
		s := serve(t, mustCompile(t, Config{Zone: zone, API: true}), func(p *Proxy) {
			p.api = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fresh <- linkOf(r.Context()).gate.anyFresh() })
		})
		get(t, s.client(t, "127.0.0.2", version), "https://api."+zone)
		if <-fresh {
			t.Errorf("HTTP/%d: nobody was heard", version)
		}
	}
}

// TestDrainAwaitsNoTunnel: a WebSocket over HTTP/2 or HTTP/3 is not waited for,
// a request beside it is.
func TestDrainAwaitsNoTunnel(t *testing.T) {
	for version := 2; version <= 3; version++ {
		t.Run(fmt.Sprintf("HTTP%d", version), func(t *testing.T) {
			hold, held := make(chan struct{}), make(chan struct{})
			app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "" {
					echo(w, r)
					return
				}
				close(held)
				<-hold
				_, _ = io.WriteString(w, "hello")
			})
			s := serve(t, mustCompile(t, at(app.Addr(), nil)))
			s.drain = 30 * time.Second
			ws := s.dialWire(t, version, origin(app.Port()))
			defer ws.closeAll()
			answer := make(chan string, 1)
			go func() {
				_, body := get(t, s.client(t, "127.0.0.3", version), origin(app.Port()))
				answer <- body
			}()
			<-held
			ended := make(chan error, 1)
			begun := time.Now()
			go func() { ended <- s.stop() }()
			until(t, "no drain begins", func() bool { return s.draining.Load() > 0 })
			close(hold)
			if body := <-answer; body != "hello" {
				t.Errorf("one who was awaited got %q", body)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > s.drain*2/3 {
				t.Errorf("the drain took %v", took)
			}
			_, _ = io.ReadAll(ws) // it is cut
		})
	}
}
