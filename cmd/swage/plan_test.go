package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"swage/runtime"
)

// TestPlanSaysFirst [A1] [G6]: a plan says what it does before it reads a
// file, also where no terminal is, and says it beside the plan itself.
func TestPlanSaysFirst(t *testing.T) {
	fake := &runtime.Fake{}
	open := func(_ string, s runtime.Scope) (runtime.Runtime, error) { return fake.Open(s), nil }
	for _, c := range []struct {
		name, said string
		args       []string
	}{
		{"what runs", "comparing . with what runs\n", nil},
		{"a revision", "comparing . with HEAD\n", []string{"--against", "HEAD"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			file(t, "swage.cue", "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n")
			file(t, "servers/lab.cue", "")
			commit(t)
			said := &firstWord{do: func() { file(t, "projects/web/late.cue", "containers: late: {}\n") }}
			var plan bytes.Buffer
			if code := run(t.Context(), append([]string{"plan"}, c.args...), &plan, said, open); code != 0 {
				t.Fatalf("exit code %d: %s", code, said.all.String())
			}
			if said.all.String() != c.said {
				t.Errorf("said %q", said.all.String())
			}
			if !bytes.Contains(plan.Bytes(), []byte("create container web/late")) {
				t.Errorf("the files were read before a word was said:\n%s", plan.String())
			}
		})
	}
}

// firstWord does something as soon as a word is written to it.
type firstWord struct {
	all bytes.Buffer
	do  func()
}

func (w *firstWord) Write(p []byte) (int, error) {
	if w.all.Len() == 0 {
		w.do()
	}
	return w.all.Write(p)
}

func file(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// commit makes a repository of the current folder.
func commit(t *testing.T) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", "git init --quiet; git add .; git commit --quiet --message=first")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
