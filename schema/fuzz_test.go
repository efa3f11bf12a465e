package schema_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"swage/schema"
)

// FuzzLoad [F9]: whatever a repository holds, Load neither panics nor hangs,
// and returns a whole fleet or none. Evaluations are cut short, so that the
// fuzzer meets many inputs instead of waiting for a few; TestHostile has those
// that need their time.
//
//	go test ./schema -run '^$' -fuzz Load -fuzztime 10m -fuzzminimizetime 1s
//
// Without the last flag most of the time goes into making inputs smaller.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"../testdata/errors/*.txtar", "../testdata/story/*.txtar"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 64<<10 {
			return
		}
		tree := fstest.MapFS{}
		for _, f := range archive(src) {
			name := strings.TrimPrefix(filepath.ToSlash(filepath.Clean("/"+f.Name)), "/")
			name = strings.TrimPrefix(name, "fleet/") // of a story
			tree[name] = &fstest.MapFile{Data: f.Data}
		}
		if len(tree) > 50 {
			return
		}
		l := schema.Loader{Limits: schema.Limits{EvaluationTime: 250 * time.Millisecond, EvaluationMemory: 64 << 20}}
		start := time.Now()
		fleet, err := l.Load(t.Context(), tree)
		if (fleet == nil) == (err == nil) {
			t.Errorf("a fleet: %t, an error: %v", fleet != nil, err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %s", d)
		}
		if fleet == nil {
			return
		}
		for _, p := range fleet.Projects {
			for _, c := range p.Containers {
				if _, ok := fleet.Servers[c.Server]; !ok || c.Image == "" || c.State == "" {
					t.Errorf("a container that is not whole: %+v", c)
				}
			}
		}
		again, err := l.Load(t.Context(), tree)
		if err != nil || len(again.Projects) != len(fleet.Projects) {
			t.Errorf("a second time: %v", err)
		}
	})
}

// archive reads a txtar; some texts that are none make its parser panic.
func archive(src []byte) (files []txtar.File) {
	defer func() {
		if recover() != nil {
			files = nil
		}
	}()
	return txtar.Parse(src).Files
}
