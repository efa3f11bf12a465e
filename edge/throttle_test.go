package edge

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// guess is one attempt, from begin to end.
func guess(t *throttle, from, user, password string, right bool, now time.Time) (wait time.Duration) {
	try := t.attempt(netip.MustParseAddr(from), []claim{{from: authorization, user: user, value: password}})
	if wait = t.begin(try, now); wait == 0 {
		t.end(try, !right, now)
	}
	return wait
}

// TestGuessesByAddress: ten are free, then one in six seconds; of IPv6 a
// network is one.
func TestGuessesByAddress(t *testing.T) {
	for _, from := range []func(i int) string{
		func(int) string { return "192.0.2.9" },
		func(int) string { return "::ffff:192.0.2.9" },
		func(i int) string { return fmt.Sprintf("2001:db8:1:2::%x", i) },
	} {
		th, now := newThrottle(), noon
		for i := range callerBurst {
			if wait := guess(th, from(i), fmt.Sprint("user", i), fmt.Sprint(i), false, now); wait != 0 {
				t.Fatalf("guess %d waits %v", i, wait)
			}
		}
		wait := guess(th, from(99), "ann", "horse", true, now)
		if wait <= 0 || wait > callerPause {
			t.Errorf("after that the wait is %v", wait)
		}
		if wait := guess(th, "2001:db8:1:3::1", "ann", "horse", true, now); wait != 0 {
			t.Errorf("a neighbour waits %v", wait)
		}
		now = now.Add(wait)
		if wait := guess(th, from(0), "x", "another", false, now); wait != 0 {
			t.Errorf("when the wait is over it is %v", wait)
		}
		if guess(th, from(0), "x", "and another", false, now) == 0 {
			t.Error("one wait buys two guesses")
		}
	}
}

// TestGuessesByUser: from many addresses there is one guess from each, and the
// owner is not locked out.
func TestGuessesByUser(t *testing.T) {
	th := newThrottle()
	from := func(i int) string { return fmt.Sprintf("10.%d.%d.1", i>>8, i&255) }
	for i := range userBurst {
		guess(th, from(i), "ann", fmt.Sprint(i), false, noon)
	}
	for i := userBurst; i < 1000; i++ {
		if wait := guess(th, from(i), "ann", fmt.Sprint(i), false, noon); wait != 0 {
			t.Fatalf("the first guess of address %d waits %v", i, wait)
		}
		if wait := guess(th, from(i), "ann", fmt.Sprint("again", i), false, noon); wait <= 0 {
			t.Fatalf("the second guess of address %d is free", i)
		}
	}
	if wait := guess(th, from(1), "bob", "x", false, noon); wait != 0 {
		t.Errorf("another user waits %v", wait)
	}
	if wait := guess(th, "192.0.2.9", "ann", "horse", true, noon); wait != 0 {
		t.Errorf("the owner waits %v", wait)
	}
	if wait := guess(th, from(30), "ann", "yet another", false, noon.Add(time.Hour)); wait != 0 {
		t.Errorf("an hour later the wait is %v", wait)
	}
}

// TestWhatIsFree: success, and the same mistake again.
func TestWhatIsFree(t *testing.T) {
	th := newThrottle()
	for range 1000 {
		if guess(th, "192.0.2.9", "ann", "horse", true, noon) != 0 {
			t.Fatal("success costs")
		}
	}
	for range 1000 {
		if guess(th, "192.0.2.9", "ann", "mule", false, noon) != 0 {
			t.Fatal("the same mistake costs twice")
		}
	}
	// At once, before it is known what comes of them.
	var tries []try
	for i := range inFlight + 1 {
		try := th.attempt(netip.MustParseAddr("198.51.100.7"), []claim{{value: fmt.Sprint(i)}})
		if wait := th.begin(try, noon); (wait > 0) != (i == inFlight) {
			t.Errorf("try %d at once waits %v", i, wait)
		} else if wait == 0 {
			tries = append(tries, try)
		}
	}
	if th.begin(tries[0], noon) != 0 {
		t.Error("the same again waits")
	}
	th.end(tries[0], false, noon)
	for _, try := range tries {
		th.end(try, false, noon)
	}
	if th.begin(th.attempt(netip.MustParseAddr("198.51.100.7"), []claim{{value: "x"}}), noon) != 0 {
		t.Error("what has ended counts")
	}
}

func TestThrottleIsBounded(t *testing.T) {
	th := newThrottle()
	for i := range 3 * remembered {
		guess(th, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String(), fmt.Sprint(i), "x", false, noon)
	}
	if n, m := len(th.callers.of), len(th.users.of); n != remembered || m != remembered || th.callers.order.Len() != n || th.users.order.Len() != m {
		t.Errorf("%d callers and %d users", n, m)
	}
	// What was forgotten while it was tried ends quietly.
	try := th.attempt(netip.MustParseAddr("192.0.2.9"), nil)
	th.begin(try, noon)
	for i := range remembered {
		guess(th, netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}).String(), "", "x", false, noon)
	}
	th.end(try, true, noon)
}

// TestTooManyGuesses: the answer is 429 with the time to wait, even to who is
// right at last; where no credential counts it stays what it is.
func TestTooManyGuesses(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	p := house()
	p.Groups["here"] = ranges("127.0.0.4/32")
	p.Cells["here"] = map[string]Cell{"http": {All: true}, "files": {All: true}}
	s := serveHouse(t, app, p)
	for _, from := range []string{"127.0.0.2", "127.0.0.4"} {
		c := s.client(t, from, 2)
		for i := range callerBurst + 1 {
			res, _ := get(t, c, origin(app.Port()), "Authorization", basic("ann", fmt.Sprint(i)))
			want := map[bool]int{false: http.StatusUnauthorized, true: http.StatusTooManyRequests}[i == callerBurst]
			if from == "127.0.0.4" {
				want = http.StatusOK // the address is enough
			}
			if res.StatusCode != want {
				t.Errorf("guess %d from %s: %d, want %d", i, from, res.StatusCode, want)
			}
		}
	}
	c := s.client(t, "127.0.0.2", 1)
	res, _ := get(t, c, origin(app.Port()), "Authorization", basic("ann", "horse"))
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || res.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("the right one: %d, %v", res.StatusCode, res.Header)
	}
	if res, _ := get(t, c, "https://nothing."+zone, "Authorization", basic("ann", "x")); res.StatusCode != http.StatusNotFound {
		t.Errorf("elsewhere: %d", res.StatusCode)
	}
	if res, _ := get(t, s.client(t, "127.0.0.3", 1), origin(app.Port()), "Authorization", basic("ann", "horse")); res.StatusCode != http.StatusOK {
		t.Errorf("from another address: %d", res.StatusCode)
	}
}
