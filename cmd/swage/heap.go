package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
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

// heapRest is how much the process may hold beyond what lives once nothing
// goes on; the rest goes back to the system.
const heapRest = 24 << 20

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
	heap := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	collected := make(chan struct{}, 1)
	watchCollections(ctx, collected)
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	var is int
	var cycles, floor uint64 // at the last tick; what was held after memory went back
	for quiet := false; ; {
		metrics.Read(heap)
		live, now := heap[0].Value.Uint64(), heap[1].Value.Uint64()
		// To set it stops the world for a moment.
		if want := gcPercent(live); want > is*5/4 || want < is*4/5 {
			debug.SetGCPercent(want)
			is = want
		}
		if held := heap[2].Value.Uint64() - heap[3].Value.Uint64(); quiet && now-cycles <= 1 && held > max(live+heapRest, floor+heapRest/4) {
			debug.FreeOSMemory()
			metrics.Read(heap)
			now = heap[1].Value.Uint64()
			floor = heap[2].Value.Uint64() - heap[3].Value.Uint64()
		}
		if quiet {
			cycles = now
		}
		select {
		case <-ctx.Done():
			return
		case <-collected: // what lives may have grown: the next one comes in time
			quiet = false
		case <-ticker.C:
			quiet = true
		}
	}
}

// watchCollections sends to collected after each garbage collection, without
// blocking, until ctx ends.
func watchCollections(ctx context.Context, collected chan<- struct{}) {
	type sentinel struct{ _ *int } // a pointer, so that it is not batched with others
	runtime.AddCleanup(&sentinel{}, func(struct{}) {
		select {
		case collected <- struct{}{}:
		default:
		}
		if ctx.Err() == nil {
			watchCollections(ctx, collected)
		}
	}, struct{}{})
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
