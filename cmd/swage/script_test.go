package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"swage/runtime"
	"swage/schema"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// TestMain makes this binary a swage whose Incus is a file: the fake engine,
// kept in $INCUS_FILE between commands.
func TestMain(m *testing.M) {
	schema.EvaluateMain()
	benchEdgeMain()
	testscript.Main(m, map[string]func(){
		"swage": func() {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, openFile))
		},
	})
}

// TestScripts runs testdata/script/*.txtar: the program as its users meet it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("INCUS_FILE", filepath.Join(e.WorkDir, ".incus.json"))
			for _, name := range []string{"FREE_PORT", "FREE_SSH_PORT"} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer l.Close() // not before both are drawn
				_, port, _ := net.SplitHostPort(l.Addr().String())
				e.Setenv(name, port)
			}
			outside := listener(filepath.Join(e.WorkDir, ".told"))
			e.Defer(outside.Close)
			e.Setenv("OUTSIDE_URL", outside.URL)
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: outside.Certificate().Raw})
			if err := os.WriteFile(filepath.Join(e.WorkDir, ".outside.pem"), ca, 0o600); err != nil {
				return err
			}
			examples, err := filepath.Abs("../../examples")
			e.Setenv("EXAMPLES", examples)
			return err
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"await": awaitCommand},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// awaitCommand runs a command until it ends well, at most 20 s: for what an
// agent in the background does.
func awaitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: await command [args]")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
	}
}

// listener is who is told of things outside: it writes each request to a file,
// a line each.
func listener(file string) *httptest.Server {
	var mu sync.Mutex
	return httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		defer f.Close()
		fmt.Fprintf(f, "%s %s %s%s %q\n", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Swage-Signature-256"), body)
		w.WriteHeader(http.StatusCreated)
	}))
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
	if _, ok := step.(runtime.CreateContainer); ok && step.Container().Image == "missing/1" {
		return runtime.Done{}, errors.New("no such image") // the fake knows all of them
	}
	d, err := s.Runtime.Do(ctx, step)
	return d, errors.Join(err, s.save())
}

func (s *saved) Note(ctx context.Context, key, value string) error {
	return errors.Join(s.Runtime.Note(ctx, key, value), s.save())
}

func (s *saved) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(s.engine)
	return errors.Join(err, os.WriteFile(s.file, b, 0o600))
}
