package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"swage/runtime"
	"swage/schema"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// TestMain makes this binary a swage whose Incus is a file: the fake engine,
// kept in $INCUS_FILE between commands.
func TestMain(m *testing.M) {
	schema.EvaluateMain()
	testscript.Main(m, map[string]func(){
		"swage": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr, openFile)) },
	})
}

// TestScripts runs testdata/script/*.txtar: the program as its users meet it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("INCUS_FILE", filepath.Join(e.WorkDir, ".incus.json"))
			examples, err := filepath.Abs("../../examples")
			e.Setenv("EXAMPLES", examples)
			return err
		},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func openFile(socket string, scope runtime.Scope) (runtime.Runtime, error) {
	file := os.Getenv("INCUS_FILE")
	f := &runtime.Fake{}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, f)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &saved{Runtime: f.Open(scope), engine: f, file: file}, nil
}

// saved writes the engine to its file after every step. Steps run side by side
// and the file must be that of the last.
type saved struct {
	runtime.Runtime
	engine *runtime.Fake
	file   string
	mu     sync.Mutex
}

func (s *saved) Do(ctx context.Context, step runtime.Step) (runtime.Done, error) {
	d, err := s.Runtime.Do(ctx, step)
	s.mu.Lock()
	defer s.mu.Unlock()
	b, saveErr := json.Marshal(s.engine)
	return d, errors.Join(err, saveErr, os.WriteFile(s.file, b, 0o600))
}
