package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/vishvananda/netns"

	"swage/reconcile"
	"swage/runtime/incus"
)

// The main job on a real Incus: what is pushed is what runs and answers.

func TestAPushIsDeployed(t *testing.T) {
	s := newSite(t)
	s.start()
	answers := func(alias, text string) func() bool {
		return func() bool {
			status, body := s.get(alias)
			return status == 200 && strings.Contains(body, text)
		}
	}
	app := "containers: app: environment_vars: GREETING: %q\naliases: app: container: \"app\"\n"

	if status, _ := s.get("app"); status != 0 {
		t.Errorf("before any commit there is no certificate, yet: %d", status)
	}
	s.write("projects/web/app.cue", fmt.Sprintf(app, "hello"))
	s.push()
	s.eventually("the first push answers", answers("app", `"GREETING":"hello"`))

	s.write("projects/web/app.cue", fmt.Sprintf(app, "good day"))
	s.push()
	s.eventually("the new value is in the answer", answers("app", `"GREETING":"good day"`))

	s.write("projects/web/more.cue", "containers: more: {}\naliases: more: container: \"more\"\n")
	s.settled(s.push())
	s.eventually("a second container answers under its own URL", answers("more", `"hostname":"more"`))
	host := ""
	for _, c := range s.status().Containers {
		if c.Name == "more" {
			host = strings.TrimSuffix(strings.TrimPrefix(c.URLs[1], "https://"), ".lab.containers.localhost:"+s.port+"/")
		}
	}
	if status, body := s.get(host); status != 200 {
		t.Errorf("the generated host %s answers %d %s", host, status, body)
	}

	good := s.status().Commit
	before := s.instances()
	s.write("projects/web/more.cue", "containers: more: {\n\tstate: \"runing\"\n}\n")
	bad := s.push()
	s.eventually("the mistake is reported", func() bool { r := s.status(); return r.Rejected != nil && r.Rejected.Commit == bad })
	if r := s.status(); r.Commit != good || r.Rejected.Error != `projects/web/more.cue:2:9: containers.more.state: found "runing", want "running", "stopped" or "paused"` {
		t.Errorf("commit %s, rejected %+v", r.Commit, r.Rejected)
	}
	if after := s.instances(); len(after) != len(before) || !answers("app", "good day")() || !answers("more", `"more"`)() {
		t.Errorf("a commit with a mistake changed what runs: %v, then %v", before, after)
	}

	s.write("projects/web/more.cue", "")
	s.push()
	s.eventually("the URL is gone", func() bool { status, _ := s.get("more"); return status == 404 })
	s.eventually("the container is gone", func() bool { return len(s.instances()) == 1 })
	if status, _ := s.get("app"); status != 200 {
		t.Errorf("the other container answers %d", status)
	}
}

