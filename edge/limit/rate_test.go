package limit

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	const second = int64(time.Second)
	for _, row := range []struct {
		what               string
		waited, bytes, now int64 // seconds
		want               bool
	}{
		{"just begun", 0, 0, 1, false},
		{"nothing for long", 0, 0, 31, true},
		{"slow and steady", 50, 40 * Bytes, 1, false},
		{"a trickle", 29, 10, 2, true},
		{"much, then a pause", 1, 1 << 30, 110, false},
		{"much, then nothing more", 1, 1 << 30, 130, true},
	} {
		var p Rate
		begun := time.Unix(1000, 0)
		p.since.Store(begun.UnixNano())
		p.waited.Store(row.waited * second)
		p.bytes.Store(row.bytes)
		if got := p.TooSlow(begun.Add(time.Duration(row.now*second)), 0); got != row.want {
			t.Errorf("%s: %v", row.what, got)
		}
	}
	var idle Rate
	if idle.TooSlow(time.Now(), 0) {
		t.Error("nobody waits, and it is too slow")
	}
}
