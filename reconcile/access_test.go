package reconcile_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

const (
	officeDocument = `{groups: office: {type: "ip", range: "203.0.113.0/24"}, permissions: office: http: _ | *true}`
	someKey        = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqLBMdM7K9Q2Z8nWm6bWmDvFTmZ9C1aV2Wl9tS5r1Xk"
	pairsFile      = "../testdata/access/pairs.txt"
)

// pair is two fleets and what a plan from one to the other says of access.
type pair struct {
	name          string
	before, after [2]string // the project's file, and what swage.cue has more
	want          []string
	lines         []string // as it stands in the file, without what is wanted
}

func readPairs(t *testing.T) (head string, out []pair) {
	t.Helper()
	src, err := os.ReadFile(pairsFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(src), "\n# ")
	for part := range strings.SplitSeq(rest, "\n# ") {
		var p pair
		for i, line := range strings.Split(strings.TrimSpace(part), "\n") {
			kind, text, _ := strings.Cut(line, " ")
			if i == 0 {
				p.name, p.lines = line, append(p.lines, "# "+line)
				continue
			}
			if kind == ">" {
				p.want = append(p.want, text)
				continue
			}
			p.lines = append(p.lines, line)
			text += "\n"
			switch kind {
			case "=":
				p.before[0], p.after[0] = p.before[0]+text, p.after[0]+text
			case "-":
				p.before[0] += text
			case "+":
				p.after[0] += text
			case "s":
				p.before[1] += text
			case "S":
				p.after[1] += text
			default:
				t.Fatalf("%s: %q", p.name, line)
			}
		}
		out = append(out, p)
	}
	return head, out
}

