package reconcile

import (
	"fmt"
	"testing"

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
