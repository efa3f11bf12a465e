package schema

import (
	"net/netip"
	"testing"
)

// FuzzNetwork: what is taken for a network is one in its canonical spelling,
// and holds the address that was written.
func FuzzNetwork(f *testing.F) {
	for _, s := range []string{"203.0.113.0/24", "2001:db8::/32", "192.0.2.7", "::ffff:192.0.2.7", "::ffff:0:0/96", "fe80::1%eth0", "0.0.0.0/0", "10.0.0.1/8", "1.2.3.4/033"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &resolver{}
		p := r.prefix(spot{}, s)
		if len(r.problems) > 0 {
			return
		}
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			t.Errorf("%q is %v", s, p)
		}
		if again := r.prefix(spot{}, p.String()); again != p || len(r.problems) > 0 {
			t.Errorf("%q is %v, and that is %v", s, p, again)
		}
		if a, err := netip.ParseAddr(s); err == nil && !(p.Contains(a.Unmap().WithZone("")) && p.IsSingleIP()) {
			t.Errorf("%q is %v", s, p)
		}
	})
}

// FuzzNumbers: what a cell names are ports, and its text says which.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"*", "80", "8000-8100", "8100-8000", "0-1", "1-65535", "65536", "-", "080-81", "+1", "1-2-3", " 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &resolver{}
		got := r.numbers(spot{}, []any{s})
		if len(r.problems) > 0 {
			return
		}
		if len(got) != 1 || got[0].From == 0 || got[0].From > got[0].To {
			t.Errorf("%q names %v", s, got)
		}
		for _, c := range s {
			if (c < '0' || c > '9') && c != '-' && s != "*" {
				t.Errorf("%q is read", s)
			}
		}
	})
}
