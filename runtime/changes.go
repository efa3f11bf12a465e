package runtime

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Changes names what an update from one container to another changes, field by
// field as an author writes them, in a fixed order. Values of environment
// variables may be secrets, so only their names are said.
func Changes(from, to Container) []string {
	var out []string
	say := func(differ bool, format string, args ...any) {
		if differ {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	say(from.Name != to.Name, "name %s → %s", from.Name, to.Name)
	for _, k := range slices.Sorted(maps.Keys(union(from.Env, to.Env))) {
		old, had := from.Env[k]
		now, has := to.Env[k]
		say(!had, "environment_vars.%s added", k)
		say(!has, "environment_vars.%s removed", k)
		say(had && has && old != now, "environment_vars.%s changed", k)
	}
	say(!slices.Equal(from.Keys, to.Keys), "ssh_authorized_keys %s", counted(from.Keys, to.Keys))
	say(from.Ramdisk != to.Ramdisk, "ramdisk %t", to.Ramdisk)
	say(from.Autostart != to.Autostart, "autostart %t", to.Autostart)
	say(from.Resources.CPU != to.Resources.CPU, "resources.cpu %s", limit(strconv.FormatFloat(to.Resources.CPU, 'g', -1, 64)))
	say(from.Resources.Memory != to.Resources.Memory, "resources.memory %s", limit(size(to.Resources.Memory)))
	say(from.Resources.Disk != to.Resources.Disk, "resources.disk %s", limit(size(to.Resources.Disk)))
	say(from.Resources.Processes != to.Resources.Processes, "resources.processes %s", processes(to.Resources.Processes))
	say(!equal(from.Firewall, to.Firewall), "firewall %d rules", len(to.Firewall))
	say(!equal(from.Publish, to.Publish), "publish %d ports", len(to.Publish))
	say(from.Snapshots != to.Snapshots, "snapshots %s", cmp.Or(to.Snapshots.Cron, "off"))
	say(!slices.Equal(from.DependsOn, to.DependsOn), "depends_on %s", cmp.Or(strings.Join(to.DependsOn, " "), "nothing"))
	say(from.Color != to.Color, "color %s", cmp.Or(to.Color, "none"))
	say(from.Comment != to.Comment, "comment changed")
	say(!slices.Equal(from.Realms, to.Realms), "realm_ids %s", cmp.Or(strings.Join(to.Realms, " "), "none"))
	say(from.Protected != to.Protected, "protected %t", to.Protected)
	say(from.Asked != to.Asked, "state %s, as it is", to.Asked)
	return out
}

// differ reports whether there are Changes, without naming them.
func differ(a, b Container) bool {
	return a.Name != b.Name || !maps.Equal(a.Env, b.Env) || !slices.Equal(a.Keys, b.Keys) ||
		a.Ramdisk != b.Ramdisk || a.Autostart != b.Autostart || a.Resources != b.Resources ||
		!equal(a.Firewall, b.Firewall) || !equal(a.Publish, b.Publish) || a.Snapshots != b.Snapshots ||
		!slices.Equal(a.DependsOn, b.DependsOn) || a.Color != b.Color || a.Comment != b.Comment ||
		!slices.Equal(a.Realms, b.Realms) || a.Protected != b.Protected || a.Asked != b.Asked
}

// interrupts reports whether a change of fields needs a restart.
func interrupts(from, to Container) bool {
	return !maps.Equal(from.Env, to.Env) || from.Ramdisk != to.Ramdisk
}

// equal compares lists by what they print; nil and empty are equal, inside too.
func equal[T any](a, b []T) bool {
	return slices.EqualFunc(a, b, func(x, y T) bool { return fmt.Sprint(x) == fmt.Sprint(y) })
}

// counted says how many keys came and went: a key is long.
func counted(from, to []string) string {
	added, removed := 0, 0
	for _, k := range to {
		if !slices.Contains(from, k) {
			added++
		}
	}
	for _, k := range from {
		if !slices.Contains(to, k) {
			removed++
		}
	}
	return fmt.Sprintf("%d added, %d removed", added, removed)
}

func processes(n int) string {
	switch n {
	case 0:
		n = DefaultProcesses
	case NoLimit:
		n = 0
	}
	return limit(strconv.Itoa(n))
}

func limit(s string) string {
	if s == "0" {
		return "without limit"
	}
	return s
}

// size writes bytes as an author would.
func size(n int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n != 0 && n%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", n/unit.bytes, unit.name)
		}
	}
	return strconv.FormatInt(n, 10)
}

func join(changes []string) string { return strings.Join(changes, ", ") }

func union(a, b map[string]string) map[string]string {
	u := maps.Clone(b)
	if u == nil {
		u = map[string]string{}
	}
	maps.Copy(u, a)
	return u
}
