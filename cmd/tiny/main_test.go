//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler())
	t.Cleanup(server.Close)
	return server
}

// What a guest tells of a request is what the wire carried, not a clean copy.
func TestEcho(t *testing.T) {
	t.Setenv("GREETING", "hello")
	server := serve(t)
	long := strings.Repeat("x", maxBody+10)
	for _, test := range []struct {
		method, path, body string
		status             int
		wantBody           string
	}{
		{"GET", "/", "", 200, ""},
		{"POST", "/a//b/../c%2Fd?q=%20&q=2", "text", 200, "text"},
		{"DELETE", "/ws/not", "", 200, ""},
		{"PUT", "/long", long, 200, long[:maxBody]},
		{"GET", "/status?code=503", "", 503, ""},
		{"GET", "/slow?ms=1", "", 200, ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			r, err := http.NewRequest(test.method, server.URL+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "other.example"
			r.Header.Add("X-Twice", "1")
			r.Header.Add("X-Twice", "2")
			response, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var got Echo
			if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || got.Method != test.method || got.Path != test.path || got.Body != test.wantBody ||
				got.Host != "other.example" || got.Proto != "HTTP/1.1" || len(got.Headers["X-Twice"]) != 2 ||
				got.Env["GREETING"] != "hello" || got.Hostname == "" || !strings.HasPrefix(got.RemoteAddr, "127.0.0.1:") {
				got.Body = fmt.Sprintf("%.20q", got.Body)
				t.Errorf("status %d, %+v", response.StatusCode, got)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	server := serve(t)
	for _, path := range []string{
		"/slow?ms=60001", "/slow?ms=-1", "/slow?ms=soon", "/stream?n=10001", "/stream?ms=10001",
		"/sse?n=-1", "/bytes?n=4294967297", "/status?code=99", "/status?code=100", "/status?code=600",
	} {
		if response, body := get(t, server.URL+path); response.StatusCode != 400 || !strings.Contains(body, "give a number") {
			t.Errorf("%s: %s %q", path, response.Status, body)
		}
	}
}

func TestBodies(t *testing.T) {
	server := serve(t)
	for _, test := range []struct{ path, kind, body string }{
		{"/stream?n=3&ms=1", "text/plain; charset=utf-8", "line 1\nline 2\nline 3\n"},
		{"/sse?n=2&ms=1", "text/event-stream", "id: 1\ndata: event 1\n\nid: 2\ndata: event 2\n\n"},
		{"/bytes?n=100000", "application/octet-stream", strings.Repeat("\x00", 100_000)},
		{"/bytes", "application/octet-stream", ""},
	} {
		response, body := get(t, server.URL+test.path)
		if body != test.body || response.Header.Get("Content-Type") != test.kind {
			t.Errorf("%s: %.60q as %s", test.path, body, response.Header.Get("Content-Type"))
		}
	}
	response, err := http.Post(server.URL+"/sink", "", io.LimitReader(zeros{}, 3<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); string(text) != "{\"bytes\":3145728}\n" {
		t.Errorf("/sink: %q", text)
	}
}

// The first line must be there long before the last: a test of proxies that
// buffer is worth nothing if the guest does.
func TestStreamIsFlushed(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", serve(t).URL+"/stream?n=2&ms=10000", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); line != "line 1\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestWebSocket(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, serve(t).URL+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://else.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for _, message := range []struct {
		kind websocket.MessageType
		data []byte
	}{{websocket.MessageText, []byte("hello")}, {websocket.MessageBinary, bytes.Repeat([]byte{1}, 100_000)}} {
		if err := c.Write(ctx, message.kind, message.data); err != nil {
			t.Fatal(err)
		}
		if kind, data, err := c.Read(ctx); err != nil || kind != message.kind || !bytes.Equal(data, message.data) {
			t.Errorf("%v: %d bytes, %v", kind, len(data), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Setenv("PORT", "0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code := run(ctx, nil, nil, io.Discard, io.Discard); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Setenv("PORT", "none")
	var said bytes.Buffer
	if code := run(context.Background(), nil, nil, io.Discard, &said); code != 1 || !strings.Contains(said.String(), "PORT") {
		t.Errorf("exit code %d: %s", code, &said)
	}
}

func TestAttend(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGPWR, syscall.SIGTERM, syscall.SIGINT} {
		signals, stopped := make(chan os.Signal, 1), make(chan struct{})
		signals <- s
		go attend(signals, func() { close(stopped) })
		<-stopped
	}
	// A child that nobody waits for is reaped: its number is free again.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	stopped := make(chan struct{})
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid
	ended := make(chan os.Signal, 16)
	ended <- <-signals
	ended <- syscall.SIGTERM
	attend(ended, func() { close(stopped) })
	<-stopped
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("child %d was not reaped: %v", pid, err)
	}
}
