package reconcile

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// tenThousand is a server with 10,000 containers in 100 projects, as asked for
// and as it is.
func tenThousand(b *testing.B) (*schema.Fleet, runtime.State) {
	f := &schema.Fleet{
		ID: "5a6b7c8d9e0f1a2b3c4d5e6f", Domain: "example.com", Commit: "c1", MaxDeletes: 5,
		Servers: map[string]schema.Server{"lab": {}},
	}
	for i := range 100 {
		p := schema.Project{Name: fmt.Sprintf("project-%d", i), ID: fmt.Sprintf("%024x", i+1), MaxContainers: -1}
		for j := range 100 {
			p.Containers = append(p.Containers, schema.Container{
				Name: fmt.Sprintf("web-%d", j), ID: fmt.Sprintf("%024x", 1000+i*100+j), Server: "lab",
				Image: "debian/13", Kit: true, State: "running", Ramdisk: true, Autostart: true,
				Env: map[string]schema.Secret{"A": schema.Plain("1"), "B": schema.Plain("2")},
			})
		}
		f.Projects = append(f.Projects, p)
	}
	return f, Desired(f, "lab")
}

// BenchmarkPlan is a plan over 10,000 containers: the empty one, and one that
// changes each of them.
func BenchmarkPlan(b *testing.B) {
	f, have := tenThousand(b)
	for _, c := range []struct {
		name   string
		change func(*runtime.Container)
	}{
		{"empty", func(*runtime.Container) {}},
		{"all", func(c *runtime.Container) { c.Comment = "x" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			other := runtime.State{Projects: have.Projects, Containers: append([]runtime.Container{}, have.Containers...)}
			for i := range other.Containers {
				c.change(&other.Containers[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				plan := Diff(other, Desired(f, "lab"), TermsOf(f, "lab"))
				if plan.Empty() != (c.name == "empty") {
					b.Fatal(len(plan.Steps))
				}
			}
		})
	}
}

// guarded is tenThousand with a document for each project, or a tenth of it with
// one for each container; with another number groups have other ranges.
func guarded(b *testing.B, own bool, more int) *schema.Fleet {
	f, _ := tenThousand(b)
	if own {
		f.Projects = f.Projects[:10]
	}
	document := func(more int) *schema.Permissions {
		d := &schema.Permissions{Groups: map[string]schema.Group{}, Cells: map[string]map[string]schema.Cell{}}
		for i := range 10 {
			name := fmt.Sprintf("team-%d", i)
			d.Groups[name] = schema.Group{Ranges: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(more), 0}), 24)}}
			d.Cells[name] = map[string]schema.Cell{"http": {Ports: []schema.PortRange{{From: 80, To: 80}, {From: 8000, To: 8100}}}}
		}
		return d
	}
	programs := map[string]schema.Program{"terminal": {Port: 76, Instances: 99, Slug: "terminal"}}
	for i := range f.Projects {
		p := &f.Projects[i]
		p.Permissions = document(more)
		for j := range p.Containers {
			c := &p.Containers[j]
			c.Permissions, c.ProxyOpen, c.Programs = p.Permissions, true, programs
			if own {
				c.Permissions = document(more)
			}
		}
	}
	return f
}

// BenchmarkAccess compares the access of two fleets of 10,000 containers, with
// documents of their own of 1,000: the same, and with every document changed. "tables" is without making them.
func BenchmarkAccess(b *testing.B) {
	for _, c := range []struct {
		name   string
		own    bool
		change int
	}{{"unchanged", false, 0}, {"changed", false, 1}, {"own-unchanged", true, 0}, {"own-changed", true, 1}} {
		before, after := guarded(b, c.own, 0), guarded(b, c.own, c.change)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got, err := AccessBetween(before, after, "lab", Plan{}, time.Now()); err != nil || (len(got) > 0) != (c.change > 0) {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(c.name+"/tables", func(b *testing.B) {
			was, err := declaredTable(before, "lab", projectView(before))
			if err != nil {
				b.Fatal(err)
			}
			is, err := declaredTable(after, "lab", projectView(after))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				edge.CompareAccess(was, is, time.Now())
			}
		})
	}
}
