package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"swage/runtime"
	"swage/schema"
)

// drawFleet is any small fleet: names, ids, environments and states collide
// often with those of the fleet before it.
func drawFleet(t *rapid.T) *schema.Fleet {
	f := &schema.Fleet{
		ID: "5a6b7c8d9e0f1a2b3c4d5e6f", Domain: "example.com", Commit: "c1",
		MaxDeletes: rapid.IntRange(0, 6).Draw(t, "prune.max"),
		Servers:    map[string]schema.Server{"lab": {ProjectPrefix: "swage-"}},
	}
	ids := rapid.Permutation([]string{"1", "2", "3", "4", "5", "6"}).Draw(t, "ids")
	for _, project := range []string{"shop", "web"} {
		p := schema.Project{Name: project}
		for _, name := range []string{"aaa", "bbb", "ccc"} {
			if !rapid.Bool().Draw(t, "declared") {
				continue
			}
			c := schema.Container{Name: name, Server: "lab", Image: "tiny/1", State: "running"}
			if rapid.Bool().Draw(t, "with id") {
				c.ID, ids = strings.Repeat(ids[0], 24), ids[1:]
			}
			if v := rapid.IntRange(0, 2).Draw(t, "env"); v > 0 {
				c.Env = map[string]schema.Secret{"A": schema.Plain(fmt.Sprint(v))}
			}
			c.State = rapid.SampledFrom([]string{"running", "running", "running", "stopped", "paused"}).Draw(t, "state")
			c.Ramdisk = rapid.IntRange(0, 3).Draw(t, "no ramdisk") > 0
			c.Autostart = rapid.Bool().Draw(t, "autostart")
			c.Memory = rapid.SampledFrom([]int64{0, 1 << 30}).Draw(t, "memory")
			c.Snapshots.Keep = rapid.IntRange(0, 1).Draw(t, "keep")
			c.BypassPrespawn = rapid.Bool().Draw(t, "bypass_prespawn")
			if rapid.IntRange(0, 2).Draw(t, "depends") == 0 && name != "ccc" { // no circles
				c.DependsOn = []string{"ccc"}
			}
			if rapid.IntRange(0, 4).Draw(t, "copy") == 0 && name == "aaa" {
				c.CopyFrom = &schema.CopyFrom{Container: "bbb"}
			}
			c.Protected = rapid.IntRange(0, 9).Draw(t, "protected") == 0
			if rapid.IntRange(0, 9).Draw(t, "other image") == 0 {
				c.Image = "tiny/2"
			}
			p.Containers = append(p.Containers, c)
		}
		for range rapid.IntRange(0, 1).Draw(t, "pools") {
			p.Prespawn = []schema.Prespawn{{Image: "tiny/1", Count: rapid.IntRange(0, 2).Draw(t, "spares")}}
		}
		p.MaxContainers = rapid.SampledFrom([]int{-1, -1, 3}).Draw(t, "max_containers")
		if len(p.Containers) > 0 {
			f.Projects = append(f.Projects, p)
		}
	}
	return f
}

// accepted is an agent that has just accepted a fleet and remembers nothing
// else, as after a crash. Those before can be read.
func accepted(engine *runtime.Fake, f *schema.Fleet, earlier map[string]*schema.Fleet) *Agent {
	return &Agent{
		Server: "lab", Source: only(f.Commit), Log: slog.New(slog.DiscardHandler), newest: f, earlier: earlier,
		Open: func(s runtime.Scope) (runtime.Runtime, error) { return engine.Open(s), nil },
	}
}

// only is a Source with one commit, which is never read.
type only string

func (o only) Latest(context.Context) (Snapshot, error) { return Snapshot{Commit: string(o)}, nil }

func (o only) At(ctx context.Context, _ string) (Snapshot, error)              { return o.Latest(ctx) }
func (o only) Allowances(context.Context, string, string) ([]Allowance, error) { return nil, nil }
func (o only) Watch(ctx context.Context, _ chan<- struct{}) error              { return ctx.Err() }

