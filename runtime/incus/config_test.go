package incus

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// kept is what Incus has after it was given all of a container.
func kept(c runtime.Container, s runtime.Scope) *api.Instance {
	keys := config(c)
	keys[rawLXC], keys[keyEnvironment] = guest(c, ""), environmentNote(c.Env)
	maps.DeleteFunc(keys, func(_, v string) bool { return v == "" })
	in := &api.Instance{StatusCode: api.Stopped}
	in.Config, in.Devices, in.Description = keys, devices(c, s, device{}), c.Comment
	return in
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	check := func(what string, c runtime.Container) {
		t.Helper()
		if d := cmp.Diff(c, container(kept(c, runtime.Scope{})), runtimetest.Equal); d != "" {
			t.Errorf("%s (-written +read):\n%s", what, d)
		}
	}
	check("a full one", runtimetest.Full("debian/13", runtime.Stopped))
	for _, f := range runtimetest.Fields {
		for _, set := range f.Values {
			c := runtimetest.Plain("debian/13", runtime.Stopped)
			set(&c)
			check(f.Name, c)
		}
	}
	for cpu := 0.01; cpu < 9; cpu += 0.0137 {
		c := runtimetest.Plain("debian/13", runtime.Stopped)
		c.Resources.CPU = cpu
		check("cores", c)
	}
}

func TestHostNames(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web_1": "Web-1", "1st": "1st", "-a-": "a", "___": "container",
		strings.Repeat("x", 62) + "_y": strings.Repeat("x", 62), strings.Repeat("x", 100): strings.Repeat("x", 63),
	} {
		if got := hostName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestTheNetworkFollowsTheBridge(t *testing.T) {
	b := bridge{name: "br0", subnet: netip.MustParsePrefix("198.18.0.1/20")}
	for _, x := range []struct {
		subnet6 string
		leases  bool
		addr6   string
		device6 string
	}{
		{"", false, "", ""},
		{"", true, "", ""},
		{"fd00:5a:6e::1/64", false, "fd00:5a:6e:0:1266:c6ff:fe12:102", ""},
		{"fd00:5a:6e::1/64", true, "fd00:5a:6e:0:1266:c6ff:fe12:102", "fd00:5a:6e:0:1266:c6ff:fe12:102"},
	} {
		b.leases6 = x.leases
		b.subnet6, _ = netip.ParsePrefix(x.subnet6)
		a := attachment{b, netip.MustParseAddr("198.18.1.2")}
		raw := a.raw("lxc.apparmor.profile = unconfined\nlxc.net.0.ipv6.address = fd00::9/64\n")
		got := addr6(map[string]string{rawLXC: raw})
		if got.IsValid() != (x.addr6 != "") || got.IsValid() && got.String() != x.addr6 {
			t.Errorf("%+v: the address is %v", x, got)
		}
		if d := a.device(); d["ipv6.address"] != x.device6 || d["ipv4.address"] != "198.18.1.2" {
			t.Errorf("%+v: the device is %v", x, d)
		}
		if !strings.HasPrefix(raw, "lxc.apparmor.profile = unconfined\n") || strings.Count(raw, "\n") != map[bool]int{false: 3, true: 5}[x.addr6 != ""] {
			t.Errorf("%+v: raw.lxc is\n%s", x, raw)
		}
	}
}

func TestLinesOfOthersStay(t *testing.T) {
	c := runtime.Container{Name: "b", Env: map[string]string{"Z": "", "A": "", "B": "1"}}
	have := "# theirs\nlxc.environment = MORE=1\nlxc.environment = GONE=\nlxc.uts.name=a\n\nlxc.net.0.ipv4.gateway = 198.18.0.1"
	want := "# theirs\nlxc.environment = MORE=1\nlxc.net.0.ipv4.gateway = 198.18.0.1\nlxc.uts.name = b\nlxc.environment = A=\nlxc.environment = Z=\n"
	got := guest(c, have)
	if got != want || guest(c, got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	if names := emptyVariables(got); !slices.Equal(names, []string{"A", "Z"}) {
		t.Errorf("empty: %v", names)
	}
}
