package edge

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestP1Subtract compares the arithmetic of ranges with asking each address.
func TestP1Subtract(t *testing.T) {
	rnd := rand.New(rand.NewPCG(15, 1))
	some := func() (out []netip.Prefix) {
		for range rnd.IntN(6) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.IntN(256))}), 24+rnd.IntN(9))
			if rnd.IntN(4) == 0 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(rnd.IntN(256))}), 120+rnd.IntN(9))
			}
			out = append(out, p.Masked())
		}
		return out
	}
	holds := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for range 2000 {
		a, b := some(), some()
		rest, least := subtract(a, b), minimal(a)
		for i := range 256 {
			for _, x := range []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i)})} {
				if want := holds(a, x) && !holds(b, x); holds(rest, x) != want {
					t.Fatalf("%v without %v is %v: %v is in: %t", a, b, rest, x, !want)
				}
				if holds(least, x) != holds(a, x) {
					t.Fatalf("%v is not %v: %v", least, a, x)
				}
			}
		}
		for i, p := range least {
			for _, q := range least[i+1:] {
				if p.Overlaps(q) {
					t.Fatalf("%v holds an address twice", least)
				}
			}
		}
	}
	for text, want := range map[string]bool{"0.0.0.0/0": true, "::/0": true, "2000::/3": true, "0.0.0.0/1": false, "10.0.0.0/8": false, "2000::/4": false} {
		if got := holdsEverybody([]netip.Prefix{netip.MustParsePrefix(text)}); got != want {
			t.Errorf("%s holds everybody: %t", text, got)
		}
	}
	halves := []netip.Prefix{netip.MustParsePrefix("128.0.0.0/1"), netip.MustParsePrefix("0.0.0.0/2"), netip.MustParsePrefix("64.0.0.0/2")}
	if !holdsEverybody(halves) {
		t.Error("all of IPv4 in parts does not hold everybody")
	}
}
