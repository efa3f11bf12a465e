package edge

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// logAccess writes the line of a finished request. It holds no query, and no
// generated host: whoever reads one may use it. Of credentials it names the
// group at most.
func (p *Proxy) logAccess(x *exchange) {
	ctx := x.r.Context()
	if !p.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	room := lines.Get().(*[maxAttrs]slog.Attr)
	defer lines.Put(room)
	d, now := &x.decision, time.Now()
	attrs := append(room[:0],
		slog.String("request_id", x.idString()),
		slog.String("method", x.r.Method),
		slog.String("host", redact(x.r.Host)),
		slog.String("path", x.request.Path),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.written),
		slog.Duration("duration", now.Sub(x.begun)),
		slog.String("client", x.clientString()),
		slog.String("protocol", protocol(x.r)),
	)
	if d.Container != "" {
		attrs = append(attrs, slog.String("container", d.Container))
	}
	if d.Route.Addr.IsValid() {
		attrs = append(attrs, slog.Int("port", int(d.Route.Addr.Port())))
	}
	if x.source.client.IsValid() {
		attrs = append(attrs, slog.String("source", "client"))
	} else if x.source.why != "" {
		attrs = append(attrs, slog.String("source", "edge"), slog.String("source_why", x.source.why))
	}
	if x.table != nil {
		attrs = append(attrs,
			slog.String("decision", d.Verdict.String()),
			slog.String("why", d.Why),
			slog.String("table", x.table.version))
	}
	if d.Group != "" {
		attrs = append(attrs, slog.String("group", d.Group))
	}
	if d.Route.Level != "" {
		attrs = append(attrs, slog.String("level", d.Route.Level))
	}
	switch cut := x.ctx.why().(type) {
	case cutError:
		attrs = append(attrs, slog.String("cut", cut.decision.Why))
	case error:
		if cut == errSlow {
			attrs = append(attrs, slog.String("cut", cut.Error()))
		}
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	if h, ok := p.log.Handler().(LineHandler); ok && h.HandleLine(now, accessMessage, attrs) {
		return
	}
	// A Logger would find out who calls it, for a source that no line shows.
	r := slog.NewRecord(now, slog.LevelInfo, accessMessage, 0)
	r.AddAttrs(attrs...)
	_ = p.log.Handler().Handle(ctx, r)
}

const (
	accessMessage = "request" // of the line of each request
	maxAttrs      = 20        // of it
)

// lines lends room for the attributes of a line.
var lines = sync.Pool{New: func() any { return new([maxAttrs]slog.Attr) }}

// LineHandler is a [slog.Handler] that can write the lines of requests, of level
// Info, without a [slog.Record], which copies them twice. HandleLine reports
// false if it leaves the line to Handle, and keeps nothing of attrs.
type LineHandler interface {
	slog.Handler
	HandleLine(at time.Time, message string, attrs []slog.Attr) bool
}

// redact hides every label of a host that could be a container's own.
func redact(host string) string {
	secret := false
	for label := range strings.SplitSeq(host, ".") {
		secret = secret || looksGenerated(strings.ToLower(label))
	}
	if !secret { // as most are, so they shall cost nothing
		return host
	}
	labels := strings.Split(host, ".")
	for i, label := range labels {
		if looksGenerated(strings.ToLower(label)) {
			labels[i] = "redacted"
		}
	}
	return strings.Join(labels, ".")
}

// protocol is the version of HTTP, which quic-go tells otherwise for a tunnel.
func protocol(r *http.Request) string {
	if r.ProtoMajor == 3 {
		return "HTTP/3.0"
	}
	return r.Proto
}
