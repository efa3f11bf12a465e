package incus

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/firewall"
)

// An address that a container does not have is nobody's, and one that two have
// is the first one's; whatever else they have is guarded.
func TestS7EachMemberIsGuardedAtItsOwnAddresses(t *testing.T) {
	addr := netip.MustParseAddr
	none := netip.Addr{}
	type member = firewall.Container
	for _, c := range []struct {
		name    string
		members map[runtime.ID]member
		want    []member
	}{
		{"IPv6 only, three of them", map[runtime.ID]member{
			"a": {Name: "a", Addr6: addr("fd00::1")}, "b": {Name: "b", Addr6: addr("fd00::2")}, "c": {Name: "c", Addr6: addr("fd00::3")},
		}, []member{
			{Name: "a", Addr6: addr("fd00::1")}, {Name: "b", Addr6: addr("fd00::2")}, {Name: "c", Addr6: addr("fd00::3")},
		}},
		{"IPv4 only, two of them", map[runtime.ID]member{
			"a": {Name: "a", Addr: addr("198.18.0.1")}, "b": {Name: "b", Addr: addr("198.18.0.2")},
		}, []member{
			{Name: "a", Addr: addr("198.18.0.1")}, {Name: "b", Addr: addr("198.18.0.2")},
		}},
		{"none at all", map[runtime.ID]member{"a": {Name: "a"}, "b": {Name: "b"}}, nil},
		{"one IPv4 address twice", map[runtime.ID]member{
			"a": {Name: "a", Addr: addr("198.18.0.1"), Addr6: addr("fd00::1")}, "b": {Name: "b", Addr: addr("198.18.0.1"), Addr6: addr("fd00::2")},
		}, []member{
			{Name: "a", Addr: addr("198.18.0.1"), Addr6: addr("fd00::1")}, {Name: "b", Addr: none, Addr6: addr("fd00::2")},
		}},
		{"one IPv6 address twice", map[runtime.ID]member{
			"a": {Name: "a", Addr: addr("198.18.0.1"), Addr6: addr("fd00::1")}, "b": {Name: "b", Addr: addr("198.18.0.2"), Addr6: addr("fd00::1")},
		}, []member{
			{Name: "a", Addr: addr("198.18.0.1"), Addr6: addr("fd00::1")}, {Name: "b", Addr: addr("198.18.0.2"), Addr6: none},
		}},
		{"more than one of a family", map[runtime.ID]member{
			"a": {Name: "a", Addr6: addr("fd00::1"), More: []netip.Addr{addr("fd00::2"), addr("fd00::3")}},
			"b": {Name: "b", Addr6: addr("fd00::3"), More: []netip.Addr{addr("fd00::4")}},
		}, []member{
			{Name: "a", Addr6: addr("fd00::1"), More: []netip.Addr{addr("fd00::2"), addr("fd00::3")}},
			{Name: "b", More: []netip.Addr{addr("fd00::4")}},
		}},
	} {
		for range 20 { // a map has another order each time
			got := distinct(c.members)
			if !slices.EqualFunc(got, c.want, func(a, b member) bool {
				return a.Name == b.Name && a.Addr == b.Addr && a.Addr6 == b.Addr6 && slices.Equal(a.More, b.More)
			}) {
				t.Fatalf("%s: guarded %v, want %v", c.name, got, c.want)
			}
		}
	}
}

