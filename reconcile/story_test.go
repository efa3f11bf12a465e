package reconcile_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

var update = flag.Bool("update", false, "rewrite the out/ sections of the stories")

// TestStories runs testdata/story/*.txtar through the pure pipeline. A story
// has up to three fleets of server "lab" and the requests of some clients:
//
//	before/…     a fleet that was applied earlier
//	fleet/…      the fleet that is asked for now
//	requests     lines of: client address, host, path
//
// and what comes of them, which -update rewrites:
//
//	out/errors     of a fleet that is not right; then nothing else
//	out/plan       from before to fleet
//	out/again      the plan after it was applied: nothing, or what is held
//	out/table      what the edge is told then
//	out/decisions  a line for each request
func TestStories(t *testing.T) {
	files, err := filepath.Glob("../testdata/story/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, a)
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if g, w := txtar.Format(got), txtar.Format(a); !bytes.Equal(g, w) {
				t.Errorf("run go test ./reconcile -run Stories -update, and look at what changes:\n%s", diff(w, g))
			}
		})
	}
}

// tell returns the story with its out/ sections made anew.
func tell(t *testing.T, story *txtar.Archive) *txtar.Archive {
	t.Helper()
	engine := &runtime.Fake{Draw: func(name string) runtime.ID {
		return runtime.ID(fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:24])
	}}
	out := &txtar.Archive{Comment: story.Comment}
	var requests string
	for _, f := range story.Files {
		if !strings.HasPrefix(f.Name, "out/") {
			out.Files = append(out.Files, f)
		}
		if f.Name == "requests" {
			requests = string(f.Data)
		}
	}
	write := func(name, text string) {
		if text != "" {
			out.Files = append(out.Files, txtar.File{Name: "out/" + name, Data: []byte(text)})
		}
	}
	if before := sub(story, "before"); before != nil {
		if _, err := agent(engine, before).Pass(t.Context()); err != nil {
			t.Fatalf("before: %v", err)
		}
	}
	tree := sub(story, "fleet")
	fleet, err := schema.Load(t.Context(), tree)
	if err != nil {
		write("errors", err.Error()+"\n")
		return out
	}
	a := agent(engine, tree)
	plan, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write("plan", plan.String())
	if _, err := a.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write("again", again.String())
	if len(again.Steps) > 0 {
		t.Errorf("the plan is not empty after an apply:\n%s", again)
	}
	seen, err := engine.Open(reconcile.Scope(fleet, "lab")).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := reconcile.Routes(fleet, "lab", reconcile.View{Actual: seen})
	table, err := edge.Compile(config)
	if err != nil {
		t.Fatal(err)
	}
	write("table", describe(config))
	write("decisions", decide(t, table, requests))
	return out
}

func agent(engine *runtime.Fake, tree fs.FS) *reconcile.Agent {
	return &reconcile.Agent{
		Server: "lab", Source: reconcile.Local{Tree: tree}, Log: slog.New(slog.DiscardHandler),
		Open: func(s runtime.Scope) (runtime.Runtime, error) { return engine.Open(s), nil },
	}
}

// sub is the part of a story below a folder; nil when there is none.
func sub(story *txtar.Archive, dir string) fs.FS {
	tree := fstest.MapFS{}
	for _, f := range story.Files {
		if name, ok := strings.CutPrefix(f.Name, dir+"/"); ok {
			tree[name] = &fstest.MapFile{Data: f.Data}
		}
	}
	if len(tree) == 0 {
		return nil
	}
	return tree
}

func describe(c edge.Config) string {
	var b strings.Builder
	for _, t := range c.Containers {
		if t.ID == "" {
			fmt.Fprintf(&b, "%s is not made yet\n", t.Name)
			continue
		}
		addr := "not running"
		if t.Addr.IsValid() {
			addr = t.Addr.String()
		}
		fmt.Fprintf(&b, "%s-%s-http.%s → %s at %s\n", t.ProjectID, t.ID, c.Zone, t.Name, addr)
	}
	for _, a := range c.Aliases {
		fmt.Fprintf(&b, "%s.%s → %s port %d %s\n", a.Name, c.Zone, a.Container, a.Port, a.TargetPath)
	}
	return b.String()
}

func decide(t *testing.T, table *edge.Table, requests string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(requests) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("request %q: want client, host and path", line)
		}
		d := table.Decide(edge.Request{
			Client: netip.MustParseAddr(f[0]), Host: f[1], Path: f[2],
			Time: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		})
		fmt.Fprintf(&b, "%s %s: %s", f[0], f[1]+f[2], d.Verdict)
		if d.Verdict == edge.Allow {
			fmt.Fprintf(&b, " to %s", d.Route.Addr)
		}
		fmt.Fprintf(&b, " (%s)\n", d.Why)
	}
	return b.String()
}

// diff shows the lines that differ, in a form that a person reads.
func diff(want, got []byte) string {
	w, g := strings.SplitAfter(string(want), "\n"), strings.SplitAfter(string(got), "\n")
	var b strings.Builder
	for i := range max(len(w), len(g)) {
		var x, y string
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			fmt.Fprintf(&b, "-%s+%s", x, y)
		}
	}
	return b.String()
}
