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
	say(from.Unwritten && !to.Unwritten && maps.Equal(from.Env, to.Env), "environment_vars written for services and logins")
	say(!slices.Equal(from.Keys, to.Keys), "ssh_authorized_keys %s", counted(from.Keys, to.Keys))
	say(from.Ramdisk != to.Ramdisk, "ramdisk %t → %t", from.Ramdisk, to.Ramdisk)
	say(from.Autostart != to.Autostart, "autostart %t → %t", from.Autostart, to.Autostart)
	say(from.Resources.CPU != to.Resources.CPU, "resources.cpu %s → %s", cores(from.Resources.CPU), cores(to.Resources.CPU))
	say(from.Resources.Memory != to.Resources.Memory, "resources.memory %s → %s", limit(from.Resources.Memory), limit(to.Resources.Memory))
	say(from.Resources.Disk != to.Resources.Disk, "resources.disk %s → %s", limit(from.Resources.Disk), limit(to.Resources.Disk))
	say(from.Resources.Processes != to.Resources.Processes, "resources.processes %s → %s", processes(from.Resources.Processes), processes(to.Resources.Processes))
	say(!equal(from.Firewall, to.Firewall), "firewall %s", counted(texts(from.Firewall, rule), texts(to.Firewall, rule)))
	say(!equal(from.Publish, to.Publish), "publish %s", listed(texts(from.Publish, published), texts(to.Publish, published)))
	say(from.Snapshots != to.Snapshots, "snapshots %s → %s", schedule(from.Snapshots), schedule(to.Snapshots))
	say(!slices.Equal(from.DependsOn, to.DependsOn), "depends_on %s", listed(from.DependsOn, to.DependsOn))
	say(from.Color != to.Color, "color %s → %s", cmp.Or(from.Color, "none"), cmp.Or(to.Color, "none"))
	say(from.Comment != to.Comment, "comment changed")
	say(!slices.Equal(from.Realms, to.Realms), "realm_ids %s", listed(from.Realms, to.Realms))
	say(from.Protected != to.Protected, "protected %t → %t", from.Protected, to.Protected)
	say(from.Asked != to.Asked, "state %s, as it is", to.Asked)
	return out
}

// Rebased is what c changes of a container since it was asked to be was, on top
// of what the container is now: a field that c has in common with was stays as it
// is. Image, Kit and what is carried are those of c.
func (c Container) Rebased(was, now Container) Container {
	to := c
	if was.Project == c.Project && was.Name == c.Name {
		to.Project, to.Name = now.Project, now.Name
	}
	if was.Status == c.Status && was.Asked == c.Asked {
		to.Status = now.Status
	}
	to.Env = maps.Clone(now.Env)
	for k := range union(was.Env, c.Env) {
		old, had := was.Env[k]
		value, has := c.Env[k]
		switch {
		case old == value && had == has:
		case has:
			if to.Env == nil {
				to.Env = map[string]string{}
			}
			to.Env[k] = value
		default:
			delete(to.Env, k)
		}
	}
	rebase(&to.Keys, was.Keys, now.Keys)
	rebase(&to.Ramdisk, was.Ramdisk, now.Ramdisk)
	rebase(&to.Autostart, was.Autostart, now.Autostart)
	rebase(&to.Resources.CPU, was.Resources.CPU, now.Resources.CPU)
	rebase(&to.Resources.Memory, was.Resources.Memory, now.Resources.Memory)
	rebase(&to.Resources.Disk, was.Resources.Disk, now.Resources.Disk)
	rebase(&to.Resources.Processes, was.Resources.Processes, now.Resources.Processes)
	rebase(&to.Firewall, was.Firewall, now.Firewall)
	rebase(&to.Publish, was.Publish, now.Publish)
	rebase(&to.Snapshots, was.Snapshots, now.Snapshots)
	rebase(&to.DependsOn, was.DependsOn, now.DependsOn)
	rebase(&to.Color, was.Color, now.Color)
	rebase(&to.Comment, was.Comment, now.Comment)
	rebase(&to.Realms, was.Realms, now.Realms)
	rebase(&to.Protected, was.Protected, now.Protected)
	return to
}

// rebase gives a field that did not change since was its present value.
func rebase[T any](to *T, was, now T) {
	if fmt.Sprint(*to) == fmt.Sprint(was) {
		*to = now
	}
}

// differ reports whether there are Changes, without naming them.
func differ(a, b Container) bool {
	return a.Name != b.Name || !maps.Equal(a.Env, b.Env) || !slices.Equal(a.Keys, b.Keys) ||
		a.Ramdisk != b.Ramdisk || a.Autostart != b.Autostart || a.Resources != b.Resources ||
		!equal(a.Firewall, b.Firewall) || !equal(a.Publish, b.Publish) || a.Snapshots != b.Snapshots ||
		!slices.Equal(a.DependsOn, b.DependsOn) || a.Color != b.Color || a.Comment != b.Comment ||
		!slices.Equal(a.Realms, b.Realms) || a.Protected != b.Protected || a.Asked != b.Asked ||
		a.Unwritten != b.Unwritten
}

// interrupts reports whether a change of fields needs a restart.
func interrupts(from, to Container) bool {
	return !maps.Equal(from.Env, to.Env) || from.Ramdisk != to.Ramdisk
}

// equal compares lists by what they print; nil and empty are equal, inside too.
func equal[T any](a, b []T) bool {
	return slices.EqualFunc(a, b, func(x, y T) bool { return fmt.Sprint(x) == fmt.Sprint(y) })
}

// counted says how many came and went, of what is long.
func counted(from, to []string) string {
	added, removed := cameAndWent(from, to)
	if len(added)+len(removed) == 0 {
		return "in another order"
	}
	return fmt.Sprintf("%d added, %d removed", len(added), len(removed))
}

func processes(n int) string {
	switch n {
	case 0:
		return strconv.Itoa(DefaultProcesses)
	case NoLimit:
		return "unlimited"
	}
	return strconv.Itoa(n)
}

// listed names what came and went.
func listed(from, to []string) string {
	var out []string
	added, removed := cameAndWent(from, to)
	for _, s := range removed {
		out = append(out, "-"+s)
	}
	for _, s := range added {
		out = append(out, "+"+s)
	}
	return strings.Join(out, " ")
}

func cameAndWent(from, to []string) (added, removed []string) {
	for _, s := range to {
		if !slices.Contains(from, s) {
			added = append(added, s)
		}
	}
	for _, s := range from {
		if !slices.Contains(to, s) {
			removed = append(removed, s)
		}
	}
	return added, removed
}

func texts[T any](list []T, text func(T) string) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = text(x)
	}
	return out
}

func rule(r Rule) string { return fmt.Sprint(r) } // to compare, not to read

// published is a port as people write it, as in :2222/tcp→22.
func published(p Publish) string {
	host := p.Listen.Addr().String()
	if p.Listen.Addr().IsUnspecified() {
		host = ""
	} else if p.Listen.Addr().Is6() {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d/%s→%d", host, p.Listen.Port(), p.Protocol, p.Port)
}

// schedule is as people say it, as in @daily, 14 days, at most 7.
func schedule(s Schedule) string {
	parts := []string{cmp.Or(s.Cron, "off")}
	if s.Days > 0 {
		parts = append(parts, fmt.Sprintf("%d days", s.Days))
	}
	if s.Keep > 0 {
		parts = append(parts, fmt.Sprintf("at most %d", s.Keep))
	}
	return strings.Join(parts, ", ")
}

func cores(n float64) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}

func limit(n int64) string {
	if n == 0 {
		return "unlimited"
	}
	return size(n)
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
