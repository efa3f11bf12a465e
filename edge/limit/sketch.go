package limit

import (
	"hash/maphash"
	"time"
)

// A sketch counts failures by key in memory of a fixed size, less one in each
// pause. It forgets nothing but with time: a key shares its cells with others,
// so that its count may be too high when others fail, and is never too low. So
// no number of other keys makes it count anew. The seed keeps clients from
// choosing whom they share cells with.
type sketch struct {
	seed  maphash.Seed
	pause time.Duration // in which one failure is forgiven
	rows  [sketchRows][sketchCells]cell
}

// With so many cells a tenth of them has to be full before one key in ten
// thousand is taken for another.
const (
	sketchRows  = 4
	sketchCells = 1 << 15
)

type cell struct {
	failures float64
	at       int64 // when that was so, in nanoseconds since 1970
}

func newSketch(pause time.Duration) *sketch {
	return &sketch{seed: maphash.MakeSeed(), pause: pause}
}

// now is what is left of a cell's failures. Clocks of those who come at once may
// have been read in another order.
func (c *cell) now(at int64, pause time.Duration) float64 {
	return max(0, c.failures-float64(max(0, at-c.at))/float64(pause))
}

// cells are those of a key, from two independent halves of its hash (Kirsch and
// Mitzenmacher, "Less hashing, same performance").
func (s *sketch) cells(key any) (at [sketchRows]*cell) {
	h := maphash.Comparable(s.seed, key)
	a, b := uint32(h), uint32(h>>32)|1
	for i := range at {
		at[i] = &s.rows[i][(a+uint32(i)*b)%sketchCells]
	}
	return at
}

// failures of a key.
func (s *sketch) failures(key any, now time.Time) float64 {
	cells := s.cells(key)
	least := cells[0].now(now.UnixNano(), s.pause)
	for _, c := range cells[1:] {
		least = min(least, c.now(now.UnixNano(), s.pause))
	}
	return least
}

// fail counts one more, up to most.
func (s *sketch) fail(key any, most float64, now time.Time) {
	at := now.UnixNano()
	// A cell that counts more already need not count this one, too.
	want := min(s.failures(key, now)+1, most)
	for _, c := range s.cells(key) {
		if is := c.now(at, s.pause); is < want {
			*c = cell{want, max(at, c.at)}
		}
	}
}

// wait is how long it takes until a key has less than so many failures.
func (s *sketch) wait(key any, burst float64, now time.Time) time.Duration {
	if over := s.failures(key, now) - burst + 1; over > 0 {
		return time.Duration(over * float64(s.pause))
	}
	return 0
}