// fleet reads one of a pair.
func (p pair) fleet(t *testing.T, of [2]string) *schema.Fleet {
	t.Helper()
	text := strings.NewReplacer("OFFICE", "_office", "SSHKEY", someKey).Replace(of[0])
	f, err := schema.Load(t.Context(), fstest.MapFS{
		"swage.cue":             {Data: []byte("id: \"5a6b7c8d9e0f1a2b3c4d5e6f\", domain: \"example.com\"\n" + of[1])},
		"servers/lab.cue":       {},
		"projects/shop/all.cue": {Data: []byte(text + "_office: " + officeDocument + "\n")},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

// TestP1Pairs: what a plan says of access, for pairs of fleets that anybody can
// read; -update rewrites what it says.
func TestP1Pairs(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	head, pairs := readPairs(t)
	if len(pairs) < 60 {
		t.Errorf("only %d pairs", len(pairs))
	}
	rewritten := head
	for _, p := range pairs {
		var got []string
		ok := t.Run(p.name, func(t *testing.T) {
			before, after := p.fleet(t, p.before), p.fleet(t, p.after)
			got = accessText(t, before, after, now)
			if d := cmp.Diff(p.want, got); d != "" && !*update {
				t.Errorf("run go test ./reconcile -run TestP1Pairs -update, and look at what changes:\n%s", d)
			}
			for _, f := range []*schema.Fleet{before, after} {
				if same := accessText(t, f, f, now); same != nil {
					t.Errorf("a fleet and itself: %q", same)
				}
			}
		})
		if !ok {
			got = p.want
		}
		rewritten += "\n" + strings.Join(p.lines, "\n") + "\n"
		for _, line := range got {
			rewritten += "> " + line + "\n"
		}
	}
	if *update {
		if err := os.WriteFile(pairsFile, []byte(rewritten), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// accessText are the lines about access of a plan in text. Markdown and JSON
// say as much.
func accessText(t *testing.T, before, after *schema.Fleet, now time.Time) []string {
	t.Helper()
	plan := reconcile.Between(before, after, "lab")
	access, err := reconcile.AccessBetween(before, after, "lab", plan, now)
	if err != nil {
		t.Fatal(err)
	}
	var p reconcile.Proposal
	p.Add("lab", reconcile.Plan{}, access, after)
	text := p.Text(false)
	if p.Empty() != (len(access) == 0) || strings.Contains(text, "no changes") != p.Empty() {
		t.Errorf("%d changes, and the plan says %q", len(access), text)
	}
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.ReplaceAll(line, "projects/shop/all.cue:", "@"))
		if strings.HasPrefix(line, "! OPENS ") || strings.HasPrefix(line, "+ access") || strings.HasPrefix(line, "- access") {
			out = append(out, line)
		}
	}
	if rows := strings.Count(p.Markdown(), "| access |"); rows != len(out) {
		t.Errorf("%d lines in text, %d in Markdown", len(out), rows)
	}
	if opens := strings.Contains(p.Markdown(), "| `! OPENS` |"); opens != strings.Contains(text, "! OPENS") || opens != (len(p.Servers[0].Opens) > 0) {
		t.Errorf("OPENS in text, Markdown and JSON differ: %s", text)
	}
	for _, c := range access {
		if !slices.IsSorted(c.Containers) || len(c.Containers) == 0 || c.At == "" {
			t.Errorf("incomplete: %+v", c)
		}
	}
	return out
}

// servedFleet is a fleet folder and an agent that serves it.
type servedFleet struct {
	tree  fstest.MapFS
	agent *reconcile.Agent
	table *edge.Table // published last
}

func serveFleet(t *testing.T, project string) *servedFleet {
	s := &servedFleet{tree: fstest.MapFS{
		"swage.cue":       {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com"`)},
		"servers/lab.cue": {},
	}}
	s.declare(project)
	engine := &runtime.Fake{}
	s.agent = &reconcile.Agent{
		Server: "lab", Source: reconcile.Local{Tree: s.tree}, Log: slog.New(slog.DiscardHandler),
		Open:    func(s runtime.Scope) (runtime.Runtime, error) { return engine.Open(s), nil },
		Publish: func(e reconcile.Edge) error { s.table = e.Table; return nil },
		Keys: schema.Keys{LookupEnv: func(name string) (string, bool) {
			return map[string]string{"KEY": "sesame", "OTHER": "sesame"}[name], name != "GONE"
		}},
	}
	s.pass(t)
	return s
}

func (s *servedFleet) declare(project string) {
	s.tree["projects/shop/all.cue"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(project, "OFFICE", "_office") + "\n_office: " + officeDocument + "\n")}
}

func (s *servedFleet) pass(t *testing.T) {
	t.Helper()
	if _, err := s.agent.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// planned is what the agent says of access for a project's file.
func (s *servedFleet) planned(t *testing.T, project string) []string {
	t.Helper()
	other := &servedFleet{tree: fstest.MapFS{"swage.cue": s.tree["swage.cue"], "servers/lab.cue": s.tree["servers/lab.cue"]}}
	other.declare(project)
	p, err := s.agent.PlanFor(t.Context(), other.tree)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(p); err != nil || strings.Contains(string(text), "sesame") {
		t.Errorf("%s, %v", text, err)
	}
	return said(p.Servers[0].Access)
}

func said(access []edge.AccessChange) (out []string) {
	for _, c := range access {
		sign := "-"
		if c.Gains {
			sign = "+"
		}
		out = append(out, sign+" "+c.String())
	}
	return out
}

// TestP1PlanSaysWhatTheSwapSays: an agent's plan for a tree and the line of the
// audit when that tree is applied have the same words.
func TestP1PlanSaysWhatTheSwapSays(t *testing.T) {
	s := serveFleet(t, `containers: {web: permissions: OFFICE, api: {}}`)
	for _, project := range []string{
		`containers: {web: permissions: OFFICE, api: {}}`,
		`containers: {web: permissions: {OFFICE, permissions: office: http: 80}, api: {}}`,
		`containers: {web: permissions: {OFFICE, permissions: office: http: 80}, api: {}}, aliases: main: container: "api"`,
		`containers: {web: permissions: {OFFICE, permissions: office: terminal: true}, api: enable_proxy: false}, aliases: main: container: "web"`,
		`containers: {web: {}, api: enable_proxy: false, more: permissions: OFFICE}, aliases: main: {container: "web", domains: ["www.example.org"]}`,
		`containers: {web: {}, more: permissions: OFFICE}, permissions: groups: {}`,
	} {
		before := s.table
		plan := s.planned(t, project)
		s.declare(project)
		s.pass(t)
		if d := cmp.Diff(said(edge.CompareAccess(before, s.table, time.Now())), plan); d != "" {
			t.Errorf("%s: the swap and the plan differ:\n%s", project, d)
		}
		if again := s.planned(t, project); again != nil {
			t.Errorf("%s: applied, and the plan says %q", project, again)
		}
	}
}

// TestP1PlanReadsNoSecret: secrets are compared by how they are declared. One
// that the node has not changes nothing, nor does another name of the same.
func TestP1PlanReadsNoSecret(t *testing.T) {
	guarded := func(secret string) string {
		return fmt.Sprintf(`containers: web: permissions: {groups: ci: {type: "token", header: "X-Key", value: %s}, permissions: ci: http: true}`, secret)
	}
	s := serveFleet(t, guarded(`{env: "KEY"}`))
	changed := []string{
		"+ shop/web: group ci (token in header X-Key, changed) gains http * projects/shop/all.cue:1:40",
		"- shop/web: group ci (token in header X-Key, changed) loses http * projects/shop/all.cue:1:40",
	}
	for secret, want := range map[string][]string{
		`{env: "KEY"}`:          nil,
		`{env: "OTHER"}`:        changed, // whatever it holds
		`{env: "GONE"}`:         changed,
		`{file: "/nowhere/at"}`: changed,
		`"sesame"`:              changed,
	} {
		if d := cmp.Diff(want, s.planned(t, guarded(secret))); d != "" {
			t.Errorf("%s: %s", secret, d)
		}
	}
	lost := serveFleet(t, guarded(`{env: "GONE"}`))
	if got := lost.planned(t, guarded(`{env: "GONE"}`)); got != nil {
		t.Errorf("a secret that is lost, and the same plan: %q", got)
	}
}

// TestP1HeldStaysReachable: what is held back from deletion is no loss.
func TestP1HeldStaysReachable(t *testing.T) {
	s := serveFleet(t, `containers: {web: permissions: OFFICE, api: permissions: OFFICE}`)
	if got := s.planned(t, ``); got != nil {
		t.Errorf("every container goes, which is held, and the plan says %q", got)
	}
	want := []string{"- shop/api: group office (203.0.113.0/24) loses http * projects/shop/all.cue:1:59"}
	if d := cmp.Diff(want, s.planned(t, `containers: web: permissions: OFFICE`)); d != "" {
		t.Errorf("one container goes: %s", d)
	}
	s.declare(``)
	s.pass(t)
	if got := s.planned(t, ``); got != nil {
		t.Errorf("what is held: %q", got)
	}
}

// TestP1Realm: a realm's token is told of its own containers only, and of no
// host that may be another's.
func TestP1Realm(t *testing.T) {
	p := reconcile.Proposal{Version: 1, Servers: []reconcile.ServerProposal{{Server: "lab", Access: []edge.AccessChange{
		{Gains: true, Containers: []string{"a/one", "b/bee"}, Hosts: []string{"bee.lab.example.com"}, OwnHosts: true, Program: "*", At: "x:1:1"},
		{Gains: true, Containers: []string{"b/bee"}, Program: "*"},
		{Containers: []string{"a/one"}, Hosts: []string{"one.lab.example.com"}, Program: "*"},
	}}}}
	got := p.Within(func(ref string) bool { return ref == "a/one" }).Servers[0].Access
	if len(got) != 2 || strings.Contains(fmt.Sprint(got), "bee") || got[1].Hosts == nil {
		t.Errorf("%+v", got)
	}
}

// TestP1Markdown: nothing that an author names is read by Markdown.
func TestP1Markdown(t *testing.T) {
	p := reconcile.Proposal{Version: 1, Servers: []reconcile.ServerProposal{{Server: "lab", Access: []edge.AccessChange{{
		Gains: true, Containers: []string{"a/one_two"}, Program: "http", Numbers: "*", OwnHosts: true, At: "a.cue:1:1",
		Subject: edge.Subject{Kind: edge.SubjectPassword, Group: "g", Who: "user |x| *b* `c` <img> [l](u) @team"},
	}}}}}
	want := "| `+` | a/one\\_two: group g (user \\|x\\| \\*b\\* \\`c\\` &lt;img&gt; \\[l\\](u) &#64;team) gains http \\* | access | `a.cue:1:1` |\n"
	if text := p.Markdown(); !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
