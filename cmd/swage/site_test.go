package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/runtime"
	"swage/runtime/incus"
)

// site is one agent in the lab with its repository, as a user has it: the
// tests push with git, ask over HTTPS and look with the incus command.
type site struct {
	testing.TB
	lab   string // folder of the lab
	dir   string
	scope runtime.Scope
	port  string
	// inside: the agent listens in the lab's network, as its server's file
	// says, instead of on sockets passed in from out here.
	inside bool
	// boot is the id of the host's start that the agent sees, if not empty.
	boot string

	agent *exec.Cmd
	log   *os.File
}

// programs builds swage and lab once, with the race detector.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "swage")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-race", "-o", dir+"/", "swage/cmd/swage", "swage/cmd/lab").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	out, err = exec.Command("env", "CGO_ENABLED=0", "go", "build", "-o", dir+"/", "swage/cmd/tiny").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func newSite(t testing.TB) *site {
	t.Helper()
	lab := os.Getenv("SWAGE_TEST_LAB")
	if lab == "" || os.Geteuid() != 0 {
		t.Skip("needs root and a throw-away Incus: run `make test`, which brings one up")
	}
	dir, err := os.MkdirTemp("", "site") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	s := &site{TB: t, lab: lab, dir: dir, port: freePort(t)}
	s.scope = runtime.Scope{Fleet: runtime.NewID(), Server: "lab"}
	s.scope.Prefix = "s" + string(s.scope.Fleet[:8]) + "-"
	t.Cleanup(s.clean)

	bare := filepath.Join(dir, "fleet.git")
	s.command("git", "init", "--quiet", "--bare", "--initial-branch=main", bare)
	s.command("git", "init", "--quiet", "--initial-branch=main", s.path("work"))
	s.git("remote", "add", "origin", bare)
	s.write("swage.cue", fmt.Sprintf("id: %q\ndomain: \"containers.localhost\"\ncontainer_image: \"tiny/1\"\nprune: max: 20\n", s.scope.Fleet))
	s.write("servers/lab.cue", fmt.Sprintf("listen: [\"0.0.0.0:%s\"]\nincus: project_prefix: %q\n", s.port, s.scope.Prefix))
	node := fmt.Sprintf("server: \"lab\"\nsource: path: %q\nstate_dir: %q\nsocket: %q\nincus: socket: %q\n", bare, s.path("state"), s.path("sock"), s.incusSocket())
	if err := os.WriteFile(s.path("agent.cue"), []byte(node), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// labEnv is a variable that the lab left for others.
func (s *site) labEnv(name string) string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.lab, "lab.env"))
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return value
		}
	}
	s.Fatalf("lab.env has no %s", name)
	return ""
}

func (s *site) incusSocket() string { return s.labEnv("INCUS_SOCKET") }