// TestPassesConverge: whatever ran before, whatever is asked for and wherever
// steps fail, before or after their effect, passes end in a state that needs
// no step; all that is not held is as asked for; nothing is there twice; and
// no more is deleted than one commit may.
func TestPassesConverge(t *testing.T) {
	checks := "10000"
	if os.Getenv("SWAGE_SOAK") != "" {
		checks = "100000"
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(checks); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		drawn := map[string]int{}
		engine := &runtime.Fake{Draw: func(name string) runtime.ID { // called under the engine's lock
			drawn[name]++
			sum := sha256.Sum256(fmt.Append(nil, name, drawn[name]))
			return runtime.ID(hex.EncodeToString(sum[:12]))
		}}
		var mu sync.Mutex
		var faults []bool // of the next calls, in whatever order they come
		deleted, protected := map[runtime.ID]bool{}, false
		fault := func(call runtime.Call) error {
			s, after := call.Step, call.After
			mu.Lock()
			defer mu.Unlock()
			if _, ok := s.(runtime.DeleteContainer); ok && after {
				deleted[s.Container().ID] = true
				protected = protected || s.Container().Protected
			}
			if len(faults) == 0 {
				return nil
			}
			fails := faults[0]
			faults = faults[1:]
			if fails {
				return errors.New("broken")
			}
			return nil
		}
		earlier := map[string]*schema.Fleet{}
		for n := range rapid.IntRange(1, 4).Draw(t, "commits") {
			fleet := drawFleet(t)
			fleet.Commit = fmt.Sprint("c", n)
			earlier[fleet.Commit] = fleet
			meddle(t, engine)
			engine.Fault = fault
			faults, deleted = rapid.SliceOfN(rapid.Bool(), 0, 12).Draw(t, "faults"), map[runtime.ID]bool{}
			var r Report
			for n := 0; ; n++ {
				var err error
				if r, err = accepted(engine, fleet, earlier).Pass(t.Context()); err == nil {
					break
				}
				if n > 12 { // as many as there are faults
					t.Fatalf("still failing: %v", err)
				}
			}
			check(t, engine, fleet, earlier, r)
			if protected {
				t.Error("a protected container was deleted")
			}
			if len(deleted) > fleet.MaxDeletes {
				t.Errorf("%d containers deleted, at most %d allowed", len(deleted), fleet.MaxDeletes)
			}
		}
	})
}

// meddle does what people and hosts do between two commits.
func meddle(t *rapid.T, engine *runtime.Fake) {
	engine.Fault = nil
	seen, err := engine.Open(Scope(&schema.Fleet{ID: "5a6b7c8d9e0f1a2b3c4d5e6f", Servers: map[string]schema.Server{"lab": {ProjectPrefix: "swage-"}}}, "lab")).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rapid.IntRange(0, 5).Draw(t, "reboot") == 0 {
		engine.Reboot()
	}
	for _, c := range seen.Containers {
		switch rapid.IntRange(0, 9).Draw(t, "meddle") {
		case 0:
			engine.Meddle(c.ID, func(c *runtime.Container) { c.Status = runtime.Stopped })
		case 1:
			engine.Meddle(c.ID, func(c *runtime.Container) { c.Env = map[string]string{"B": "x"} })
		case 2:
			engine.TakeSnapshot(c.ID, "swage-20260101-00000"+rapid.StringMatching("[0-3]").Draw(t, "snapshot"))
		}
	}
}

func check(t *rapid.T, engine *runtime.Fake, fleet *schema.Fleet, earlier map[string]*schema.Fleet, r Report) {
	engine.Fault = nil
	seen, err := engine.Open(Scope(fleet, "lab")).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Desired(fleet, "lab")
	again, err := accepted(engine, fleet, earlier).Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Steps) > 0 {
		t.Errorf("not done after an apply:\n%s", again)
	}
	if len(again.Held) != len(r.Held) {
		t.Errorf("held then: %v, held now: %v", r.Held, again.Held)
	}
	if len(want.Spares) != len(seen.Spares) {
		t.Errorf("%d spares, want %d", len(seen.Spares), len(want.Spares))
	}
	alone := seen.State
	alone.Snapshots, alone.Archives = nil, nil // what is held may have more than it keeps
	if self := Diff(alone, alone, Terms{}); !self.Empty() {
		t.Errorf("a state differs from itself:\n%s", self)
	}
	held := map[string]bool{}
	for _, h := range again.Held {
		held[h.Ref] = true
	}
	ids, refs := map[runtime.ID]bool{}, map[string]bool{}
	for _, c := range seen.Containers {
		if ids[c.ID] {
			t.Errorf("the id %s is there twice", c.ID)
		}
		ids[c.ID] = true
		if refs[c.Ref()] {
			t.Errorf("%s is there twice: %+v\n%s", c.Ref(), seen.Containers, again)
		}
		refs[c.Ref()] = true
	}
	for _, w := range want.Containers {
		if held[w.Ref()] {
			continue
		}
		ok := false
		for _, c := range seen.Containers {
			if w.ID == "" && c.Ref() == w.Ref() || w.ID == c.ID {
				w := w
				w.ID = c.ID
				if TermsOf(fleet, "lab").Making[w.Ref()].Copy != nil {
					w.Image = c.Image
				}
				if c.Asleep && !w.Autostart { // it rests
					w.Status = c.Status
				}
				ok = ok || c.Same(w)
			}
		}
		if !ok {
			t.Errorf("%s is not as asked for: %+v", w.Ref(), seen.Containers)
		}
	}
}