// Addresses of bridges inside an instance are not its own; several instances
// with Docker inside have the same.
func TestS7AddressesAreThoseOfItsNICs(t *testing.T) {
	network := func(addrs map[string][]string) map[string]api.InstanceStateNetwork {
		out := map[string]api.InstanceStateNetwork{}
		for link, list := range addrs {
			var n api.InstanceStateNetwork
			for _, a := range list {
				scope := "global"
				if ip := netip.MustParseAddr(a); ip.IsLinkLocalUnicast() || ip.IsLoopback() {
					scope = "link"
				}
				n.Addresses = append(n.Addresses, api.InstanceStateNetworkAddress{Address: a, Scope: scope})
			}
			out[link] = n
		}
		return out
	}
	nics := map[string]map[string]string{"eth0": {"type": "nic", "name": "eth0"}, "root": {"type": "disk"}}
	for _, c := range []struct {
		name    string
		devices map[string]map[string]string
		config  map[string]string
		links   map[string][]string
		want    string
	}{
		{"both families", nics, nil, map[string][]string{"lo": {"127.0.0.1"}, "eth0": {"198.18.0.5", "fd00::5", "fe80::5"}}, "198.18.0.5 fd00::5 []"},
		{"IPv6 only", nics, nil, map[string][]string{"eth0": {"fe80::5", "fd00::5"}}, "invalid IP fd00::5 []"},
		{"IPv6 only, with Docker", nics, nil, map[string][]string{"eth0": {"fd00::5"}, "docker0": {"172.17.0.1"}}, "invalid IP fd00::5 []"},
		{"two of IPv6", nics, nil, map[string][]string{"eth0": {"fd00::5", "fd00::6"}}, "invalid IP fd00::5 [fd00::6]"},
		{
			"a second interface",
			map[string]map[string]string{"eth0": {"type": "nic", "name": "eth0"}, "lan": {"type": "nic"}},
			map[string]string{"volatile.lan.name": "eth1"},
			map[string][]string{"eth0": {"fd00::5"}, "eth1": {"198.18.0.6"}},
			"198.18.0.6 fd00::5 []",
		},
		{"renamed inside", nics, nil, map[string][]string{"wan": {"198.18.0.5"}}, "198.18.0.5 invalid IP []"},
		{"none", nics, nil, map[string][]string{"eth0": {"fe80::5"}}, "invalid IP invalid IP []"},
	} {
		in := &api.Instance{ExpandedDevices: c.devices, InstancePut: api.InstancePut{Config: c.config}}
		got := outward(in, network(c.links), func(netip.Addr) bool { return true })
		more := "["
		for i, a := range got.more {
			if i > 0 {
				more += " "
			}
			more += a.String()
		}
		if text := got.addr.String() + " " + got.addr6.String() + " " + more + "]"; text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

// TestA2WhatIsObservedIsHeld: the firewall is told of the interface of each
// container that was found, not only of those that were just made; else nothing
// counts its flows, nor holds it to its addresses.
func TestA2WhatIsObservedIsHeld(t *testing.T) {
	instance := func(raw string, eth0 map[string]string) *api.Instance {
		return &api.Instance{InstancePut: api.InstancePut{
			Config:  map[string]string{keyID: "a", rawLXC: raw, "volatile.eth0.hwaddr": "10:66:6a:00:00:01"},
			Devices: map[string]map[string]string{nic: eth0},
		}}
	}
	a := attachment{bridge{name: "br0", subnet: netip.MustParsePrefix("198.18.0.1/24"), subnet6: netip.MustParsePrefix("fd00::1/64")}, netip.MustParseAddr("198.18.0.5")}
	adopted := netip.MustParseAddr("198.18.0.9")
	for _, c := range []struct {
		name  string
		in    *api.Instance
		addr  netip.Addr
		mac   string
		given bool
	}{
		{"made by swage", instance(a.raw(""), a.device()), a.addr, a.hwaddr(), true},
		{"adopted", instance("", device{"type": "nic", "network": "br0"}), adopted, "10:66:6a:00:00:01", false},
	} {
		actual := &runtime.Actual{Addr: map[runtime.ID]netip.Addr{"a": c.addr}}
		actual.Containers = []runtime.Container{{ID: "a"}}
		actual.Spares = []runtime.Spare{{ID: "b"}}
		at := located(c.in)
		for id, m := range members(actual, map[runtime.ID]place{"a": at, "b": at}, nil) {
			if id == "b" && !c.given {
				continue
			}
			if m.Addr != c.addr || m.MAC != c.mac || m.Given != c.given {
				t.Errorf("%s: %s is guarded as %v, %q, given %v", c.name, id, m.Addr, m.MAC, m.Given)
			}
		}
	}
}

// TestA3FiltersThatWereTurnedOff: what swage asks of Incus to hold a container to
// its addresses is seen to be asked, however it is spelled; of one that it did
// not make it asks nothing.
func TestA3FiltersThatWereTurnedOff(t *testing.T) {
	subnet, subnet6 := netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("fd00::1/64")
	for _, leases6 := range []bool{false, true} {
		a := attachment{bridge{name: "br0", subnet: subnet, subnet6: subnet6, leases6: leases6}, netip.MustParseAddr("198.18.0.5")}
		loose := func(raw string, change device) bool {
			eth0 := a.device()
			maps.Copy(eth0, change)
			return located(&api.Instance{InstancePut: api.InstancePut{
				Config: map[string]string{rawLXC: raw}, Devices: map[string]map[string]string{nic: eth0},
			}}).loose
		}
		for _, spelled := range []string{"true", "1"} {
			if loose(a.raw(""), device{"security.mac_filtering": spelled}) {
				t.Errorf("held by %q, and found loose (leases6 %v)", spelled, leases6)
			}
		}
		for setting := range a.device() {
			if !strings.HasSuffix(setting, "_filtering") {
				continue
			}
			for _, value := range []string{"false", "0", ""} {
				if !loose(a.raw(""), device{setting: value}) {
					t.Errorf("%s is %q, and that is not seen", setting, value)
				}
				if loose("", device{setting: value}) {
					t.Errorf("one that swage did not make is found loose")
				}
			}
		}
	}
}
