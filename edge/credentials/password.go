package credentials

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"time"
)

const (
	// rightFor and wrongFor are how long a result is remembered.
	rightFor = 5 * time.Minute
	wrongFor = 30 * time.Second

	// maxResults of each kind. Right and wrong ones are kept apart, so that
	// guesses push nothing out that is of use.
	maxResults = 4096
)

// digest stands for a hash and a password. It is keyed, so that what is
// remembered tells nobody who reads memory a password that is quick to check;
// and holds the hash, so that a changed hash finds nothing.
type digest [sha256.Size]byte

// Password reports whether a password is the one of a hash: a PHC string of
// argon2id, a bcrypt string, or "$sha256$<salt>$<hex>". Results are remembered
// for a short while, and who asks the same at once waits for one answer. An
// error says that it could not tell, and is [ErrBusy] or that of ctx; a text
// that is no hash matches nobody.
func (c *Checker) Password(ctx context.Context, hash, password string) (bool, error) {
	if len(password) > maxPassword || strings.IndexByte(password, 0) >= 0 {
		return false, nil
	}
	d := c.digest(hash, password)
	if ok, known := c.results.get(d, c.now()); known {
		return ok, nil
	}
	return c.flights.do(ctx, d, func() (bool, error) {
		if ok, known := c.results.get(d, c.now()); known { // of a flight that just ended
			return ok, nil
		}
		select {
		case c.waiting <- struct{}{}:
			defer func() { <-c.waiting }()
		default:
			return false, ErrBusy
		}
		c.hashing <- struct{}{}
		defer func() { <-c.hashing }()
		ok, err := matches(hash, password)
		if err != nil {
			return false, nil
		}
		c.results.put(d, ok, c.now())
		return ok, nil
	})
}

// digest is asked for with each request. That the key stands in front is
// enough: HMAC guards against who sees digests and lengthens what they are of,
// and these are shown to nobody.
func (c *Checker) digest(hash, password string) digest {
	text := make([]byte, 0, 512) // on the stack, for most
	text = append(text, c.key[:]...)
	text = binary.BigEndian.AppendUint64(text, uint64(len(hash)))
	text = append(text, hash...)
	text = append(text, password...)
	return sha256.Sum256(text)
}

// results are the newest results. Its zero value is ready.
type results struct {
	mu    sync.Mutex
	kinds [2]kind // wrong, right
}

type kind struct {
	of    map[digest]*list.Element
	order list.List // of result, the one to end last in front
}

type result struct {
	of   digest
	ends time.Time
}

func index(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

func (r *results) get(d digest, now time.Time) (ok, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ok := range []bool{true, false} { // most are right
		if e := r.kinds[index(ok)].of[d]; e != nil && now.Before(e.Value.(result).ends) {
			return ok, true
		}
	}
	return false, false
}

// put remembers a result and forgets those that have ended: each kind lasts
// equally long, so they stand in the order of their ends.
func (r *results) put(d digest, ok bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, lasts := &r.kinds[index(ok)], wrongFor
	if ok {
		lasts = rightFor
	}
	if k.of == nil {
		k.of = map[digest]*list.Element{}
	}
	if old := k.of[d]; old != nil {
		k.order.Remove(old)
	}
	k.of[d] = k.order.PushFront(result{d, now.Add(lasts)})
	for last := k.order.Back(); last != nil; last = k.order.Back() {
		if len(k.of) <= maxResults && now.Before(last.Value.(result).ends) {
			break
		}
		delete(k.of, last.Value.(result).of)
		k.order.Remove(last)
	}
}

// flights joins those who ask the same at once. Its zero value is ready.
type flights struct {
	mu  sync.Mutex
	now map[digest]*flight
}

type flight struct {
	done chan struct{}
	ok   bool
	err  error
}

// do runs work once for all who ask meanwhile. Who cannot wait any longer
// leaves; the work goes on for the others, and for what is remembered.
func (f *flights) do(ctx context.Context, d digest, work func() (bool, error)) (bool, error) {
	f.mu.Lock()
	if f.now == nil {
		f.now = map[digest]*flight{}
	}
	one, under := f.now[d]
	if !under {
		one = &flight{done: make(chan struct{})}
		f.now[d] = one
		go func() {
			defer close(one.done)
			one.ok, one.err = work()
			f.mu.Lock()
			delete(f.now, d)
			f.mu.Unlock()
		}()
	}
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.ok, one.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
