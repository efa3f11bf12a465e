package runtime

import (
	"net/netip"
	"slices"
	"testing"
)

// TestP17AChangeShowsOldAndNew: whoever reads a plan sees both.
func TestP17AChangeShowsOldAndNew(t *testing.T) {
	publish := func(listen string, port uint16) Publish { return Publish{netip.MustParseAddrPort(listen), "tcp", port} }
	ingress := Rule{Direction: "ingress", Action: "allow"}
	from := Container{
		Name: "a", Autostart: true, Resources: Resources{Memory: 1 << 30, Disk: 10 << 30},
		Firewall: []Rule{ingress}, Publish: []Publish{publish("[::]:2222", 22)},
		Snapshots: Schedule{Cron: "@daily"}, DependsOn: []string{"db"}, Color: "#fff", Realms: []string{"r1"},
	}
	to := Container{
		Name: "b", Ramdisk: true, Resources: Resources{CPU: 1.5, Memory: 2 << 30},
		Firewall: []Rule{{Direction: "egress", Action: "drop"}, ingress}, Publish: []Publish{publish("203.0.113.1:80", 8080), publish("[2001:db8::1]:80", 8080)},
		Snapshots: Schedule{Cron: "@daily", Days: 14, Keep: 7}, DependsOn: []string{"cache"}, Realms: []string{"r1", "r2"}, Protected: true,
	}
	want := []string{
		"name a → b", "ramdisk false → true", "autostart true → false",
		"resources.cpu unlimited → 1.5", "resources.memory 1GiB → 2GiB", "resources.disk 10GiB → unlimited",
		"firewall 1 added, 0 removed", "publish -:2222/tcp→22 +203.0.113.1:80/tcp→8080 +[2001:db8::1]:80/tcp→8080",
		"snapshots @daily → @daily, 14 days, at most 7", "depends_on -db +cache", "color #fff → none", "realm_ids +r2", "protected false → true",
	}
	if got := Changes(from, to); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	swapped := to
	swapped.Firewall = []Rule{to.Firewall[1], to.Firewall[0]}
	if got := Changes(to, swapped); !slices.Equal(got, []string{"firewall in another order"}) {
		t.Errorf("%q", got)
	}
	if got := Changes(from, from); got != nil {
		t.Errorf("nothing changes: %q", got)
	}
}
