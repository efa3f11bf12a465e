package schema_test

import (
	"os"
	"path/filepath"
	"testing"

	"swage/schema"
)

// TestExamples [F2]: every example fleet is right, and warns of nothing.
func TestExamples(t *testing.T) {
	fleets, err := filepath.Glob("../examples/*/swage.cue")
	if err != nil || len(fleets) < 3 {
		t.Fatal(fleets, err)
	}
	for _, file := range fleets {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			f, err := schema.Load(t.Context(), os.DirFS(dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range f.Warnings {
				t.Error(w.Warning())
			}
			if len(f.Projects) == 0 {
				t.Error("it has no project")
			}
		})
	}
}
