package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"swage/edge/limit"
	"swage/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswers(t *testing.T) {
	fresh := &reconcile.Report{Server: "lab", State: reconcile.Pending}
	done := &reconcile.Report{Server: "lab", Commit: "c1", State: reconcile.Applied, Finished: time.Unix(1, 0)}
	for _, c := range []struct {
		method, path string
		report       *reconcile.Report
		status       int
		body         string
	}{
		{"GET", "/healthz", fresh, 200, "ok"},
		{"GET", "/readyz", fresh, 503, "no commit"},
		{"GET", "/readyz", done, 200, "ok"},
		{"GET", "/api/v1/status", done, 200, `"commit":"c1","state":"applied"`},
		{"POST", "/api/v1/status", done, 405, ""},
		{"GET", "/", done, 404, ""},
	} {
		w := httptest.NewRecorder()
		API{Report: func() *reconcile.Report { return c.report }}.Local().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}

// socketIn is short: a socket's path has 107 bytes.
func socketIn(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "sock")
}

func TestOneAgentASocket(t *testing.T) {
	socket, log := socketIn(t), slog.New(slog.DiscardHandler)
	h := API{Report: func() *reconcile.Report { return &reconcile.Report{Server: "lab"} }}.Local()
	if _, err := Socket(socket).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "swage agent") {
		t.Errorf("without an agent: %v", err)
	}
	// What a killed agent left is in nobody's way.
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- Serve(ctx, l, h, log) }()
	for deadline := time.Now().Add(10 * time.Second); ; {
		r, err := Socket(socket).Status(t.Context())
		if err == nil && r.Server == "lab" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is open to others: %v %v", info.Mode(), err)
	}
	if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
	if _, err := Socket(socket).Status(t.Context()); err != nil {
		t.Errorf("the first one is gone: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTokensOpenTheAPI(t *testing.T) {
	sum := func(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }
	a := API{
		Report: func() *reconcile.Report { return &reconcile.Report{Server: "lab"} },
		Plan: func(_ context.Context, tree fs.FS) (reconcile.Proposal, error) {
			var p reconcile.Proposal
			src, err := fs.ReadFile(tree, "swage.cue")
			p.Add(string(src), reconcile.Plan{}, nil, nil)
			return p, err
		},
		Tokens: func() []Token {
			return []Token{
				{SHA256: sum("reader"), Allow: []string{"read"}},
				{SHA256: sum("planner"), Allow: []string{"plan"}, Expires: time.Now().Add(time.Hour)},
				{SHA256: sum("late"), Allow: []string{"read", "plan"}, Expires: time.Now().Add(-time.Second)},
				{SHA256: sum(""), Allow: []string{"read"}}, // a secret that is empty
				{SHA256: sum("public"), Key: true, Allow: []string{"read", "plan"}},
			}
		},
	}
	var archive bytes.Buffer
	if err := pack(&archive, fstest.MapFS{"swage.cue": {Data: []byte("lab")}, ".git/x.cue": {}, "photo.png": {}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what          string
		authorization []string
		status, plan  int
	}{
		{"nobody", nil, 401, 401},
		{"a reader", []string{"Bearer reader"}, 200, 401},
		{"a planner", []string{"bearer planner"}, 401, 200},
		{"a token that has expired", []string{"Bearer late"}, 401, 401},
		{"a wrong token", []string{"Bearer readers"}, 401, 401},
		{"another scheme", []string{"Basic reader"}, 401, 401},
		{"no scheme", []string{"reader"}, 401, 401},
		{"an empty token", []string{"Bearer "}, 401, 401},
		{"a public key, which everybody has", []string{"Bearer public"}, 401, 401},
		{"two headers", []string{"Bearer reader", "Bearer reader"}, 401, 401},
	} {
		for path, want := range map[string]int{"GET /api/v1/status": c.status, "POST /api/v1/plan": c.plan, "GET /healthz": 200} {
			method, target, _ := strings.Cut(path, " ")
			r := httptest.NewRequest(method, target, bytes.NewReader(archive.Bytes()))
			r.Header["Authorization"] = c.authorization
			w := httptest.NewRecorder()
			a.Remote().ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s, %s: %d %s, want %d", c.what, path, w.Code, w.Body, want)
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s: 401 without a challenge", c.what, path)
			}
			if want == 200 && path == "POST /api/v1/plan" && !strings.Contains(w.Body.String(), `"server":"lab"`) {
				t.Errorf("%s, %s: %s", c.what, path, w.Body)
			}
		}
	}
	w := httptest.NewRecorder()
	a.Local().ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/plan", strings.NewReader("no archive")))
	if w.Code != 400 {
		t.Errorf("no archive: %d %s", w.Code, w.Body)
	}
}

// TestS5TokensOfTheAPI: wrong tokens are guesses, whatever they are for; none at
// all, and one that allows something else, are not.
func TestS5TokensOfTheAPI(t *testing.T) {
	a := API{
		Report: func() *reconcile.Report { return &reconcile.Report{} },
		Tokens: func() []Token {
			return []Token{{SHA256: sha256.Sum256([]byte("reader")), Allow: []string{"read"}}}
		},
		Events:  func(int) ([]reconcile.Event, <-chan struct{}) { return nil, nil },
		Guesses: limit.NewGuesses(),
	}
	h := a.Remote()
	ask := func(from, token, target string) *httptest.ResponseRecorder {
		method, path, _ := strings.Cut(target, " ")
		r := httptest.NewRequest(method, path, nil)
		r.RemoteAddr = from + ":1"
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	const status, plan, events = "GET /api/v1/status", "POST /api/v1/plan", "GET /api/v1/events?follow=false"
	for range 3 * limit.ClientBurst {
		if n, o := ask("192.0.2.1", "", status).Code, ask("192.0.2.1", "reader", plan).Code; n != 401 || o != 401 {
			t.Fatalf("nothing and another right: %d, %d", n, o)
		}
	}
	for i := range limit.ClientBurst {
		if w := ask("192.0.2.1", fmt.Sprint(i), []string{status, plan, events}[i%3]); w.Code != 401 {
			t.Fatalf("guess %d: %d", i, w.Code)
		}
	}
	for _, target := range []string{status, plan, events} {
		if w := ask("192.0.2.1", "reader", target); w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	if got := ask("192.0.2.1", "", "GET /healthz").Code; got != 200 {
		t.Errorf("what is open: %d", got)
	}
	if got := ask("192.0.2.2", "reader", status).Code; got != 200 {
		t.Errorf("another client: %d", got)
	}
}

// TestA2TheSocketIsNeverOpen: it has its rights from its first moment on,
// whatever the mask of this process lets through.
func TestA2TheSocketIsNeverOpen(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	stop, stopped := make(chan struct{}), make(chan struct{})
	socket := socketIn(t)
	var seen atomic.Uint32
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if info, err := os.Stat(socket); err == nil {
					seen.Or(uint32(info.Mode().Perm()))
				}
			}
		}
	}()
	for range 200 {
		l, err := Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
		l.Close()
	}
	close(stop)
	<-stopped
	if seen.Load()&^0o600 != 0 {
		t.Errorf("meanwhile it was open with %o", seen.Load())
	}
}

