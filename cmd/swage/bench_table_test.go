package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// comparison writes what was measured as Markdown. Each value has the edge's
// as a multiple of it beside it.
func (w *world) comparison(peers []*peer, measured map[string]figures, before, after string, took time.Duration) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, processors: %d for the proxies, %d for the load; load average %s before and %s after, %d rounds in %v.\n",
		time.Now().UTC().Format(time.DateOnly), w.proxies.Count(), runtime.NumCPU(), before, after, peerRounds, took.Round(time.Second))
	out.WriteString("Through network namespaces; swage calls the application from its clients' own addresses.\n")
	fmt.Fprintf(&out, "In brackets: swage's figure divided by this one.\n\n|")
	for _, p := range peers {
		fmt.Fprintf(&out, " | %s %s", p.name, p.version)
	}
	out.WriteString(" |\n|---" + strings.Repeat("|---", len(peers)) + "|\n")
	direct := measured["direct"]
	for _, row := range []struct {
		title, name, format string
		less                float64
	}{
		{"HTTP/1.1, requests/s", "h1 rate", "%.0f", 0},
		{"HTTP/1.1, CPU µs per request", "h1 cpu", "%.1f", 0},
		{"HTTP/2, requests/s", "h2 rate", "%.0f", 0},
		{"HTTP/2, CPU µs per request", "h2 cpu", "%.1f", 0},
		{"100 MiB, MB/s", "download", "%.0f", 0},
		{"100 MiB, CPU ms", "download cpu", "%.0f", 0},
		{fmt.Sprintf("added latency at %d/s, p50 µs", peerRate), "p50", "%.0f", direct.median("p50")},
		{fmt.Sprintf("added latency at %d/s, p99 µs", peerRate), "p99", "%.0f", direct.median("p99")},
		{"idle WebSocket, KiB", "socket", "%.1f", 0},
	} {
		fmt.Fprintf(&out, "| %s", row.title)
		ours := measured["swage"].median(row.name) - row.less
		for _, p := range peers {
			f := measured[p.name]
			switch v := f.median(row.name) - row.less; {
			case len(f[row.name]) == 0:
				out.WriteString(" | not measured")
			case p.name == "swage" || v <= 0:
				fmt.Fprintf(&out, " | "+row.format, v)
			default:
				fmt.Fprintf(&out, " | "+row.format+" (%.2f)", v, ours/v)
			}
		}
		out.WriteString(" |\n")
	}
	fmt.Fprintf(&out, "\nA direct connection, without TLS, takes %.0f µs (p50) and %.0f µs (p99).\n", direct.median("p50"), direct.median("p99"))
	return out.String()
}

// writeComparison puts the table between the marks of docs/performance.md.
func writeComparison(b *testing.B, table string) {
	b.Helper()
	const path, begin, end = "../../docs/performance.md", "<!-- begin figures -->\n", "<!-- end figures -->"
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		b.Fatalf("%s has no marks %q and %q", path, begin, end)
	}
	if err := os.WriteFile(path, []byte(head+begin+"\n"+table+"\n"+end+tail), 0o644); err != nil {
		b.Fatal(err)
	}
}