func (s *site) command(name string, args ...string) string {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "INCUS_DIR="+s.labEnv("INCUS_DIR"), "INCUS_CONF="+s.path("client"),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func (s *site) git(args ...string) string {
	s.Helper()
	return s.command("git", append([]string{"-C", s.path("work")}, args...)...)
}

func (s *site) incus(args ...string) string {
	s.Helper()
	return s.command("incus", args...)
}

// write changes a file of the work tree; empty text removes it.
func (s *site) write(name, text string) {
	s.Helper()
	file := filepath.Join(s.path("work"), name)
	if text == "" {
		if err := os.Remove(file); err != nil {
			s.Fatal(err)
		}
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		s.Fatal(err)
	}
}

// push commits the work tree, even when nothing differs, and returns the
// commit.
func (s *site) push() string {
	s.Helper()
	s.git("add", "--all")
	s.git("commit", "--quiet", "--allow-empty", "--message=change")
	s.git("push", "--quiet", "origin", "main")
	return strings.TrimSpace(s.git("rev-parse", "HEAD"))
}

func (s *site) start() {
	s.Helper()
	bin, err := programs()
	if err != nil {
		s.Fatal(err)
	}
	s.startProgram(filepath.Join(bin, "lab"), filepath.Join(bin, "swage"))
}

func (s *site) startProgram(lab, swage string) {
	s.Helper()
	var err error
	if s.log, err = os.OpenFile(s.path("agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		s.Fatal(err)
	}
	args := []string{"exec", "--dir", s.lab}
	if !s.inside {
		args = append(args, "--listen", "127.0.0.1:"+s.port)
	}
	command := []string{swage, "agent", "--config", s.path("agent.cue")}
	if s.boot != "" {
		command = append([]string{"sh", "-euc", rebooted, "sh", s.path("state"), s.path("boot_id")}, command...)
		if err := os.WriteFile(s.path("boot_id"), []byte(s.boot+"\n"), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	s.agent = exec.Command(lab, append(append(args, "--"), command...)...)
	s.agent.Stdout, s.agent.Stderr = s.log, s.log
	if err := s.agent.Start(); err != nil {
		s.Fatal(err)
	}
	s.eventually("the agent answers", func() bool {
		_, err := api.Socket(s.path("sock")).Status(s.Context())
		return err == nil
	})
}

// rebooted runs a command that sees another boot id than all others. What it
// mounts below its folder Incus sees all the same.
const rebooted = `
state=$1 boot=$2
shift 2
mount --bind "$state" "$state"
mount --make-shared "$state"
exec unshare --mount --propagation unchanged -- sh -euc '
mount --bind "$0" /proc/sys/kernel/random/boot_id
exec "$@"' "$boot" "$@"
`

// stop ends the agent and fails the test when it did not end well.
func (s *site) stop(signal os.Signal) {
	s.Helper()
	if s.agent == nil {
		return
	}
	_ = s.agent.Process.Signal(signal)
	err := s.agent.Wait()
	s.log.Close()
	s.agent = nil
	if signal != syscall.SIGKILL && err != nil {
		s.Errorf("the agent ended with %v", err)
	}
}

// clean removes everything that the site has in the lab, and the site.
func (s *site) clean() {
	s.stop(os.Interrupt)
	log, _ := os.ReadFile(s.path("agent.log"))
	if s.Failed() {
		s.Logf("the agent's log:\n%s", log)
	}
	if bytes.Contains(log, []byte("DATA RACE")) {
		s.Errorf("the agent has a data race:\n%s", log)
	}
	s.remove()
	os.RemoveAll(s.dir)
}

// remove takes everything away that the site has in Incus.
func (s *site) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	rt, err := incus.Open(s.incusSocket(), s.scope)
	if err != nil {
		s.Fatal(err)
	}
	// What has snapshots is an archive after the first round; only empty projects
	// can be removed.
	for range 3 {
		seen, err := rt.Observe(ctx)
		if err != nil {
			s.Fatal(err)
		}
		var steps []runtime.Step
		for _, c := range seen.Containers {
			steps = append(steps, runtime.DeleteContainer{Target: c})
		}
		for _, x := range seen.Spares {
			steps = append(steps, runtime.DeleteSpare{Spare: x})
		}
		for _, x := range seen.Archives {
			steps = append(steps, runtime.DeleteArchive{Archive: x})
		}
		if len(steps) == 0 {
			for _, p := range seen.Projects {
				steps = append(steps, runtime.DeleteProject{Project: p})
			}
		}
		var g errgroup.Group
		g.SetLimit(8)
		for _, step := range steps {
			g.Go(func() error {
				_, err := rt.Do(ctx, step)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			s.Error(err)
		}
	}
}

// eventually waits for a condition.
func (s *site) eventually(what string, done func() bool) {
	s.Helper()
	deadline := time.After(3 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			s.Fatalf("not within three minutes: %s", what)
		}
	}
}

func (s *site) status() *reconcile.Report {
	s.Helper()
	r, err := api.Socket(s.path("sock")).Status(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// settled waits until a commit is applied.
func (s *site) settled(commit string) {
	s.Helper()
	s.eventually("commit "+commit+" is applied", func() bool {
		r := s.status()
		return r.Commit == commit && !r.Finished.IsZero() && r.State == reconcile.Applied
	})
}

func (s *site) url(alias string) string {
	return "https://" + alias + ".lab.containers.localhost:" + s.port + "/"
}

// client trusts the agent's CA and reaches it through dial.
func (s *site) client(dial func(context.Context) (net.Conn, error)) *http.Client {
	pem, err := os.ReadFile(s.path("state/ca.crt"))
	if err != nil {
		return http.DefaultClient // the agent has not begun
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
}

// get asks for an alias from this machine.
func (s *site) get(alias string) (status int, body string) {
	return get(s.client(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", "127.0.0.1:"+s.port)
	}), s.url(alias))
}

// get returns status 0 with the error as the body.
func get(c *http.Client, url string) (status int, body string) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// instance is a container as the incus command shows it.
type instance struct {
	Name, Project, Status string
	Config                map[string]string
}

// instances are those of the site that are no archives.
func (s *site) instances() []instance {
	s.Helper()
	return slices.DeleteFunc(s.allInstances(), func(i instance) bool { return i.Config["user.swage.role"] == "archive" })
}

// allInstances are those of the site, whatever role they have.
func (s *site) allInstances() []instance {
	s.Helper()
	var all, ours []instance
	// Not incus list: it asks for the state of each, and while that changes Incus
	// shows an instance without its configuration.
	if err := json.Unmarshal([]byte(s.incus("query", "/1.0/instances?recursion=1&all-projects=true")), &all); err != nil {
		s.Fatal(err)
	}
	for _, i := range all {
		if i.Config["user.swage.fleet"] == string(s.scope.Fleet) {
			ours = append(ours, i)
		}
	}
	return ours
}