// TestA4EventsEndWithTheirToken: a stream of events ends soon after its token was
// taken away, or expired, also while nothing happens; others go on.
func TestA4EventsEndWithTheirToken(t *testing.T) {
	var mu sync.Mutex
	of := func(name string, expires time.Time) Token {
		return Token{Name: name, SHA256: sha256.Sum256([]byte(name)), Allow: []string{"read"}, Expires: expires}
	}
	good := []Token{of("stays", time.Time{}), of("goes", time.Time{}), of("expires", time.Now().Add(500*time.Millisecond))}
	h := API{
		Events: func(int) ([]reconcile.Event, <-chan struct{}) { return nil, nil },
		Tokens: func() []Token { mu.Lock(); defer mu.Unlock(); return good },
	}.Remote()
	ended := make(chan string, 3)
	ctx, cancel := context.WithCancel(t.Context())
	for _, name := range []string{"stays", "goes", "expires"} {
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/events", nil)
		r.Header.Set("Authorization", "Bearer "+name)
		go func() {
			h.ServeHTTP(httptest.NewRecorder(), r)
			ended <- name
		}()
	}
	next := func(wait time.Duration) string {
		select {
		case name := <-ended:
			return name
		case <-time.After(wait):
			return ""
		}
	}
	if got := next(10 * time.Second); got != "expires" {
		t.Errorf("first ended %q", got)
	}
	mu.Lock()
	good = good[:1]
	mu.Unlock()
	if got := next(10 * time.Second); got != "goes" {
		t.Errorf("then ended %q", got)
	}
	if got := next(2 * recheck); got != "" {
		t.Errorf("%q ended, too", got)
	}
	cancel()
	if got := next(10 * time.Second); got != "stays" {
		t.Errorf("with its client ended %q", got)
	}
}
