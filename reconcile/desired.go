// Package reconcile turns a fleet into what runs: it compares what is asked
// for with what is there, does the difference, and tells the edge.
//
// Desired, Diff and Routes are pure and hold the thought; Agent does the IO
// around them.
package reconcile

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"swage/runtime"
	"swage/schema"
)

// Desired is what the fleet asks of one server.
func Desired(f *schema.Fleet, server string) runtime.State {
	var s runtime.State
	for _, p := range f.Projects {
		// A pool alone makes a project's only server its own.
		here := len(f.Servers) == 1 && len(p.Prespawn) > 0
		for _, c := range p.Containers {
			if c.Server != server {
				continue
			}
			here = true
			s.Containers = append(s.Containers, container(f, p, c))
		}
		if here {
			s.Projects = append(s.Projects, runtime.Project{Name: p.Name, ID: runtime.ID(p.ID)})
			for _, w := range p.Prespawn {
				for range w.Count {
					s.Spares = append(s.Spares, runtime.Spare{Project: p.Name, Image: w.Image, Kit: w.Kit})
				}
			}
		}
	}
	s.Sort()
	return s
}

func container(f *schema.Fleet, p schema.Project, c schema.Container) runtime.Container {
	return runtime.Container{
		ID: runtime.ID(c.ID), Project: p.Name, Name: c.Name, Image: c.Image, Kit: c.Kit,
		Status: runtime.Status(c.State), Asked: runtime.Status(c.State),
		Env: environment(c), Keys: keys(c), Ramdisk: c.Ramdisk, Autostart: c.Autostart,
		Resources: runtime.Resources{CPU: c.CPU, Memory: c.Memory, Disk: c.Disk, Processes: processes(c)},
		Firewall:  rules(c.Firewall), Publish: published(c.Publish),
		Snapshots: runtime.Schedule{Cron: c.Snapshots.Schedule, Days: int(c.Snapshots.Expiry.Hours() / 24), Keep: c.Snapshots.Keep},
		DependsOn: set(c.DependsOn), Color: c.Color, Comment: c.Comment, Realms: set(c.RealmIDs),
		Protected: c.Protected || p.Protected, Commit: f.Commit,
	}
}

// processes are those of a container in normal form. What is adopted stays as it
// is unless its file says otherwise.
func processes(c schema.Container) int {
	switch {
	case c.Processes == runtime.DefaultProcesses, c.Processes == 0 && c.Adopt == "":
		return 0
	case c.Processes == 0:
		return runtime.NoLimit
	}
	return c.Processes
}

// set is a list whose order means nothing, in normal form.
func set(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// keys are the lines of root's authorized_keys: the container's own key and
// those of people.
func keys(c schema.Container) []string {
	all := slices.Clone(c.AuthorizedKeys)
	if c.PublicKey != "" {
		all = append(all, c.PublicKey)
	}
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return set(all)
}

func rules(list []schema.FirewallRule) []runtime.Rule {
	var out []runtime.Rule
	for _, r := range list {
		if !r.Enabled {
			continue
		}
		out = append(out, runtime.Rule{
			Direction: r.Direction, Action: r.Action, Protocol: r.Protocol,
			Sources: r.Sources, Destinations: r.Destinations,
			SourcePorts: ports(r.SourcePorts), DestinationPorts: ports(r.DestinationPorts),
		})
	}
	return out
}

func ports(list []schema.PortRange) []runtime.Ports {
	var out []runtime.Ports
	for _, r := range list {
		out = append(out, runtime.Ports(r))
	}
	return out
}

func published(list []schema.Publish) []runtime.Publish {
	var out []runtime.Publish
	for _, p := range list {
		out = append(out, runtime.Publish{Listen: listen(p.Listen), Protocol: p.Protocol, Port: p.Port})
	}
	slices.SortFunc(out, func(a, b runtime.Publish) int {
		return cmp.Or(a.Listen.Compare(b.Listen), strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// listen reads an address and a port; without an address, all of them.
func listen(s string) netip.AddrPort {
	host, port, _ := net.SplitHostPort(s)
	n, _ := strconv.ParseUint(port, 10, 16)
	addr, err := netip.ParseAddr(host)
	if err != nil || addr == netip.IPv4Unspecified() {
		addr = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(addr, uint16(n))
}

// environment is what of a container's environment is at hand. A container
// that lacks a value is Unready, so that it is never run without.
func environment(c schema.Container) map[string]string {
	env := make(map[string]string, len(c.Env))
	for name, secret := range c.Env {
		if value, err := secret.Reveal(schema.Keys{}); err == nil {
			env[name] = value
		}
	}
	return env
}

// Scope is what a Runtime for one server of the fleet must know.
func Scope(f *schema.Fleet, server string) runtime.Scope {
	s := f.Servers[server]
	placement := s.Member
	if s.Group != "" {
		placement = "@" + s.Group
	}
	var subnets []string
	for _, p := range s.Subnets {
		subnets = append(subnets, p.String())
	}
	return runtime.Scope{
		Fleet: runtime.ID(f.ID), Server: server, Placement: placement,
		Subnets: strings.Join(subnets, " "), Daemon: daemon(s),
		Bridge: s.Bridge, StoragePool: s.StoragePool, Prefix: s.ProjectPrefix, ImageServer: s.ImageServer,
	}
}

func daemon(s schema.Server) runtime.Daemon {
	return runtime.Daemon{Socket: s.IncusSocket, Remote: s.IncusRemote, Certificate: s.IncusCertificate}
}

// Between is the plan from one fleet to another for one server, as if the
// first were what runs: what a commit would do, with no server at hand.
func Between(before, after *schema.Fleet, server string) Plan {
	before, after = opaque(before), opaque(after)
	have := Desired(before, server)
	for i, c := range have.Containers {
		if c.ID == "" { // some ID was drawn; only the server knows which
			have.Containers[i].ID = runtime.ID("(the id of " + c.Ref() + ")")
		}
	}
	for i, s := range have.Spares {
		have.Spares[i].ID = runtime.ID(fmt.Sprintf("(spare %d of %s)", i, s.Project))
	}
	return Diff(have, Desired(after, server), TermsOf(after, server))
}
