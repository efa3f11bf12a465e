package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"swage/edge"
)

func TestLogFormat(t *testing.T) {
	var b bytes.Buffer
	for format, ok := range map[string]func(string) bool{
		"text": func(s string) bool { return strings.Contains(s, `msg=published host=`) },
		"json": func(s string) bool { return json.Valid([]byte(s)) && strings.Contains(s, `"msg":"published","host":`) },
	} {
		b.Reset()
		log, _, err := newLog(&b, format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("published", "host", "my-api.node.example.com")
		if !ok(b.String()) {
			t.Errorf("%s: %s", format, b.String())
		}
	}
	if _, _, err := newLog(&b, "xml"); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("xml: %v", err)
	}
}

// TestLogBatches: lines for requests are written together, each other line at
// once and after them, and what waits is not forgotten.
func TestLogBatches(t *testing.T) {
	w := &lines{more: make(chan struct{}, 100)}
	log, flush, err := newLog(w, "text")
	if err != nil {
		t.Fatal(err)
	}
	request := func() { log.Info("request", "request_id", "1") }
	request()
	request()
	log.Info("published")
	if got := strings.Join(w.take(), ""); strings.Count(got, "msg=request") != 2 || !strings.HasSuffix(got, "msg=published\n") {
		t.Errorf("%q", got)
	}
	request()
	flush()
	if got := w.take(); len(got) != 1 {
		t.Errorf("%q", got)
	}
	for len(w.more) > 0 {
		<-w.more
	}
	request()
	select {
	case <-w.more: // by itself
	case <-time.After(10 * time.Second):
		t.Error("a line waits for ever")
	}
	for range 2 * logBatch / 50 {
		request()
	}
	if got := w.take(); len(got) < 2 {
		t.Errorf("%d writes of more than a batch", len(got))
	}
}

// TestLogLines: the handler of text writes the line of a request as the library
// does, and what it leaves alone is left whole.
func TestLogLines(t *testing.T) {
	at := time.Now()
	attrs := []slog.Attr{slog.String("path", "/a b"), slog.Int("status", 200)}
	for _, row := range []struct {
		format string
		with   func(slog.Handler) slog.Handler
		takes  bool
	}{
		{"text", func(h slog.Handler) slog.Handler { return h }, true},
		{"text", func(h slog.Handler) slog.Handler { return h.WithAttrs([]slog.Attr{slog.String("server", "a")}) }, false},
		{"text", func(h slog.Handler) slog.Handler { return h.WithGroup("g") }, false},
		{"json", func(h slog.Handler) slog.Handler { return h }, false},
	} {
		var got, want bytes.Buffer
		log, flush, err := newLog(&got, row.format)
		if err != nil {
			t.Fatal(err)
		}
		h := row.with(log.Handler())
		if takes := h.(edge.LineHandler).HandleLine(at, "request", attrs); takes != row.takes {
			t.Errorf("%s: it takes the line: %v", row.format, takes)
		}
		flush()
		if row.takes {
			r := slog.NewRecord(at, slog.LevelInfo, "request", 0)
			r.AddAttrs(attrs...)
			_ = slog.NewTextHandler(&want, nil).Handle(t.Context(), r)
		}
		if got.String() != want.String() {
			t.Errorf("%s: %q, want %q", row.format, got.String(), want.String())
		}
	}
}

// lines are what was written, by one call each.
type lines struct {
	mu   sync.Mutex
	all  []string
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// FuzzLine: a lean line is the library's, byte for byte.
func FuzzLine(f *testing.F) {
	f.Add("path", "/a b", int64(200), int64(1500), int64(0))
	f.Add("", "", int64(-1), int64(0), int64(1e9))
	f.Add("a=b", "\"\n\u00e9\xff\x7f", int64(0), int64(-5), int64(1<<40))
	f.Fuzz(func(t *testing.T, key, text string, n, d, at int64) {
		zone := []*time.Location{time.UTC, time.FixedZone("", 5400)}[n&1]
		var l liner
		for _, later := range []time.Duration{0, time.Millisecond, time.Second} {
			r := slog.NewRecord(time.Unix(at%(1<<35), d%1e9).Add(later).In(zone), slog.LevelInfo, "request", 0)
			attrs := []slog.Attr{slog.String("host", text), slog.String(key, text), slog.Int64("bytes", n), slog.Duration("duration", time.Duration(d))}
			r.AddAttrs(attrs...)
			var want bytes.Buffer
			if err := slog.NewTextHandler(&want, nil).Handle(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if got, ok := l.append(nil, r.Time, r.Message, attrs); !ok || string(got) != want.String() {
				t.Errorf("%q, want %q", got, want.String())
			}
		}
		if _, ok := l.append(nil, time.Now(), "request", []slog.Attr{slog.Any("any", f)}); ok {
			t.Error("it writes what it cannot")
		}
	})
}
