package git

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// sshd is an SSH of ours on loopback, for the repository of a fixture, with
// two keys: one that may push and one that may read.
type sshd struct {
	*SSH
	addr, dir string
	log       *lines
	allowed   atomic.Pointer[map[string]string] // right by key
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serveOwn(t testing.TB, bare string, change ...func(*SSH)) *sshd {
	t.Helper()
	d := &sshd{dir: t.TempDir(), log: &lines{}}
	host, err := HostKey(filepath.Join(d.dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]string{}
	for _, right := range []string{"push", "read", "nothing"} {
		keygen(t, filepath.Join(d.dir, right))
		text, err := os.ReadFile(filepath.Join(d.dir, right+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		key, _, _, _, err := gossh.ParseAuthorizedKey(text)
		if err != nil {
			t.Fatal(err)
		}
		allowed[string(key.Marshal())] = right
	}
	d.allowed.Store(&allowed)
	log := slog.New(slog.NewTextHandler(d.log, nil))
	d.SSH = &SSH{Server: NewServer(bare, nil, log), Host: host, Log: log, Allow: func(key []byte, right string) (Visitor, bool) {
		has := (*d.allowed.Load())[string(key)]
		return Visitor{Name: has + "er"}, has == right
	}}
	for _, c := range change {
		c(d.SSH)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	write(t, d.dir, "known_hosts", "* "+string(gossh.MarshalAuthorizedKey(host.PublicKey())))
	return d
}

// command is the stock ssh with one of the keys.
func (d *sshd) command(key string) string {
	return "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=" +
		filepath.Join(d.dir, "known_hosts") + " -i " + filepath.Join(d.dir, key)
}

func (d *sshd) url() string { return "ssh://git@" + d.addr + "/fleet" }

// try runs the stock git with a key, and tells whether it went well.
func (d *sshd) try(t testing.TB, key, dir string, args ...string) (said string, ok bool) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_SSH_COMMAND="+d.command(key))
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// ssh runs the stock ssh itself.
func (d *sshd) ssh(key string, args ...string) (said string, code int) {
	host, port, _ := net.SplitHostPort(d.addr)
	words := append(strings.Fields(d.command(key))[1:], "-p", port, "git@"+host)
	cmd := exec.Command("ssh", append(words, args...)...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// [G2] Stock clients fetch and push, each as far as its key allows.
func TestStockGitOverSSH(t *testing.T) {
	bare, work := fixture(t)
	d := serveOwn(t, bare)
	clone := filepath.Join(d.dir, "clone")
	for _, c := range []struct {
		key  string
		ok   bool
		says string
		args []string
	}{
		{"read", true, "", []string{"clone", "-q", d.url(), clone}},
		{"push", true, "", []string{"-c", "protocol.version=1", "clone", "-q", d.url() + ".git", clone + "1"}},
		{"push", true, "", []string{"-c", "protocol.version=0", "ls-remote", d.url()}},
		{"push", true, "", []string{"ls-remote", strings.Replace(d.url(), "/fleet", "//fleet", 1) + "/.."}},
		{"push", true, "main -> other", []string{"-C", work, "push", d.url(), "main:other"}},
		{"push", true, "", []string{"-C", work, "push", "-q", d.url(), ":other"}},
		{"read", false, "a key that allows push is needed", []string{"-C", work, "push", d.url(), "main:other"}},
		{"nothing", false, "Permission denied (publickey)", []string{"ls-remote", d.url()}},
		{"push", false, "the repository is at /fleet", []string{"ls-remote", d.url() + "s"}},
		{"push", false, "the repository is at /fleet", []string{"ls-remote", "ssh://git@" + d.addr + "/../../fleet"}},
		{"push", false, "the user here is git", []string{"ls-remote", "ssh://ann@" + d.addr + "/fleet"}},
		{"push", false, "git archive is not served", []string{"archive", "--remote", d.url(), "main"}},
	} {
		said, ok := d.try(t, c.key, d.dir, c.args...)
		if strings.HasSuffix(c.args[len(c.args)-1], "/..") { // git itself sends the path as it is
			c.ok, c.says = false, "the repository is at /fleet"
		}
		if ok != c.ok || !strings.Contains(said, c.says) {
			t.Errorf("%s: %v: %t\n%s", c.key, c.args, ok, said)
		}
	}
	if head(t, clone) != head(t, work) {
		t.Error("the clone is another one")
	}
}

// What is not git is refused with a sentence, and nothing of it runs.
func TestOnlyGitOverSSH(t *testing.T) {
	bare, _ := fixture(t)
	d := serveOwn(t, bare)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 1, "swage: only git is served here: git clone ssh://"},
		{[]string{"-tt"}, 255, "PTY allocation request failed"},
		{[]string{"touch", filepath.Join(d.dir, "made")}, 1, "only git is served here"},
		{[]string{"git-upload-pack '/fleet'; touch " + filepath.Join(d.dir, "made")}, 1, "the repository is at /fleet"},
		{[]string{"git-upload-pack --strict /fleet"}, 1, "the repository is at /fleet"},
		{[]string{"-s", "sftp"}, 255, "subsystem request failed"},
		{[]string{"-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"}, 255, "remote port forwarding failed"},
		{[]string{"-W", "127.0.0.1:1"}, 255, "stdio forwarding failed"},
	} {
		said, code := d.ssh("push", c.args...)
		if code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%v: exit code %d\n%s", c.args, code, said)
		}
	}
	if _, err := os.Stat(filepath.Join(d.dir, "made")); err == nil {
		t.Error("a command ran")
	}
}

// A key that is taken away opens nothing more, on connections that it opened
// before either.
func TestARevokedKeyIsRefusedAtOnce(t *testing.T) {
	bare, _ := fixture(t)
	d := serveOwn(t, bare)
	client := d.dial(t, "push")
	d.allowed.Store(&map[string]string{})
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput("git-upload-pack '/fleet'")
	if err == nil || !strings.Contains(string(out), "a key that allows read is needed") {
		t.Errorf("%v: %s", err, out)
	}
	if said, ok := d.try(t, "push", d.dir, "ls-remote", d.url()); ok {
		t.Errorf("it still opens: %s", said)
	}
	until(t, "a line of the log about whom it refused", func() bool { // the client may be told first
		return strings.Contains(d.log.String(), "not let in") && strings.Contains(d.log.String(), "key=SHA256:")
	})
}

func (d *sshd) dial(t testing.TB, key string) *gossh.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, key))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	client, err := gossh.Dial("tcp", d.addr, &gossh.ClientConfig{
		User: "git", Auth: []gossh.AuthMethod{gossh.PublicKeys(signer)}, HostKeyCallback: gossh.FixedHostKey(d.Host.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// [G2] A connection that breaks ends the git that served it, and what that had
// in quarantine goes.
func TestABrokenPushLeavesNothing(t *testing.T) {
	bare, work := fixture(t)
	d := serveOwn(t, bare)
	client := d.dial(t, "push")
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("git-receive-pack '/fleet'"); err != nil {
		t.Fatal(err)
	}
	if _, err := packet(out); err != nil {
		t.Fatal(err)
	}
	// Half a pack.
	_, err = io.WriteString(in, line("%s %s refs/heads/other\x00report-status\n", strings.Repeat("0", 40), head(t, work))+"0000PACK\x00\x00\x00\x02\x00\x00\x01\x00")
	if err != nil {
		t.Fatal(err)
	}
	quarantines := func() int {
		found, err := filepath.Glob(filepath.Join(bare, "objects", "tmp_objdir-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	until(t, "the quarantine", func() bool { return quarantines() == 1 })
	client.Close()
	until(t, "the end of git", func() bool { return d.Server.slots.taken() == 0 })
	if n := quarantines(); n != 0 {
		t.Errorf("%d quarantines are left", n)
	}
}

// until waits at most half a minute.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// Who only holds the door makes room for the next.
func TestHalfOpenConnectionsMakeRoom(t *testing.T) {
	bare, _ := fixture(t)
	d := serveOwn(t, bare)
	var held []net.Conn
	for range 5 * sshCaps.Client {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		held = append(held, c)
	}
	until(t, "the end of the oldest", func() bool { c := d.count().Counts(); return c.Open == sshCaps.Client && c.Closed == 4*sshCaps.Client })
	if said, ok := d.try(t, "read", d.dir, "ls-remote", d.url()); !ok {
		t.Errorf("nobody gets in beside them: %s", said)
	}
	for _, c := range held {
		c.Close()
	}
	until(t, "an empty door", func() bool { return d.count().Counts().Open == 0 })
}

func TestWaitingHasAnEnd(t *testing.T) {
	bare, _ := fixture(t)
	d := serveOwn(t, bare, func(s *SSH) { s.greeting = 300 * time.Millisecond })
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// It drips, so that no single read takes long.
	go func() {
		for _, b := range []byte(strings.Repeat("SSH-2.0-", 100)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadAll(c); isTimeout(err) {
		t.Error("a stranger may hold on")
	}
	// With a key and without a command.
	idle := make(chan error, 1)
	client := d.dial(t, "push")
	go func() { idle <- client.Wait() }()
	select {
	case <-idle:
	case <-time.After(30 * time.Second):
		t.Error("who asks for nothing may hold on")
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestHostKeyStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host")
	first, err := HostKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	second, err := HostKey(file)
	if err != nil || !bytes.Equal(first.PublicKey().Marshal(), second.PublicKey().Marshal()) {
		t.Errorf("another one: %v", err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := HostKey(file); err == nil || !strings.Contains(err.Error(), "make it 0600") {
		t.Errorf("others may read it: %v", err)
	}
	if err := os.WriteFile(file, []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := HostKey(file); err == nil || !strings.Contains(err.Error(), "take it away") {
		t.Errorf("it is broken: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestOrder(t *testing.T) {
	for command, want := range map[string]string{
		"git-upload-pack '/fleet.git'": "upload-pack",
		"git-upload-pack 'fleet'":      "upload-pack",
		"git-receive-pack /fleet":      "receive-pack",
		"git-receive-pack 'fleet.git'": "receive-pack",
	} {
		if got, err := order(command); got != want || err != nil {
			t.Errorf("%q: %q, %v", command, got, err)
		}
	}
	for _, command := range []string{
		"", "git-upload-pack", "git-upload-pack ", "git-upload-pack '", "git-upload-pack ''", "git-upload-pack 'fleet", "git-upload-pack fleet'",
		"git-upload-pack ''fleet''", "git-upload-pack '//fleet'", "git-upload-pack '/fleet/'", "git-upload-pack  'fleet'", "git-upload-pack 'fleet' ",
		"git-upload-pack 'fleet' 'fleet'", "git-upload-pack --strict fleet", "git-upload-pack '/fleet\x00'", "git-upload-pack '/fleet\n'",
		"git-upload-pack '../state/fleet.git'", "git-upload-archive '/fleet'", "git upload-pack '/fleet'", "GIT-upload-pack 'fleet'", " git-upload-pack fleet",
		"git-shell", "git-upload-pack \"fleet\"", "git-upload-pack 'Fleet'", "sh -c git-upload-pack",
	} {
		if got, err := order(command); err == nil {
			t.Errorf("%q is %q", command, got)
		}
	}
}

// FuzzOrder: what is accepted names a service and this repository, and holds
// nothing else.
func FuzzOrder(f *testing.F) {
	f.Add("git-upload-pack '/fleet.git'")
	f.Add("git-receive-pack fleet")
	f.Add("git-upload-archive '/fleet'")
	f.Add("git-upload-pack 'fl'\\''eet'")
	f.Fuzz(func(t *testing.T, command string) {
		service, err := order(command)
		if err != nil {
			if service != "" || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%q: %q, %v", command, service, err)
			}
			return
		}
		rest := strings.Trim(strings.TrimPrefix(command, "git-"+service+" "), "'/")
		if service != "upload-pack" && service != "receive-pack" || rest != "fleet" && rest != "fleet.git" {
			t.Errorf("%q: %q", command, service)
		}
	})
}
