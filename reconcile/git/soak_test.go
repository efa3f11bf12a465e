package git

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// TestManyFetches: after a thousand, the mirror and the process are as small
// as after a hundred.
func TestManyFetches(t *testing.T) {
	if os.Getenv("SWAGE_SOAK") == "" {
		t.Skip("takes minutes: SWAGE_SOAK=1 runs it")
	}
	bare, work := fixture(t)
	r := newRemote(t, serveWeb(t, filepath.Dir(bare)).options(t))
	var size, rss int64
	for i := range 1000 {
		write(t, work, "swage.cue", fmt.Sprint(i))
		commit(t, work)
		tipIs(t, r, work)
		if i == 99 || i == 999 {
			debug.FreeOSMemory()
			s, m := mirror{r.Path, "main"}.size(), resident(t)
			t.Logf("after %d: mirror %d KiB, RSS %d KiB", i+1, s>>10, m>>10)
			if i == 999 && (s > size+2<<20 || m > rss+rss/4) {
				t.Errorf("the mirror grew from %d to %d bytes, RSS from %d to %d", size, s, rss, m)
			}
			size, rss = s, m
		}
	}
}

func resident(t *testing.T) int64 {
	src, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(src))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
