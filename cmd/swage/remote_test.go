package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"swage/reconcile"
	"swage/reconcile/api"
)

// remote is an agent on the fake engine that takes pushes, with a work tree in
// its folder "work" and the shell of somebody who pushes.
type remote struct {
	*testing.T
	dir, port, socket string
	agent             *exec.Cmd
	log               syncBuffer
}

// syncBuffer is written by a process while the test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const remoteHost = "git.lab.example.com"

// newRemote makes the folder of an agent that is not started. node is added to
// the node file.
func newRemote(t *testing.T, node string) *remote {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: `make test` installs it")
	}
	dir, err := os.MkdirTemp("", "remote") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &remote{T: t, dir: dir, port: freePort(t), socket: filepath.Join(dir, "s")}
	r.write("agent.cue", fmt.Sprintf("server: \"lab\"\nsource: push: true\nsocket: %q\nstate_dir: %q\n%s\n", r.socket, r.path("state"), node))
	r.write("work/swage.cue", "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n")
	r.server("")
	r.write("work/projects/web/app.cue", "containers: app: id: \"111111111111111111111111\"\n")
	r.sh("git init -q -b main")
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

func (r *remote) path(name string) string { return filepath.Join(r.dir, name) }

func (r *remote) write(name, text string) {
	r.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
}

// server writes the server's file, with more in it.
func (r *remote) server(more string) {
	r.Helper()
	r.write("work/servers/lab.cue", fmt.Sprintf("listen: [\"127.0.0.1:%s\"]\n%s\n", r.port, more))
}

func (r *remote) env() []string {
	env := append(os.Environ(), "HOME="+r.dir, "INCUS_FILE="+r.path("incus.json"), "LC_ALL=C", "SWAGE_SOCKET="+r.socket,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_SSL_CAINFO="+r.path("state/ca.crt"),
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"BARE="+r.path("state/fleet.git"))
	for i, c := range [][2]string{
		{"http.curloptResolve", remoteHost + ":" + r.port + ":127.0.0.1"},
		{"protocol.file.allow", "always"},
	} {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, c[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, c[1]))
	}
	return append(env, "GIT_CONFIG_COUNT=2")
}

// try runs a shell command in the work tree.
func (r *remote) try(command string) (string, error) {
	cmd := exec.Command("sh", "-ec", command)
	cmd.Dir, cmd.Env = r.path("work"), r.env()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *remote) sh(command string) string {
	r.Helper()
	out, err := r.try(command)
	if err != nil {
		r.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// refused runs a command that has to fail and to say all of these.
func (r *remote) refused(command string, says ...string) string {
	r.Helper()
	out, err := r.try(command)
	if err == nil {
		r.Errorf("%s: it is not refused:\n%s", command, out)
	}
	r.says(command, out, says...)
	return out
}

func (r *remote) says(what, out string, says ...string) {
	r.Helper()
	for _, s := range says {
		if !strings.Contains(out, s) {
			r.Errorf("%s: it does not say %q:\n%s", what, s, out)
		}
	}
}

// url is where somebody with a token pushes to.
func (r *remote) url(token string) string {
	return "https://x:" + token + "@" + remoteHost + ":" + r.port + "/fleet"
}

// commit commits the work tree and pushes it to a repository: a URL, or $BARE.
func (r *remote) commit(message string) {
	r.sh("git add -A; git commit -q --allow-empty -m '" + message + "'")
}

// launch starts the agent and does not wait for it.
func (r *remote) launch() {
	r.Helper()
	r.agent = exec.Command("swage", "agent", "--config", r.path("agent.cue"))
	r.agent.Env = r.env()
	r.agent.Stdout, r.agent.Stderr = &r.log, &r.log
	if err := r.agent.Start(); err != nil {
		r.Fatal(err)
	}
}

func (r *remote) start() {
	r.Helper()
	r.launch()
	r.await("the agent answers", func(*reconcile.Report) bool { return true })
}

func (r *remote) stop() {
	if r.agent == nil {
		return
	}
	_ = r.agent.Process.Signal(syscall.SIGTERM)
	_ = r.agent.Wait()
	r.agent = nil
}

func (r *remote) await(what string, done func(*reconcile.Report) bool) *reconcile.Report {
	r.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		report, err := api.Socket(r.socket).Status(r.Context())
		if err == nil && done(report) {
			return report
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s: it does not come: %v\n%+v\n%s", what, err, report, r.log.String())
		}
	}
}

// soon waits for a condition.
func (r *remote) soon(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("%s: it does not come\n%s", what, r.log.String())
		}
	}
}

func (r *remote) applied() {
	r.Helper()
	tip := r.sh("git rev-parse HEAD")
	r.await("the commit is applied", func(s *reconcile.Report) bool { return s.State == reconcile.Applied && s.Commit == tip })
}
