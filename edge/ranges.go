package edge

import (
	"math"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// subtract returns the addresses of a that no range of b holds, as ranges. It
// splits a range only where one of b lies inside.
func subtract(a, b []netip.Prefix) []netip.Prefix {
	if len(a) == 0 || len(b) == 0 {
		return a
	}
	var t bart.Lite
	for _, p := range minimal(b) { // so that each cuts off something
		t.Insert(p)
	}
	var out []netip.Prefix
	for _, p := range a {
		if t.LookupPrefix(p) {
			continue
		}
		rest := []netip.Prefix{p}
		for cut := range t.Subnets(p) { // in order: one of the last parts holds the next
			for i, part := range slices.Backward(rest) {
				if part.Overlaps(cut) {
					rest = slices.Replace(rest, i, i+1, appendWithout(nil, part, cut)...)
					break
				}
			}
		}
		out = append(out, rest...)
	}
	return out
}

// appendWithout appends the parts of p that lie outside of cut.
func appendWithout(out []netip.Prefix, p, cut netip.Prefix) []netip.Prefix {
	switch {
	case !p.Overlaps(cut):
		return append(out, p)
	case cut.Bits() <= p.Bits(): // of two that overlap the shorter holds the other
		return out
	}
	low, high := halves(p)
	return appendWithout(appendWithout(out, low, cut), high, cut)
}

// halves splits a range that holds more than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	low = netip.PrefixFrom(p.Addr(), bits+1)
	if p.Addr().Is4() {
		b := p.Addr().As4()
		b[bits/8] |= 0x80 >> (bits % 8)
		return low, netip.PrefixFrom(netip.AddrFrom4(b), bits+1)
	}
	b := p.Addr().As16()
	b[bits/8] |= 0x80 >> (bits % 8)
	return low, netip.PrefixFrom(netip.AddrFrom16(b), bits+1)
}

// whole are the ranges of which each holds everybody: all of IPv4, all of IPv6,
// and the part of IPv6 that is routed in the Internet (RFC 4291, section 2.4).
var whole = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("2000::/3"),
}

// holdsEverybody reports whether the ranges together hold one of whole.
func holdsEverybody(ranges []netip.Prefix) bool {
	for _, all := range whole {
		size := 0.0 // of all ranges, where that of the whole is 1
		for _, p := range ranges {
			if p.Addr().Is4() == all.Addr().Is4() {
				size += math.Ldexp(1, all.Bits()-p.Bits())
			}
		}
		if size >= 1 && len(subtract([]netip.Prefix{all}, ranges)) == 0 {
			return true
		}
	}
	return false
}

// minimal are the ranges without those that lie in others, sorted.
func minimal(ranges []netip.Prefix) (out []netip.Prefix) {
	for _, p := range slices.SortedFunc(slices.Values(ranges), netip.Prefix.Compare) {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) { // else it lies within: the wider comes first
			out = append(out, p)
		}
	}
	return out
}
