package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	logDelay = 100 * time.Millisecond // of a line for a request, at most
	logBatch = 32 << 10               // bytes that wait at most
)

// newLog writes a line for each event and each request. Those for requests may
// wait a moment, so that many are one system call; all others are written at
// once, after those that wait. What waits when the program ends is written by
// flush.
func newLog(w io.Writer, format string) (log *slog.Logger, flush func(), err error) {
	b := &batch{w: w}
	b.timer = time.AfterFunc(time.Hour, b.flush)
	b.timer.Stop()
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(b, nil)
	case "json":
		h = slog.NewJSONHandler(b, nil)
	default:
		return nil, nil, fmt.Errorf("--log-format takes text or json, not %q", format)
	}
	return slog.New(batched{h, b}), b.flush, nil
}

// batched lets lines wait that tell of a request.
type batched struct {
	slog.Handler
	b *batch
}

// Handle implements slog.Handler.
func (h batched) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message != "request" || r.Level != slog.LevelInfo {
		h.b.flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h batched) WithAttrs(attrs []slog.Attr) slog.Handler {
	return batched{h.Handler.WithAttrs(attrs), h.b}
}

// WithGroup implements slog.Handler.
func (h batched) WithGroup(name string) slog.Handler {
	return batched{h.Handler.WithGroup(name), h.b}
}

// batch collects what is written.
type batch struct {
	mu    sync.Mutex
	w     io.Writer
	lines []byte
	timer *time.Timer // runs while there are lines
}

// Write implements io.Writer.
func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines) == 0 {
		b.timer.Reset(logDelay)
	}
	b.lines = append(b.lines, p...)
	if len(b.lines) >= logBatch {
		b.flushLocked()
	}
	return len(p), nil
}

func (b *batch) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushLocked()
}

func (b *batch) flushLocked() {
	if len(b.lines) == 0 {
		return
	}
	b.timer.Stop()
	_, _ = b.w.Write(b.lines) // as slog does, which has nowhere to say it either
	b.lines = b.lines[:0]
}
