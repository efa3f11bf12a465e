package git

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// web serves the repositories of a folder as a forge does: the stock backend
// behind TLS of an authority of its own and a password. Nil url refuses all.
type web struct {
	*httptest.Server
	ca       string // file
	requests chan string
}

func serveWeb(t testing.TB, root string) *web {
	t.Helper()
	core := strings.TrimSpace(run(t, root, "--exec-path"))
	backend := &cgi.Handler{
		Path: filepath.Join(core, "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"},
	}
	w := &web{requests: make(chan string, 10000)}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		if name != "deploy" || subtle.ConstantTimeCompare([]byte(password), []byte("secret")) != 1 {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		select {
		case w.requests <- r.Method + " " + r.URL.Path:
		default:
		}
		backend.ServeHTTP(rw, r)
	}))
	w.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.StartTLS()
	t.Cleanup(w.Close)
	w.ca = writeCA(t, w.Server)
	return w
}

func writeCA(t testing.TB, s *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pemOf(s.Certificate().Raw), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func (w *web) options(t testing.TB) RemoteOptions {
	return RemoteOptions{
		URL: w.URL + "/fleet.git", Branch: "main", Username: "deploy", CA: w.ca,
		Password: func() (string, error) { return "secret", nil },
		Every:    10 * time.Millisecond, State: filepath.Join(t.TempDir(), "state"), Log: slog.New(slog.DiscardHandler),
	}
}

func newRemote(t testing.TB, o RemoteOptions) *Remote {
	t.Helper()
	r, err := NewRemote(o)
	if err != nil {
		t.Fatal(err)
	}
	if h, ok := r.to.(*https); ok {
		t.Cleanup(h.client.CloseIdleConnections)
	}
	return r
}

// daemon is an sshd of our own, on loopback, that lets one key in for the one
// command that Git needs.
type daemon struct {
	addr, dir string
	key       string   // file of the client
	known     []string // its host key, pinned
	stop      func()
}

func serveSSH(t testing.TB) *daemon {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("needs sshd of the package openssh-server: `make test` installs it")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" {
		if err := os.Mkdir("/run/sshd", 0o755); err == nil {
			t.Cleanup(func() { os.Remove("/run/sshd") })
		}
	}
	d := &daemon{dir: t.TempDir()}
	d.key = filepath.Join(d.dir, "client")
	keygen(t, d.key)
	public, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, d.dir, "authorized", string(public))
	d.addr = freeAddr(t)
	d.start(t, "host")
	return d
}

func keygen(t testing.TB, file string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start serves with the host key of that name, made where it is not there.
func (d *daemon) start(t testing.TB, host string) {
	t.Helper()
	key := filepath.Join(d.dir, host)
	if _, err := os.Stat(key); err != nil {
		keygen(t, key)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(d.addr)
	if d.known == nil {
		d.known = []string{"[127.0.0.1]:" + port + " " + strings.TrimSpace(string(public))}
	}
	write(t, d.dir, "config", fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nForceCommand git-shell -c \"$SSH_ORIGINAL_COMMAND\"\n",
		d.addr, key, filepath.Join(d.dir, "authorized")))
	var said bytes.Buffer
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(d.dir, "config"))
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once bool
	d.stop = func() {
		if !once {
			once = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(d.stop)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", d.addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			d.stop()
			t.Fatalf("sshd does not serve: %v\n%s", err, said.String())
		}
	}
}

func (d *daemon) options(t testing.TB, bare string) RemoteOptions {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return RemoteOptions{
		URL: "ssh://" + me.Username + "@" + d.addr + bare, Branch: "main", SSHKey: d.key, KnownHosts: d.known,
		Every: 10 * time.Millisecond, State: filepath.Join(t.TempDir(), "state"), Log: slog.New(slog.DiscardHandler),
	}
}
