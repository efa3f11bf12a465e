package edge

import (
	"net/netip"
	"slices"
)

// subtract returns the addresses of a that no range of b holds, as ranges. It
// splits a range only where one of b lies inside.
func subtract(a, b []netip.Prefix) []netip.Prefix {
	out := a
	for _, cut := range b {
		var rest []netip.Prefix
		for _, p := range out {
			rest = appendWithout(rest, p, cut)
		}
		out = rest
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
		if len(subtract([]netip.Prefix{all}, ranges)) == 0 {
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
