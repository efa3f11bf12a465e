package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// heapHeadroom is how much garbage may lie about before it is collected. By
// Go's own rule, which is as much as what lives, a small heap is collected many
// times a second under load; a large one keeps to that rule.
const heapHeadroom = 64 << 20

// tuneHeap sees to the headroom until ctx ends, and to the memory that the
// process's control group leaves it. GOGC and GOMEMLIMIT come first.
func tuneHeap(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") == "" {
		if limit := groupLimit("/proc/self/cgroup", "/sys/fs/cgroup"); limit > 0 {
			debug.SetMemoryLimit(limit / 10 * 9) // what is not heap needs some too
		}
	}
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for is := 0; ; {
		metrics.Read(live)
		// To set it stops the world for a moment.
		if want := gcPercent(live[0].Value.Uint64()); want > is*5/4 || want < is*4/5 {
			debug.SetGCPercent(want)
			is = want
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// gcPercent is GOGC for a heap of which so many bytes live.
func gcPercent(live uint64) int {
	return int(min(max(100, 100*heapHeadroom/max(live, 1)), 1000))
}

// groupLimit is the least memory.max of the process's control group and those
// above it (cgroups(7), version 2); 0 if there is none.
func groupLimit(self, root string) (least int64) {
	text, _ := os.ReadFile(self)
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && group != "/" && group != "."; group = filepath.Dir(group) {
			limit, _ := os.ReadFile(filepath.Join(root, group, "memory.max"))
			if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil && (least == 0 || n < least) {
				least = n
			}
		}
	}
	return least
}
