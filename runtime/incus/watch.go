package incus

import (
	"context"
	"encoding/json"
	"path"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

// rewatch is the pause before a lost stream is opened again.
const rewatch = time.Second

// Watch follows the daemon's lifecycle events. A stream cannot be resumed where
// it ended, so each begins with a hint.
func (r *Runtime) Watch(ctx context.Context, changed chan<- struct{}) error {
	for {
		_ = r.stream(ctx, changed) // whatever ended it, the answer is the same
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rewatch):
		}
	}
}

// stream reads events until the connection or ctx ends. The client's own
// listeners leave goroutines behind when they are closed.
func (r *Runtime) stream(ctx context.Context, changed chan<- struct{}) error {
	conn, err := r.in(ctx, "").RawWebsocket("/events?all-projects=true&type=lifecycle")
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	hint(changed) // of what happened before the stream began
	for {
		var e api.Event
		if err := conn.ReadJSON(&e); err != nil {
			return err
		}
		if r.matters(e) {
			hint(changed)
		}
	}
}

// matters tells changes to our projects and what is in them from the rest.
func (r *Runtime) matters(e api.Event) bool {
	var l api.EventLifecycle
	if json.Unmarshal(e.Metadata, &l) != nil {
		return true
	}
	switch {
	case l.Action == "instance-exec", strings.HasPrefix(l.Action, "instance-file-"),
		strings.HasPrefix(l.Action, "instance-log-"), l.Action == "instance-console":
		return false
	case strings.HasPrefix(l.Action, "instance-"):
		if l.Action == "instance-snapshot-updated" {
			r.mu.Lock()
			r.seen = nil // its expiry may be another
			r.mu.Unlock()
		}
		return r.ours(e.Project)
	case strings.Contains(l.Source, "/swage."): // see note.go
		return false
	}
	return strings.HasPrefix(l.Action, "project-") && r.ours(path.Base(l.Source))
}

func hint(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
