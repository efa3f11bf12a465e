package incus

import (
	"net/netip"
	"strings"
	"testing"

	"swage/runtime"
)

// [F6] Containers get addresses from the subnets that the server names, which
// the bridge must have.
func TestAddressesComeFromTheSubnets(t *testing.T) {
	socket(t)
	narrow := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", Subnets: "198.18.3.16/30 198.18.9.0/31"})
	seen := map[netip.Addr]bool{}
	for range 6 {
		a, err := narrow.allocate(t.Context(), runtime.NewID())
		if err != nil {
			t.Fatal(err)
		}
		seen[a.addr] = true
		if !netip.MustParsePrefix("198.18.3.16/30").Contains(a.addr) && !netip.MustParsePrefix("198.18.9.0/31").Contains(a.addr) {
			t.Errorf("%s is outside", a.addr)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%v", seen)
	}
	if a, err := narrow.allocate(t.Context(), runtime.NewID()); err == nil || !strings.Contains(err.Error(), "network.subnets") {
		t.Errorf("a seventh: %v %v", a.addr, err)
	}
	for subnets, want := range map[string]string{
		"10.0.0.0/24":            "has no addresses of 10.0.0.0/24",
		"198.18.0.0/15":          "has no addresses of",
		"fd00:5a:6e::/80":        "cannot narrow it",
		"2001:db8::/64":          "has no addresses of 2001:db8::/64",
		"fd00:5a:6e::/64":        "",
		"198.18.4.0/24 fd00::/8": "has no addresses of fd00::/8",
	} {
		rt := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", Subnets: subnets})
		_, err := rt.allocate(t.Context(), runtime.NewID())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", subnets, err, want)
		}
	}
}
