package incus

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// TestS9AdoptedReachesNoHost [G8]: an instance whose root is as good as the
// host's is not adopted, since a commit names it and says who gets in.
func TestS9AdoptedReachesNoHost(t *testing.T) {
	disk := api.DevicesMap{"root": {"type": "disk", "pool": "default", "path": "/"}, "eth0": {"type": "nic", "network": "incusbr0"}}
	with := func(name string, d map[string]string) api.DevicesMap {
		return api.DevicesMap{"root": disk["root"], name: d}
	}
	for _, row := range []struct {
		config  api.ConfigMap
		devices api.DevicesMap
		want    string
	}{
		{nil, disk, ""},
		{api.ConfigMap{"security.nesting": "true", "limits.cpu": "2", "user.x": "y", "security.privileged": "false"}, disk, ""},
		{api.ConfigMap{"raw.lxc": "lxc.net.0.ipv4.address = 10.0.0.2/24\nlxc.uts.name = web\nlxc.environment = A=\n# x\n\n"}, disk, ""},
		{api.ConfigMap{"security.privileged": "true"}, disk, "security.privileged"},
		{api.ConfigMap{"raw.lxc": "lxc.uts.name = a\nlxc.mount.entry = / mnt none bind 0 0\n"}, disk, `raw.lxc with "lxc.mount.entry"`},
		{api.ConfigMap{"raw.lxc": "lxc.hook.pre-start=/bin/x"}, disk, "lxc.hook.pre-start"},
		{api.ConfigMap{"raw.lxc": "lxc.net.0.script.up = /bin/x"}, disk, "script.up"},
		{api.ConfigMap{"raw.lxc": "lxc.include = /srv/x"}, disk, "lxc.include"},
		{api.ConfigMap{"raw.idmap": "both 0 0"}, disk, "raw.idmap"},
		{api.ConfigMap{"raw.apparmor": "mount,"}, disk, "raw.apparmor"},
		{api.ConfigMap{"security.syscalls.intercept.mount": "true"}, disk, "intercept.mount"},
		{nil, with("data", map[string]string{"type": "disk", "pool": "default", "source": "volume", "path": "/data"}), ""},
		{nil, with("host", map[string]string{"type": "disk", "source": "/", "path": "/host"}), "the device host (a disk from /)"},
		{nil, with("etc", map[string]string{"type": "disk", "source": "/etc", "path": "/mnt", "readonly": "true"}), "the device etc"},
		{nil, with("sda", map[string]string{"type": "unix-block", "source": "/dev/sda"}), "the device sda (unix-block)"},
		{nil, with("mem", map[string]string{"type": "unix-char", "source": "/dev/mem"}), "the device mem"},
		{nil, with("in", map[string]string{"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80"}), ""},
		{nil, with("out", map[string]string{"type": "proxy", "bind": "instance", "listen": "unix:/x", "connect": "unix:/run/docker.sock"}), "the device out (a proxy to unix:/run/docker.sock of the host)"},
		{nil, with("new", map[string]string{"type": "of tomorrow"}), "the device new"},
	} {
		for _, in := range []api.Instance{
			{ExpandedConfig: row.config, ExpandedDevices: row.devices},
			{InstancePut: api.InstancePut{Config: row.config, Devices: row.devices}},
		} {
			err := reachesHost(&in)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v %v: %v, want %q", row.config, row.devices, err, row.want)
			}
		}
	}
}

// TestS9AddressesOfTheHost: an address that a container gives itself never
// leads the edge to this host.
func TestS9AddressesOfTheHost(t *testing.T) {
	host := []net.Addr{
		&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("fd00::1"), Mask: net.CIDRMask(64, 128)},
		&net.IPNet{IP: net.IPv4(203, 0, 113, 7), Mask: net.CIDRMask(32, 32)},
	}
	for addr, want := range map[string]bool{
		"10.0.0.2": true, "fd00::2": true, "198.51.100.9": true,
		"10.0.0.1": false, "::ffff:10.0.0.1": false, "fd00::1": false, "203.0.113.7": false,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "0.0.0.0": false, "::": false,
		"169.254.169.254": false, "fe80::1": false, "224.0.0.1": false, "255.255.255.255": false,
	} {
		if got := leadsToContainer(netip.MustParseAddr(addr), host); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}

// TestS9AddressesOfNeighbours: an address that two containers claim is nobody's
// who gave it itself, or one would be reached by the other's permissions.
func TestS9AddressesOfNeighbours(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	c := claimed{a: 2, b: 1, netip.Addr{}: 1}
	if c.only(a) || !c.only(b) || c.only(netip.Addr{}) {
		t.Error(c.only(a), c.only(b), c.only(netip.Addr{}))
	}
	r := Runtime{where: map[runtime.ID]place{"one": {addr: a}, "two": {addr6: netip.MustParseAddr("fd00::2")}}}
	if !r.isAnothers(a, "two") || r.isAnothers(a, "one") || r.isAnothers(b, "one") || !r.isAnothers(netip.MustParseAddr("fd00::2"), "one") || r.isAnothers(netip.Addr{}, "") {
		t.Error("whose address it is")
	}
}
