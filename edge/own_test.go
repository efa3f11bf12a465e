package edge

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"swage/edge/limit"
)

// ownHosts serves "api" and "git" by handlers that do what those of the agent do:
// read a body, answer without it, answer without end, or briefly.
func ownHosts(t *testing.T, running *atomic.Int64) *server {
	mux := http.NewServeMux()
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, "the body broke off", http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/ignore", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ignored") })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		mux.ServeHTTP(w, r)
	})
	c := at(backend(t, "127.0.1.1", mirror).Addr(), &Permissions{Default: Deny})
	c.API, c.Git = true, true
	return serve(t, mustCompile(t, c), func(p *Proxy) { p.api, p.git = own, own })
}

// impatient shortens what is waited for after a request.
func impatient(t *testing.T) {
	was := afterwards
	afterwards = 300 * time.Millisecond
	t.Cleanup(func() { afterwards = was })
}

// waits is how many requests wait for their bodies.
func (l *registry) waits() (n int) {
	for i := range l.shards {
		l.shards[i].mu.Lock()
		for x := range l.shards[i].each {
			if x.receiving.Waits() {
				n++
			}
		}
		l.shards[i].mu.Unlock()
	}
	return n
}

// TestS14StalledBodies: a body that does not come ends the request with 408, at
// the agent's own hosts as at containers', and lets go of the handler.
func TestS14StalledBodies(t *testing.T) {
	var running atomic.Int64
	s := ownHosts(t, &running)
	each(t, func(t *testing.T, version int) {
		for _, host := range []string{"api", "git"} {
			in, out := io.Pipe()
			defer out.Close()
			status := make(chan int, 1)
			go func() {
				res, err := s.client(t, "127.0.66.1", version).Post("https://"+host+"."+zone+"/read", "", in)
				if err != nil {
					status <- 0
					return
				}
				res.Body.Close()
				status <- res.StatusCode
			}()
			_, _ = out.Write([]byte("ab"))
			until(t, "the request does not wait", func() bool { return running.Load() == 1 })
			if res, _ := get(t, s.client(t, "127.0.67.1", version), "https://"+host+"."+zone+"/ignore"); res.StatusCode != http.StatusOK {
				t.Errorf("%s: another client got %d", host, res.StatusCode)
			}
			until(t, "the body is not waited for", func() bool { return s.live.count() == 1 && s.live.waits() == 1 })
			s.live.look(time.Now().Add(limit.Stall + time.Second)) // once: what is answered takes its time, too
			until(t, "the request is not cut", func() bool { return running.Load() == 0 })
			out.Close()
			if got := <-status; got != http.StatusRequestTimeout {
				t.Errorf("%s: %d", host, got)
			}
		}
	})
	until(t, "counters are left", func() bool { return s.load.counters() == 0 })
}

// TestS14StalledReaders: an answer that nobody reads ends, too.
func TestS14StalledReaders(t *testing.T) {
	var running atomic.Int64
	s := ownHosts(t, &running)
	each(t, func(t *testing.T, version int) {
		for _, host := range []string{"api", "git"} {
			res, err := s.client(t, "127.0.66.1", version).Get("https://" + host + "." + zone + "/endless")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			until(t, "the answer is not cut", func() bool {
				s.live.look(time.Now().Add(limit.Stall + time.Second))
				return running.Load() == 0
			})
		}
	})
	until(t, "counters are left", func() bool { return s.load.counters() == 0 })
}

