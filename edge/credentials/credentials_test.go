package credentials

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// cheap is an argon2id hash of "correct horse" that tests can afford.
const cheap = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$"

func salted(salt, password string) string {
	sum := sha256.Sum256([]byte(salt + password))
	return "$sha256$" + salt + "$" + hex.EncodeToString(sum[:])
}

func blowfish(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func TestPassword(t *testing.T) {
	argon, err := HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 72)
	rows := []struct {
		what, hash, password string
		want                 bool
	}{
		{"argon2id", argon, "correct horse", true},
		{"argon2id, another password", argon, "correct horse ", false},
		{"argon2id, none", argon, "", false},
		// Made by the reference implementation (argon2 CLI): echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1
		{"argon2id of another program", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password", true},
		{"argon2id, a changed salt", strings.Replace(argon, "$v=19$m=65536,t=3,p=4$", "$v=19$m=65536,t=3,p=4$AA", 1), "correct horse", false},
		{"bcrypt", blowfish(t, "correct horse"), "correct horse", true},
		{"bcrypt, another password", blowfish(t, "correct horse"), "Correct horse", false},
		{"bcrypt, all that it heeds", blowfish(t, long), long, true},
		{"bcrypt, more than it heeds", blowfish(t, long), long + "b", false},
		{"sha256", salted("pepper", "correct horse"), "correct horse", true},
		{"sha256, another password", salted("pepper", "correct horse"), "correct", false},
		{"sha256, another split of salt and password", salted("pepper", "correct horse"), "rcorrect horse", false},
		{"a password as its own hash", "correct horse", "correct horse", false},
		{"no hash", "", "", false},
		{"argon2i", strings.Replace(argon, "argon2id", "argon2i", 1), "correct horse", false},
		{"argon2id, too much memory", strings.Replace(argon, "m=65536", "m=4194304", 1), "correct horse", false},
		{"argon2id, too many passes", strings.Replace(argon, "t=3", "t=1000000", 1), "correct horse", false},
		{"argon2id, no threads", strings.Replace(argon, "p=4", "p=0", 1), "correct horse", false},
		{"argon2id, an empty hash", argon[:strings.LastIndex(argon, "$")+1], "correct horse", false},
		{"bcrypt, a cost of weeks", "$2b$31$" + strings.Repeat("a", 53), "correct horse", false},
		{"sha256, no salt", strings.Replace(salted("", "correct horse"), "$$", "$$", 1), "correct horse", false},
		{"longer than any password", salted("pepper", strings.Repeat("a", 2000)), strings.Repeat("a", 2000), false},
		{"a NUL, where some readers end", salted("pepper", "a\x00b"), "a\x00b", false},
	}
	c := New(Options{})
	for _, row := range rows {
		for _, how := range []string{"first", "remembered"} {
			if got, err := c.Password(t.Context(), row.hash, row.password); got != row.want || err != nil {
				t.Errorf("%s, %s: %v, %v; want %v", row.what, how, got, err, row.want)
			}
		}
	}
}

// TestFiftyRequestsCostOneHash: at once, and one after another.
func TestFiftyRequestsCostOneHash(t *testing.T) {
	clock := newClock()
	c := New(Options{Now: clock.now})
	hash := salted("pepper", "correct horse")
	for range cap(c.hashing) { // nobody hashes yet, so all come while the first waits
		c.hashing <- struct{}{}
	}
	var asked, done sync.WaitGroup
	for range 50 {
		asked.Add(1)
		done.Go(func() {
			asked.Done()
			if ok, err := c.Password(context.Background(), hash, "correct horse"); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
	asked.Wait()
	for deadline := time.Now().Add(10 * time.Second); len(c.waiting) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits to hash")
		}
	}
	if n := len(c.waiting); n != 1 {
		t.Errorf("%d wait to hash", n)
	}
	for range cap(c.hashing) {
		<-c.hashing
	}
	done.Wait()

	// What is remembered asks for no hash: there is none to be had.
	for range cap(c.hashing) {
		c.hashing <- struct{}{}
	}
	if ok, err := c.Password(t.Context(), hash, "correct horse"); !ok || err != nil {
		t.Errorf("remembered: %v, %v", ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if ok, err := c.Password(ctx, salted("salt", "correct horse"), "correct horse"); ok || err == nil {
		t.Errorf("under a changed hash: %v, %v", ok, err)
	}
	clock.pass(rightFor)
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if ok, err := c.Password(ctx, hash, "correct horse"); ok || err == nil {
		t.Errorf("after its time: %v, %v", ok, err)
	}
	for range cap(c.hashing) {
		<-c.hashing
	}
}

// TestMemoryIsBounded: no number of guesses takes more than its share, or
// pushes out what is right.
func TestMemoryIsBounded(t *testing.T) {
	clock := newClock()
	var r results
	right := digest{1}
	r.put(right, true, clock.now())
	for i := range 3 * maxResults {
		r.put(digest{2, byte(i), byte(i >> 8), byte(i >> 16)}, false, clock.now())
	}
	for i := range r.kinds {
		if n := len(r.kinds[i].of); n > maxResults || n != r.kinds[i].order.Len() {
			t.Errorf("%d results, %d in order", n, r.kinds[i].order.Len())
		}
	}
	if ok, known := r.get(right, clock.now()); !ok || !known {
		t.Error("the right one was pushed out")
	}
	clock.pass(rightFor)
	r.put(digest{3}, false, clock.now())
	if n := len(r.kinds[0].of); n != 1 {
		t.Errorf("%d are left after their time", n)
	}
}

// TestBusy: beyond what may wait there is an answer at once.
func TestBusy(t *testing.T) {
	c := New(Options{})
	for range cap(c.waiting) {
		c.waiting <- struct{}{}
	}
	if ok, err := c.Password(t.Context(), salted("a", "b"), "b"); ok || err != ErrBusy {
		t.Errorf("%v, %v", ok, err)
	}
}

func FuzzHash(f *testing.F) {
	for _, s := range []string{cheap + "aGFzaGhhc2hoYXNoaGFzaA", salted("a", "b"), "$2b$04$" + strings.Repeat("a", 53), "$argon2id$v=19$m=1,t=1,p=1$$", "$sha256$$"} {
		f.Add(s, "password")
	}
	f.Fuzz(func(t *testing.T, hash, password string) {
		sound := CheckHash(hash) == nil
		if h, err := parseArgon2(hash); err == nil && (h.memory > 1<<10 || h.time > 2) {
			t.Skip("sound, and slow")
		}
		if strings.HasPrefix(hash, "$2") {
			t.Skip("slow")
		}
		if ok, err := matches(hash, password); ok && !sound || err == nil != sound {
			t.Errorf("%q: %v, %v, and sound is %v", hash, ok, err, sound)
		} else if err != nil && len(hash) > 8 && strings.Contains(err.Error(), hash) {
			t.Errorf("the error shows the hash: %v", err)
		}
	})
}
