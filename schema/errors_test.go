package schema_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"swage/schema"
)

var update = flag.Bool("update", false, "rewrite what is expected")

var tagged = regexp.MustCompile(`^\[[A-Z]\d+\] `)

// TestErrors [F9] loads testdata/errors/*.txtar: fleets with something wrong,
// or worth a warning, each with the exact text that its author reads. The
// comment of a file begins with the tag of the rule that it breaks.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("../testdata/errors/*.txtar")
	if err != nil || len(files) < 80 {
		t.Fatalf("%d broken fleets, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !tagged.Match(a.Comment) {
				t.Errorf("the comment begins with no tag: %s", a.Comment)
			}
			got := told(t, a)
			want := ""
			for i, f := range a.Files {
				if f.Name != "want" {
					continue
				}
				want = string(f.Data)
				if *update {
					a.Files[i].Data = []byte(got)
					if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
			}
			if got != want {
				t.Errorf("run go test ./schema -run Errors -update, and read what changes:\ngot\n%swant\n%s", got, want)
			}
		})
	}
}

// told is what an author reads about a fleet: its problems, else its warnings.
// Files below before/ are an earlier state, against which [F7] is held.
func told(t *testing.T, a *txtar.Archive) string {
	t.Helper()
	tree, earlier := fstest.MapFS{}, fstest.MapFS{}
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "before/"); ok {
			earlier[name] = &fstest.MapFile{Data: f.Data}
		} else if f.Name != "want" {
			tree[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	fleet, err := schema.Load(t.Context(), tree)
	if err != nil {
		if fleet != nil {
			t.Error("a fleet beside an error")
		}
		if !schema.IsProblems(err) {
			t.Errorf("not about the author's files: %v", err)
		}
		return err.Error() + "\n"
	}
	if len(earlier) > 0 {
		before, err := schema.Load(t.Context(), earlier)
		if err != nil {
			t.Fatal(err)
		}
		if problems := schema.Immutable(before, fleet); len(problems) > 0 {
			return problems.Error() + "\n"
		}
	}
	var b strings.Builder
	for _, w := range fleet.Warnings {
		b.WriteString(w.Warning() + "\n")
	}
	return b.String()
}
