package limit

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
	"unsafe"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// guess is one attempt, from begin to end.
func guess(t *Guesses, from, user, password string, right bool, now time.Time) (wait time.Duration) {
	try := t.Attempt(netip.MustParseAddr(from), user, user, password)
	if wait = t.Begin(try, now); wait == 0 {
		t.End(try, !right, now)
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
		th, now := NewGuesses(), noon
		for i := range ClientBurst {
			if wait := guess(th, from(i), fmt.Sprint("user", i), fmt.Sprint(i), false, now); wait != 0 {
				t.Fatalf("guess %d waits %v", i, wait)
			}
		}
		wait := guess(th, from(99), "ann", "horse", true, now)
		if wait <= 0 || wait > ClientPause {
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
	th := NewGuesses()
	from := func(i int) string { return fmt.Sprintf("10.%d.%d.1", i>>8, i&255) }
	for i := range UserBurst {
		guess(th, from(i), "ann", fmt.Sprint(i), false, noon)
	}
	for i := UserBurst; i < 1000; i++ {
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
	th := NewGuesses()
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
	var tries []Attempt
	for i := range InFlight + 1 {
		try := th.Attempt(netip.MustParseAddr("198.51.100.7"), "", fmt.Sprint(i))
		if wait := th.Begin(try, noon); (wait > 0) != (i == InFlight) {
			t.Errorf("try %d at once waits %v", i, wait)
		} else if wait == 0 {
			tries = append(tries, try)
		}
	}
	if th.Begin(tries[0], noon) != 0 {
		t.Error("the same again waits")
	}
	th.End(tries[0], false, noon)
	for _, try := range tries {
		th.End(try, false, noon)
	}
	if th.Begin(th.Attempt(netip.MustParseAddr("198.51.100.7"), "", "x"), noon) != 0 {
		t.Error("what has ended counts")
	}
}

// in64 is an address in the i-th /64 of a /48.
func in64(i int) string {
	a := netip.MustParseAddr("2001:db8:1::1").As16()
	binary.BigEndian.PutUint16(a[6:], uint16(i))
	return netip.AddrFrom16(a).String()
}

// TestS5OneNetworkIsNotManyClients: the 65,536 /64s of one /48 get no more
// guesses through together than a /48 may, in any order, at once or again.
func TestS5OneNetworkIsNotManyClients(t *testing.T) {
	const all, most = 1 << 16, ClientBurst * networkTime
	g, now := NewGuesses(), noon
	round := func() (through int) {
		for i := range all {
			// A stride, so that no /56 is done before the next.
			n := i * 257 % all
			for k := range ClientBurst {
				if guess(g, in64(n), "", fmt.Sprint(now.Unix(), n, k), false, now) != 0 {
					break
				}
				through++
			}
		}
		return through
	}
	if through := round(); through == 0 || through > most {
		t.Errorf("%d guesses got through, want %d", through, most)
	}
	if through := round(); through != 0 {
		t.Errorf("%d got through again at once", through)
	}
	// A minute earns what it earns.
	now = now.Add(time.Minute)
	if through, earned := round(), int(time.Minute/(ClientPause/networkTime)); through == 0 || through > earned+1 {
		t.Errorf("after a minute %d got through, want %d", through, earned)
	}
	// A /56 of it.
	g = NewGuesses()
	through := 0
	for i := range 256 {
		for k := range ClientBurst {
			if guess(g, in64(i), "", fmt.Sprint(i, k), false, now) == 0 {
				through++
			}
		}
	}
	if through != ClientBurst*siteTimes {
		t.Errorf("a /56 got %d guesses through, want %d", through, ClientBurst*siteTimes)
	}
	// And what is under way at once counts.
	g, through = NewGuesses(), 0
	for i := range all {
		if g.Begin(g.Attempt(netip.MustParseAddr(in64(i)), "", fmt.Sprint(i)), now) == 0 {
			through++
		}
	}
	if through != most {
		t.Errorf("%d were tried at once, want %d", through, most)
	}
}

// TestS5NobodyIsForgotten: as many others as an attacker likes do not make an
// address count anew, nor a user name.
func TestS5NobodyIsForgotten(t *testing.T) {
	g := NewGuesses()
	for i := range UserBurst {
		guess(g, "192.0.2.9", "ann", fmt.Sprint(i), false, noon)
		guess(g, fmt.Sprintf("192.0.3.%d", i), "ann", fmt.Sprint(i), false, noon)
	}
	if guess(g, "192.0.2.9", "bob", "x", false, noon) == 0 {
		t.Fatal("the address need not wait")
	}
	for i := range 1 << 16 { // more than were remembered; each of another network
		a := netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1})
		if i&1 == 0 {
			var b [16]byte
			binary.BigEndian.PutUint32(b[:], 0x20010db9)
			binary.BigEndian.PutUint16(b[4:], uint16(i))
			a = netip.AddrFrom16(b)
		}
		guess(g, a.String(), fmt.Sprint(i), "x", false, noon)
	}
	if guess(g, "192.0.2.9", "", "again", false, noon) == 0 {
		t.Error("the address counts anew")
	}
	if guess(g, "192.0.3.1", "ann", "y", false, noon) == 0 {
		t.Error("the user name counts anew")
	}
	if n := len(g.trying) + len(g.ofClient) + len(g.ofSite) + len(g.ofNetworks); n != 0 {
		t.Errorf("%d are counted that do not go on", n)
	}
	if size := unsafe.Sizeof(*g) + 4*unsafe.Sizeof(*g.users); size > 10<<20 {
		t.Errorf("it takes %d bytes", size)
	}
	// Strangers whom nobody knows are rarely taken for others.
	wrongly := 0
	for i := range 10000 {
		if guess(g, netip.AddrFrom4([4]byte{12, byte(i >> 8), byte(i), 1}).String(), "", "", true, noon) != 0 {
			wrongly++
		}
	}
	if wrongly > 0 {
		t.Errorf("%d of 10000 strangers wait", wrongly)
	}
}

// TestS5NeighboursOfOneGuesser: whoever guesses without end from one client
// makes those wait that share the address, and no others of the network.
func TestS5NeighboursOfOneGuesser(t *testing.T) {
	for _, row := range []struct{ bad, good string }{
		{"192.0.2.9", "192.0.2.10"}, {"2001:db8:1:2::1", "2001:db8:1:3::1"}, {"2001:db8:1:200::1", "2001:db8:1:300::1"},
	} {
		g, now := NewGuesses(), noon
		for i := range 10000 {
			now = now.Add(100 * time.Millisecond)
			guess(g, row.bad, "", fmt.Sprint(i), false, now)
			if i%100 == 0 && guess(g, row.good, "ann", "horse", true, now) != 0 {
				t.Fatalf("%s waits for %s", row.good, row.bad)
			}
		}
	}
}

// TestS5TryOnOneConnection: what was right on a connection need not wait with
// those who guess, and ceases to when it is right no more.
func TestS5TryOnOneConnection(t *testing.T) {
	g, conns := NewGuesses(), NewConns(Caps{All: 9, Network: 9, Client: 9, Few: 9}, nil)
	on := conns.Open(netip.MustParseAddr("192.0.2.9"), func() {})
	request := func(e *Conn) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "192.0.2.9:1"
		return r.WithContext(e.With(r.Context()))
	}
	valid := "horse"
	try := func(e *Conn, credential string) (bool, time.Duration) {
		return g.Try(request(e), credential, func() bool { return credential == valid })
	}
	if ok, wait := try(on, "horse"); !ok || wait != 0 {
		t.Fatal("what is right is not let in")
	}
	for i := range ClientBurst {
		if ok, wait := try(nil, fmt.Sprint(i)); ok || wait != 0 {
			t.Fatalf("guess %d: %v, %v", i, ok, wait)
		}
	}
	if ok, wait := try(nil, "horse"); ok || wait == 0 {
		t.Error("on another connection it is looked at")
	}
	if ok, wait := try(on, "mule"); ok || wait == 0 {
		t.Error("something else is looked at on the connection")
	}
	if ok, wait := try(on, "horse"); !ok || wait != 0 {
		t.Errorf("on its connection: %v, %v", ok, wait)
	}
	valid = "revoked"
	if ok, _ := try(on, "horse"); ok {
		t.Error("what is right no more is let in")
	}
	if ok, wait := try(on, "horse"); ok || wait == 0 {
		t.Error("and need not wait")
	}
}