func TestStateStoppedAndBack(t *testing.T) {
	s := newSite(t)
	s.start()
	for _, state := range []string{"running", "stopped", "running"} {
		s.write("projects/web/app.cue", fmt.Sprintf("containers: app: state: %q\naliases: app: container: \"app\"\n", state))
		s.settled(s.push())
		want := map[string]int{"running": 200, "stopped": 503}[state]
		s.eventually(fmt.Sprintf("%s answers %d", state, want), func() bool { status, _ := s.get("app"); return status == want })
		if got := s.instances(); len(got) != 1 || !strings.EqualFold(got[0].Status, state) {
			t.Errorf("incus shows %+v, want %s", got, state)
		}
	}
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	s := newSite(t)
	s.write("projects/web/app.cue", "containers: {app: environment_vars: A: \"1\", off: state: \"stopped\"}\n")
	first := s.push()
	s.start()
	s.settled(first)

	// From here on Incus must not tell of any change.
	rt, err := incus.Open(s.incusSocket(), s.scope)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := make(chan struct{}, 1)
	go rt.Watch(ctx, changed)
	<-changed // the watch has begun

	s.settled(s.push()) // the same files again
	s.stop(syscall.SIGTERM)
	if err := os.RemoveAll(s.path("state/accepted")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.settled(strings.TrimSpace(s.git("rev-parse", "HEAD")))
	if steps := s.status().Steps; len(steps) != 0 {
		t.Errorf("after a restart the plan has %+v", steps)
	}
	select {
	case <-changed:
		t.Error("Incus saw a write")
	default:
	}
	// The watch is not deaf.
	s.write("projects/web/app.cue", "containers: {app: environment_vars: A: \"2\", off: state: \"stopped\"}\n")
	s.push()
	<-changed
}

func TestKilledInTheMiddleItConverges(t *testing.T) {
	for _, after := range []int{0, 1, 4, 9} { // containers that Incus knows by then
		t.Run(fmt.Sprintf("after %d of 10", after), func(t *testing.T) {
			s := newSite(t)
			s.start()
			var file strings.Builder
			for i := range 10 {
				fmt.Fprintf(&file, "containers: \"app-%d\": {}\n", i)
			}
			s.write("projects/web/apps.cue", file.String())
			commit := s.push()
			s.eventually("the apply is in the middle", func() bool { return len(s.instances()) >= after })
			s.stop(syscall.SIGKILL)
			s.start()
			s.settled(commit)
			got := s.instances()
			names := map[string]bool{}
			for _, i := range got {
				names[i.Config["user.swage.name"]] = true
				if i.Status != "Running" {
					t.Errorf("%s is %s", i.Name, i.Status)
				}
			}
			if len(got) != 10 || len(names) != 10 {
				t.Errorf("%d instances of %d names, want ten", len(got), len(names))
			}
		})
	}
}

// TestPermissionsByAddress reaches the edge from a network namespace of its
// own, with addresses there of which some are in the group. The container sees
// them in its sockets [E4].
func TestPermissionsByAddress(t *testing.T) {
	s := newSite(t)
	s.inside = true
	s.write("servers/lab.cue", fmt.Sprintf("listen: [\":%s\"]\nincus: project_prefix: %q\n", s.port, s.scope.Prefix))
	s.write("projects/web/app.cue", `containers: app: {}
aliases: app: container: "app"
permissions: {
	groups: office: {type: "ip", ranges: ["203.0.113.2", "2001:db8::2"]}
	permissions: office: http: 80
}
`)
	commit := s.push()
	s.start()
	s.settled(commit)

	client, lab := "c"+string(s.scope.Fleet[:8]), s.labEnv("NETNS")
	s.command("ip", "netns", "add", client)
	t.Cleanup(func() { s.command("ip", "netns", "delete", client) })
	s.command("ip", "-n", client, "link", "add", "eth0", "type", "veth", "peer", "name", client, "netns", lab)
	s.command("ip", "-n", lab, "address", "add", "203.0.113.1/24", "dev", client)
	s.command("ip", "-n", lab, "link", "set", client, "up")
	s.command("ip", "-n", lab, "address", "add", "2001:db8::1/64", "dev", client, "nodad")
	for _, address := range []string{"203.0.113.2/24", "203.0.113.9/24", "2001:db8::2/64"} {
		s.command("ip", "-n", client, "address", "add", address, "dev", "eth0", "nodad")
	}
	s.command("ip", "-n", client, "link", "set", "eth0", "up")

	ask := func(from string) (int, string) {
		to := "203.0.113.1"
		if strings.Contains(from, ":") {
			to = "2001:db8::1"
		}
		return get(s.client(func(ctx context.Context) (net.Conn, error) {
			return dialFrom(ctx, client, from, net.JoinHostPort(to, s.port))
		}), s.url("app"))
	}
	for _, from := range []string{"203.0.113.2", "2001:db8::2"} {
		s.eventually("an address inside the group gets 200", func() bool { status, _ := ask(from); return status == 200 })
		_, body := ask(from)
		var echo struct {
			RemoteAddr string `json:"remote_addr"`
		}
		if err := json.Unmarshal([]byte(body), &echo); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if seen, _, _ := net.SplitHostPort(echo.RemoteAddr); seen != from {
			t.Errorf("the container sees %s, and it was %s", seen, from)
		}
	}
	if status, body := ask("203.0.113.9"); status != 403 || !strings.Contains(body, "203.0.113.9") {
		t.Errorf("an address outside the group gets %d %s", status, body)
	}
}

// dialFrom connects from another network namespace; a socket stays in the one
// it was made in.
func dialFrom(ctx context.Context, namespace, from, to string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := netns.GetFromName(namespace)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(ctx, "tcp", to)
	if netns.Set(home) == nil {
		runtime.UnlockOSThread() // else the thread ends with its goroutine
	}
	return c, err
}

// TestSystemImages: the real images boot with systemd, have what was asked for
// from the start, answer through the edge, and come back after the host was
// restarted, unless they are not to.
func TestSystemImages(t *testing.T) {
	s := newSite(t)
	key := func(of string) string {
		return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wMd0Cz9u6C0Zr0mWb3GkH6Q4v7hU0fVt3qQd1n1aA " + of
	}
	images := []string{"debian/12", "debian/13"}
	declare := func(colour, extra string) {
		var file strings.Builder
		for i, image := range images {
			fmt.Fprintf(&file, "containers: deb_%d: {container_image: %q, environment_vars: COLOUR: %q, ssh_authorized_keys: [%q]%s}\naliases: deb%d: {container: \"deb_%d\", port: 8080}\n",
				i, image, colour, key("alice"), extra, i, i)
		}
		s.write("projects/web/deb.cue", file.String())
		s.write("projects/web/job.cue", "containers: job: {autostart: false, environment_vars: COLOUR: \""+colour+"\"}\n")
	}
	declare("blue", "")
	commit := s.push()
	s.start()
	s.settled(commit)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	in := func(c instance, script string) (out string) {
		t.Helper()
		// Incus sometimes loses what a short command said; the last word tells.
		s.eventually("all of what the script said arrives", func() (whole bool) {
			out, whole = strings.CutSuffix(s.incus("exec", "--project", c.Project, c.Name, "--", "sh", "-ec", script+"\necho whole"), "whole\n")
			return whole
		})
		return strings.TrimSpace(out)
	}
	debs := func() (out []instance) {
		for i := range images {
			out = append(out, s.named(fmt.Sprintf("deb_%d", i)))
		}
		return out
	}
	inside := func(colour string) {
		t.Helper()
		for i, c := range debs() {
			s.eventually("systemd is up in "+c.Name, func() bool {
				return in(c, "systemctl is-system-running || true") == "running"
			})
			for script, want := range map[string]string{
				"tr '\\0' '\\n' </proc/1/environ | grep ^COLOUR=": "COLOUR=" + colour,
				"echo $COLOUR":                   colour,
				"cat /root/.ssh/authorized_keys": key("alice"),
				"stat -c '%a %U' /root/.ssh /root/.ssh/authorized_keys": "700 root\n600 root",
				"cat /proc/sys/kernel/hostname":                         fmt.Sprintf("deb-%d", i),
				"cat /etc/hostname":                                     fmt.Sprintf("deb-%d", i),
				"findmnt -no FSTYPE /ramdisk":                           "tmpfs",
			} {
				if got := in(c, script); got != want {
					t.Errorf("%s: %s: %q, want %q", c.Name, script, got, want)
				}
			}
		}
	}
	serve := func() {
		t.Helper()
		for i, c := range debs() {
			in(c, "echo kept >/ramdisk/word")
			s.incus("file", "push", "--quiet", "--project", c.Project, filepath.Join(bin, "tiny"), c.Name+"/usr/local/bin/tiny")
			in(c, "systemd-run --quiet --setenv=PORT=8080 /usr/local/bin/tiny")
			alias := fmt.Sprintf("deb%d", i)
			s.eventually(alias+" answers", func() bool {
				status, body := s.get(alias)
				var echo struct {
					Hostname string `json:"hostname"`
				}
				return status == 200 && json.Unmarshal([]byte(body), &echo) == nil && echo.Hostname == fmt.Sprintf("deb-%d", i)
			})
		}
	}
	inside("blue")
	serve()
	s.converged()

	// A new value comes with a restart, which a ramdisk survives.
	declare("green", "")
	s.settled(s.push())
	inside("green")
	for _, c := range debs() {
		if got := in(c, "cat /ramdisk/word"); got != "kept" {
			t.Errorf("%s has lost what was on its ramdisk: %q", c.Name, got)
		}
	}

	// The host goes down and comes up again: nothing runs, nothing is mounted,
	// and the boot id is another.
	s.stop(os.Interrupt)
	for _, c := range s.instances() {
		s.incus("stop", "--force", "--project", c.Project, c.Name)
	}
	s.inLab("sh", "-c", "umount "+s.path("state/ramdisks")+"/*")
	s.boot = "11111111-2222-3333-4444-555555555555"
	s.start()
	s.settled(strings.TrimSpace(s.git("rev-parse", "HEAD")))
	inside("green")
	for _, c := range debs() {
		if got := in(c, "ls /ramdisk"); got != "" {
			t.Errorf("%s: on a new ramdisk there is %s", c.Name, got)
		}
	}
	if c := s.named("job"); c.Status != "Stopped" {
		t.Errorf("what has no autostart is %s after the restart", c.Status)
	}
	if c := s.container("job"); c.State != reconcile.StateStopped {
		t.Errorf("what has no autostart is %s: %s", c.State, c.Reason)
	}
	s.write("projects/web/none.cue", "project: comment: \"of something else\"\n")
	s.settled(s.push())
	if c := s.named("job"); c.Status != "Stopped" {
		t.Errorf("it is %s after a commit that changes something else", c.Status)
	}
	s.write("projects/web/job.cue", "containers: job: {autostart: false, environment_vars: COLOUR: \"red\"}\n")
	s.settled(s.push())
	if c := s.named("job"); c.Status != "Running" {
		t.Errorf("it is %s after a commit that changes it", c.Status)
	}
	s.on(s.named("job"), "stop", "--force", "%") // not the host's doing
	s.eventually("it is put back", func() bool { return s.named("job").Status == "Running" })
}

// TestSecretsAndTokens: an environment value that only the node can read, and
// a plan from elsewhere by a token that allows nothing else.
func TestSecretsAndTokens(t *testing.T) {
	s := newSite(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var sealed strings.Builder
	armored := armor.NewWriter(&sealed)
	w, err := age.Encrypt(armored, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(w, "very secret")
	if err = errors.Join(err, w.Close(), armored.Close(), os.WriteFile(s.path("age"), []byte(identity.String()+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	node, err := os.ReadFile(s.path("agent.cue"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("agent.cue"), append(node, "age_identities: \""+s.path("age")+"\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("servers/lab.cue", fmt.Sprintf("incus: project_prefix: %q\ntokens: ci: {value_sha256: \"%x\", allow: [\"plan\"]}\n", s.scope.Prefix, sha256.Sum256([]byte("let me plan"))))
	s.write("projects/web/app.cue", "containers: app: environment_vars: PASSWORD: age: \"\"\"\n\t"+strings.ReplaceAll(strings.TrimSpace(sealed.String()), "\n", "\n\t")+"\n\t\"\"\"\naliases: app: container: \"app\"\n")
	commit := s.push()
	s.start()
	s.settled(commit)
	s.eventually("the container has the secret", func() bool { _, body := s.get("app"); return strings.Contains(body, `"PASSWORD":"very secret"`) })

	plan := func(token string, args ...string) (string, error) {
		bin, err := programs()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(bin, "swage"), append([]string{
			"plan", "--node", s.url("api"), "--ca", s.path("state/ca.crt"), s.path("work"),
		}, args...)...)
		cmd.Env = append(os.Environ(), "SWAGE_TOKEN="+token)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := plan("let me plan"); err != nil || out != "asking the agent for the plan of "+s.path("work")+"\nno changes\n" {
		t.Errorf("the same files: %v\n%s", err, out)
	}
	s.write("projects/web/more.cue", "containers: more: id: \"890abcdef12345678901cdef\"\n")
	if out, err := plan("let me plan"); err != nil || !strings.Contains(out, "+ create container web/more (tiny/1, running) (live)") {
		t.Errorf("one more file: %v\n%s", err, out)
	}
	if out, err := plan("let me in"); err == nil || !strings.Contains(out, "a token that allows plan is needed") {
		t.Errorf("a wrong token: %v\n%s", err, out)
	}
	if status, _ := s.get("api"); status != 404 {
		t.Errorf("the root of the API answers %d", status)
	}
	for _, place := range []string{"agent.log", "sock"} {
		if b, _ := os.ReadFile(s.path(place)); strings.Contains(string(b), "very secret") || strings.Contains(string(b), "let me plan") {
			t.Errorf("a secret stands in %s", place)
		}
	}
	if r, err := json.Marshal(s.status()); err != nil || strings.Contains(string(r), "very secret") {
		t.Errorf("a secret stands in the status: %s %v", r, err)
	}
}
