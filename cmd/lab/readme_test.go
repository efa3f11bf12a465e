//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs every console block of README.md as a newcomer would: in a
// fresh copy of the files that are in Git, one after the other, in one shell.
// A line of output that the README shows must come, in that order; … stands
// for anything, and what the README leaves out may come between.
func TestReadme(t *testing.T) {
	if os.Geteuid() != 0 || os.Getenv("SWAGE_TEST_LAB") == "" {
		t.Skip("needs root and brings up a lab: run `make test`")
	}
	clone := freshCopy(t)
	lab := &Lab{Dir: filepath.Join(clone, ".lab"), out: os.Stderr}
	t.Cleanup(func() { // also when the README's own make down was not reached
		cmd := exec.Command("make", "--silent", "down")
		cmd.Dir = clone
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("make down: %v\n%s", err, out)
		}
	})
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	port := unusedPort(t)
	sh := startShell(t, clone, "PORT="+port)
	for _, c := range transcript(strings.ReplaceAll(string(text), "8443", port)) {
		got, code := sh.run(t, c.command)
		if code != 0 {
			t.Fatalf("$ %s\nexit code %d\n%s", c.command, code, got)
		}
		if missing := unmatched(c.output, got); missing != "" {
			t.Errorf("$ %s\nthe README shows\n%s\nwhich did not come:\n%s", c.command, missing, got)
		}
	}
	if exists(lab.Dir) {
		t.Errorf("%s is still there", lab.Dir)
	}
}

// freshCopy has the files as Git would clone them, changes of the work tree
// included.
func freshCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fresh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `git ls-files --cached --others --exclude-standard -z | xargs -0 sh -c 'for f; do [ ! -e "$f" ] || cp --parents -- "$f" "$0"; done' "$1"`, "sh", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func unusedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

type exchange struct {
	command string
	output  []string
}

// transcript is what the console blocks of a Markdown text show.
func transcript(text string) []exchange {
	var all []exchange
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case strings.HasPrefix(line, "$ "):
			all = append(all, exchange{command: line[2:]})
		case len(all) > 0:
			last := &all[len(all)-1]
			last.output = append(last.output, line)
		}
	}
	return all
}

// unmatched is the first line wanted that did not come in its turn.
func unmatched(want []string, got string) string {
	lines := strings.Split(got, "\n")
	for i, text := range lines {
		if strings.HasPrefix(text, "remote: ") { // git pads these
			lines[i] = strings.TrimRight(text, " ")
		}
	}
	for _, w := range want {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*") + "$")
		for len(lines) > 0 && !pattern.MatchString(lines[0]) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return w
		}
		lines = lines[1:]
	}
	return ""
}

// shell is one bash that runs one command after the other.
type shell struct {
	in  *bufio.Writer
	out *bufio.Reader
}

func startShell(t *testing.T, dir string, env ...string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir = dir
	// Some have authorities of their own for git.
	cmd.Env = append(os.Environ(), "GIT_SSL_CAINFO=/nowhere", "YES=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	cmd.Env = append(cmd.Env, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { in.Close(); _ = cmd.Wait(); r.Close() })
	return &shell{bufio.NewWriter(in), bufio.NewReader(r)}
}

func (s *shell) run(t *testing.T, command string) (output string, code int) {
	t.Helper()
	const end = "--end-of-command--"
	fmt.Fprintf(s.in, "%s\n{ code=$?; echo; echo %s $code; }\n", command, end)
	if err := s.in.Flush(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			t.Fatalf("$ %s\nthe shell ended: %v\n%s", command, err, out.String())
		}
		if n, _ := fmt.Sscanf(line, end+" %d", &code); n == 1 {
			return out.String(), code
		}
		out.WriteString(line)
	}
}
