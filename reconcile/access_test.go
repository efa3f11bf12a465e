package reconcile_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"swage/reconcile"
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
			same := func(a, b string) {
				if n := len(accessText(t, p.fleet(t, [2]string{a, p.before[1]}), p.fleet(t, [2]string{b, p.before[1]}), now)); n != 0 {
					t.Errorf("a fleet and itself: %d lines", n)
				}
			}
			same(p.before[0], p.before[0])
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
