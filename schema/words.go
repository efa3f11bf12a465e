package schema

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// noSpan is the problem of a duration that came out as none.
const noSpan = "is no time at all, or too much; want a time span with its unit, as in \"2s\""

// duration reads what #Duration let pass: Go's notation, and days.
func duration(s string) time.Duration {
	var days time.Duration
	if d, rest, ok := strings.Cut(s, "d"); ok {
		n, _ := strconv.ParseFloat(d, 64)
		days, s = time.Duration(min(n, 1e5)*float64(24*time.Hour)), rest
	}
	if s == "" {
		return days
	}
	d, _ := time.ParseDuration(s) // too long a span is none at all
	return days + d
}

var sizeUnits = map[string]int64{
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// size reads what #Size let pass, in bytes.
func size(s string) int64 {
	digits := strings.TrimRight(s, "KMGTkiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit := sizeUnits[s[len(digits):]]
	if err != nil || unit == 0 {
		return 0
	}
	return min(n, (1<<62)/unit) * unit
}

func bytesText(n int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if n >= sizeUnits[unit] && n%sizeUnits[unit] == 0 {
			return fmt.Sprintf("%d%s", n/sizeUnits[unit], unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// time reads what #Time let pass; the zero time for an empty text.
func (r *resolver) time(at spot, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(s))
	if err != nil {
		r.add(at, "found %q, want a time as in \"2030-01-31T12:00:00Z\" (RFC 3339)", s)
	}
	return t
}

// prefix reads a network or a single address. Bits below the prefix length
// are refused: they are nearly always a mistaken length.
func (r *resolver) prefix(at spot, s string) netip.Prefix {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		r.add(at, "found %q, want a network as in \"203.0.113.0/24\" or \"2001:db8::/32\"", s)
	case p.Addr().Is4In6():
		r.add(at, "found %q, an IPv4 network written as IPv6; write it as in \"203.0.113.0/24\"", s)
	case p.Masked() != p:
		r.add(at, "found %q, whose address has bits set beyond /%d; write %q or a longer prefix", s, p.Bits(), p.Masked())
	}
	return p
}

// portList reads "80,443,8000-8100".
func (r *resolver) portList(at spot, s string) []PortRange {
	var out []PortRange
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, ok := portRange(part)
		if !ok {
			r.add(at, "found %q, want a port from 1 to 65535 or a range from low to high, as in \"8000-8100\"", part)
		}
		out = append(out, p)
	}
	return out
}

// portRange reads "80" or "8000-8100".
func portRange(s string) (PortRange, bool) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	return PortRange{uint16(a), uint16(b)}, errA == nil && errB == nil && a > 0 && a <= b
}
