//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// The bounds are what keep a mistyped number in a test from becoming a hang.
const (
	maxBody  = 64 << 10
	maxBytes = 4 << 30
	maxSlow  = 60_000
	maxTicks = 10_000
	maxPause = 10_000
)

// Echo is a request as it arrived.
type Echo struct {
	Method     string              `json:"method"`
	Path       string              `json:"path"` // the raw request URI, escapes and query untouched
	Host       string              `json:"host"`
	Proto      string              `json:"proto"`
	Headers    map[string][]string `json:"headers"`
	RemoteAddr string              `json:"remote_addr"`
	Env        map[string]string   `json:"env"`
	Hostname   string              `json:"hostname"`
	Body       string              `json:"body"` // the first 64 KiB
}

// handler matches on the path itself: a ServeMux would clean paths and
// redirect, and a test could no longer see what the proxy sent.
func handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			echoMessages(w, r)
		case "/slow":
			withNumbers(w, r, func(n map[string]int64) {
				if pause(r, n["ms"]) {
					echo(w, r, http.StatusOK)
				}
			}, number{"ms", 0, 0, maxSlow})
		case "/stream":
			ticks(w, r, "text/plain; charset=utf-8", "line %d\n")
		case "/sse":
			ticks(w, r, "text/event-stream", "id: %[1]d\ndata: event %[1]d\n\n")
		case "/bytes":
			withNumbers(w, r, func(n map[string]int64) {
				w.Header().Set("Content-Type", "application/octet-stream")
				w.Header().Set("Content-Length", strconv.FormatInt(n["n"], 10))
				_, _ = io.CopyN(w, zeros{}, n["n"])
			}, number{"n", 0, 0, maxBytes})
		case "/sink":
			count, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer(w, http.StatusOK, map[string]int64{"bytes": count})
		case "/status":
			withNumbers(w, r, func(n map[string]int64) {
				echo(w, r, int(n["code"]))
			}, number{"code", 200, 200, 599})
		default:
			echo(w, r, http.StatusOK)
		}
	})
}

func echo(w http.ResponseWriter, r *http.Request, status int) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	hostname, _ := os.Hostname()
	env := map[string]string{}
	for _, pair := range os.Environ() {
		key, value, _ := strings.Cut(pair, "=")
		env[key] = value
	}
	answer(w, status, Echo{
		Method: r.Method, Path: r.RequestURI, Host: r.Host, Proto: r.Proto, Headers: r.Header,
		RemoteAddr: r.RemoteAddr, Env: env, Hostname: hostname, Body: string(body),
	})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func echoMessages(w http.ResponseWriter, r *http.Request) {
	// Judging origins is the work of the proxy under test, not of its target.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(maxBytes)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// ticks sends format n times, each at once, ms milliseconds apart.
func ticks(w http.ResponseWriter, r *http.Request, contentType, format string) {
	withNumbers(w, r, func(n map[string]int64) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-store")
		flush := http.NewResponseController(w)
		for i := range n["n"] {
			if i > 0 && !pause(r, n["ms"]) {
				return
			}
			if _, err := fmt.Fprintf(w, format, i+1); err != nil {
				return
			}
			_ = flush.Flush()
		}
	}, number{"n", 10, 0, maxTicks}, number{"ms", 100, 0, maxPause})
}

// pause waits ms milliseconds; false means that the client left before.
func pause(r *http.Request, ms int64) bool {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// number is a query parameter with its default and its bounds.
type number struct {
	name                 string
	otherwise, low, high int64
}

// withNumbers calls then with every wanted parameter, or answers 400.
func withNumbers(w http.ResponseWriter, r *http.Request, then func(map[string]int64), wanted ...number) {
	got := map[string]int64{}
	for _, n := range wanted {
		got[n.name] = n.otherwise
		text := r.URL.Query().Get(n.name)
		if text == "" {
			continue
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < n.low || value > n.high {
			http.Error(w, fmt.Sprintf("%s=%q: give a number from %d to %d", n.name, text, n.low, n.high), http.StatusBadRequest)
			return
		}
		got[n.name] = value
	}
	then(got)
}

// zeros is an endless reader, so that /bytes needs no buffer of its own.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
