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
	return slog.New(batched{h, b, format == "text"}), b.flush, nil
}

// batched lets lines wait that tell of a request. It is an [edge.LineHandler].
type batched struct {
	slog.Handler
	b    *batch
	lean bool // a liner writes what the Handler would
}

// Handle implements slog.Handler.
func (h batched) Handle(ctx context.Context, r slog.Record) error {
	if r.Message != "request" || r.Level != slog.LevelInfo {
		err := h.Handler.Handle(ctx, r)
		h.b.flush()
		return err
	}
	return h.Handler.Handle(ctx, r)
}

// HandleLine implements edge.LineHandler.
func (h batched) HandleLine(at time.Time, message string, attrs []slog.Attr) bool {
	return h.lean && h.b.line(at, message, attrs)
}

// WithAttrs implements slog.Handler.
func (h batched) WithAttrs(attrs []slog.Attr) slog.Handler {
	return batched{h.Handler.WithAttrs(attrs), h.b, false}
}

// WithGroup implements slog.Handler.
func (h batched) WithGroup(name string) slog.Handler {
	return batched{h.Handler.WithGroup(name), h.b, false}
}

// batch collects what is written.
type batch struct {
	mu    sync.Mutex
	w     io.Writer
	lines []byte
	liner liner
	timer *time.Timer // runs while there are lines
}

// Write implements io.Writer.
func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grow(append(b.lines, p...))
	return len(p), nil
}

// line writes a line, if that can be done without the Handler.
func (b *batch) line(at time.Time, message string, attrs []slog.Attr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines, ok := b.liner.append(b.lines, at, message, attrs)
	if ok {
		b.grow(lines)
	}
	return ok
}

// grow takes more lines.
func (b *batch) grow(lines []byte) {
	if len(b.lines) == 0 {
		b.timer.Reset(logDelay)
	}
	b.lines = lines
	if len(b.lines) >= logBatch {
		b.flushLocked()
	}
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