// TestS14UnreadBodies: over HTTP/1.1 an answer for which the body does not matter
// comes at once, and the rest of the body is not waited for without end: at the
// agent's own hosts and for pages of the edge, with credentials and without.
func TestS14UnreadBodies(t *testing.T) {
	impatient(t)
	var running atomic.Int64
	s := ownHosts(t, &running)
	for host, want := range map[string]int{
		"api." + zone: 200, "git." + zone: 200, "nothing." + zone: 404,
		strings.TrimPrefix(origin(80), "https://"): 403,
	} {
		t.Run(host, func(t *testing.T) {
			for _, body := range []string{"Content-Length: 100000\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"} {
				c := s.dialTLS(t, "127.0.66.1")
				defer c.Close()
				if _, err := fmt.Fprintf(c, "POST /ignore HTTP/1.1\r\nHost: %s\r\n%s", host, body); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(patience))
				r := bufio.NewReader(c)
				res, err := http.ReadResponse(r, nil)
				if err != nil || res.StatusCode != want {
					t.Fatalf("%q: %v, %v", body, res, err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil && strings.Contains(err.Error(), "i/o timeout") {
					t.Errorf("%q: the connection stays open", body)
				}
			}
		})
	}
	until(t, "connections are left", func() bool { return s.conns.Counts().Open == 0 })
}

// TestS14NoWindow: over HTTP/2 a client that lets the edge send nothing has each
// of its streams reset, also one whose answer would fit into any buffer.
func TestS14NoWindow(t *testing.T) {
	impatient(t)
	var running atomic.Int64
	s := ownHosts(t, &running)
	for _, host := range []string{"api", "git", "nothing"} {
		f := s.dialH2(t, host+"."+zone)
		if err := f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
			t.Fatal(err)
		}
		got, err := f.exchange(message{fields: []field{{":method", "GET"}, {":scheme", "https"}, {":authority", host + "." + zone}, {":path", "/ignore"}}})
		if err != nil || got != http2.ErrCodeInternal.String() {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
}

// TestS14OwnHostsAreLimited: a client has as many requests at once there as
// elsewhere, and takes none from others.
func TestS14OwnHostsAreLimited(t *testing.T) {
	const most = 5
	var running atomic.Int64
	s := ownHosts(t, &running)
	s.load.limits.ClientRequests = most
	var held []io.Closer
	for range most {
		res, err := s.client(t, "127.0.66.1", 2).Get("https://git." + zone + "/endless")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, res.Body)
	}
	if res, _ := get(t, s.client(t, "127.0.66.1", 1), "https://api."+zone+"/ignore"); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("one more got %d", res.StatusCode)
	}
	if res, _ := get(t, s.client(t, "127.0.67.1", 1), "https://api."+zone+"/ignore"); res.StatusCode != http.StatusOK {
		t.Errorf("another client got %d", res.StatusCode)
	}
	for _, b := range held {
		_ = b.Close()
	}
	until(t, "counters are left", func() bool { return s.load.counters() == 0 })
}

// TestS5RightOnItsConnection: what the agent's own hosts found right on a
// connection is let in there while others guess from the same address, over any
// version.
func TestS5RightOnItsConnection(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		guesses := limit.NewGuesses()
		c := at(backend(t, "127.0.1.1", mirror).Addr(), nil)
		c.API = true
		s := serve(t, mustCompile(t, c), func(p *Proxy) {
			p.guesses = guesses
			p.api = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := r.Header.Get("Authorization")
				ok, wait := guesses.Try(r, token, func() bool { return token == "Bearer horse" })
				w.WriteHeader(map[bool]int{ok: 200, !ok && wait == 0: 401, wait > 0: 429}[true])
			})
		})
		ask := func(c *http.Client, token string) int {
			res, _ := get(t, c, "https://api."+zone+"/", "Authorization", "Bearer "+token)
			return res.StatusCode
		}
		good, bad := s.client(t, "127.0.66.1", version), s.client(t, "127.0.66.1", version)
		if got := ask(good, "horse"); got != 200 {
			t.Fatal(got)
		}
		for i := range limit.ClientBurst {
			if got := ask(bad, fmt.Sprint(i)); got != 401 {
				t.Fatalf("guess %d: %d", i, got)
			}
		}
		for token, want := range map[*http.Client]int{good: 200, bad: 429} {
			if got := ask(token, "horse"); got != want {
				t.Errorf("%d, want %d", got, want)
			}
		}
	})
}

// TestS5OneThrottle: guesses at a container and at the agent's own hosts are
// counted together.
func TestS5OneThrottle(t *testing.T) {
	guesses := limit.NewGuesses()
	s := serveHouse(t, backend(t, "127.0.1.1", mirror), house())
	s.guesses = guesses
	for i := range limit.ClientBurst {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.66.1:1"
		guesses.Try(r, fmt.Sprint(i), func() bool { return false })
	}
	for from, want := range map[string]int{"127.0.66.1": 429, "127.0.67.1": 401} {
		res, _ := get(t, s.client(t, from, 1), origin(80), "Authorization", basic("ann", "x"))
		if res.StatusCode != want {
			t.Errorf("from %s: %d, want %d", from, res.StatusCode, want)
		}
	}
}
