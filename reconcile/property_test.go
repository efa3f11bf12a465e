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
	"slices"
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
			if rapid.IntRange(0, 3).Draw(t, "stopped") == 0 {
				c.State = "stopped"
			}
			c.Protected = rapid.IntRange(0, 9).Draw(t, "protected") == 0
			if rapid.IntRange(0, 9).Draw(t, "other image") == 0 {
				c.Image = "tiny/2"
			}
			p.Containers = append(p.Containers, c)
		}
		if len(p.Containers) > 0 {
			f.Projects = append(f.Projects, p)
		}
	}
	return f
}

// accepted is an agent that has just accepted a fleet and remembers nothing
// else, as after a crash.
func accepted(engine *runtime.Fake, f *schema.Fleet) *Agent {
	return &Agent{
		Server: "lab", Source: only(f.Commit), Log: slog.New(slog.DiscardHandler), fleet: f,
		Open: func(s runtime.Scope) (runtime.Runtime, error) { return engine.Open(s), nil },
	}
}

// only is a Source with one commit, which is never read.
type only string

func (o only) Latest(context.Context) (Snapshot, error)             { return Snapshot{Commit: string(o)}, nil }
func (o only) At(ctx context.Context, _ string) (Snapshot, error)   { return o.Latest(ctx) }
func (o only) Allowed(context.Context, string, string) (int, error) { return 0, nil }
func (o only) Watch(ctx context.Context, _ chan<- struct{}) error   { return ctx.Err() }

// TestPassesConverge: whatever ran before, whatever is asked for and wherever
// steps fail, before or after their effect, passes end in a state that needs
// no step; all that is not held is as asked for; nothing is there twice; and
// no more is deleted than one commit may.
func TestPassesConverge(t *testing.T) {
	checks := "2000"
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
		engine.Fault = func(call runtime.Call) error {
			s, after := call.Step, call.After
			if s == nil {
				return nil
			}
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
		for range rapid.IntRange(1, 4).Draw(t, "commits") {
			fleet := drawFleet(t)
			faults, deleted = rapid.SliceOfN(rapid.Bool(), 0, 12).Draw(t, "faults"), map[runtime.ID]bool{}
			var r Report
			for n := 0; ; n++ {
				var err error
				if r, err = accepted(engine, fleet).Pass(t.Context()); err == nil {
					break
				}
				if n > 12 { // as many as there are faults
					t.Fatalf("still failing: %v", err)
				}
			}
			check(t, engine, fleet, r)
			if protected {
				t.Error("a protected container was deleted")
			}
			if len(deleted) > fleet.MaxDeletes {
				t.Errorf("%d containers deleted, at most %d allowed", len(deleted), fleet.MaxDeletes)
			}
		}
	})
}

func check(t *rapid.T, engine *runtime.Fake, fleet *schema.Fleet, r Report) {
	seen, err := engine.Open(Scope(fleet, "lab")).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Desired(fleet, "lab")
	again := Diff(seen.State, want, TermsOf(fleet, "lab"))
	if len(again.Steps) > 0 {
		t.Errorf("not done after an apply:\n%s", again)
	}
	if len(again.Held) != len(r.Held) {
		t.Errorf("held then: %v, held now: %v", r.Held, again.Held)
	}
	if self := Diff(seen.State, seen.State, Terms{}); !self.Empty() {
		t.Errorf("a state differs from itself:\n%s", self)
	}
	held := map[string]bool{}
	for _, h := range again.Held {
		held[h.What] = true
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
		if held["create container "+w.Ref()] || held["change the image of container "+w.Ref()] ||
			slices.ContainsFunc(again.Held, func(h Held) bool { return strings.HasSuffix(h.What, " to "+w.Ref()) }) {
			continue
		}
		ok := false
		for _, c := range seen.Containers {
			if w.ID == "" && c.Ref() == w.Ref() || w.ID == c.ID {
				w := w
				w.ID = c.ID
				ok = ok || c.Same(w)
			}
		}
		if !ok {
			t.Errorf("%s is not as asked for: %+v", w.Ref(), seen.Containers)
		}
	}
}
