package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"swage/edge/certs"
)

// held are sockets that somebody holds for agents that follow each other, as
// systemd does, and what these agents serve: one container, whose application
// takes its time.
type held struct {
	dir    string
	url    string
	addr   string // of both sockets
	stream net.Listener
	files  []*os.File
	roots  *x509.CertPool
}

func hold(t *testing.T) *held {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	h := &held{dir: t.TempDir(), url: "https://site.lab.example.com/", roots: x509.NewCertPool()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.stream, h.addr = l, l.Addr().String()
	c, err := net.ListenPacket("udp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []interface{ File() (*os.File, error) }{l.(*net.TCPListener), c.(*net.UDPConn)} {
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		h.files = append(h.files, f)
	}
	c.Close() // a second reader would take what is for the agent
	t.Cleanup(func() {
		l.Close()
		for _, f := range h.files {
			f.Close()
		}
	})
	if err := os.Symlink(os.Args[0], filepath.Join(h.dir, "swage")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	for name, text := range map[string]string{
		"agent.cue":                  fmt.Sprintf("server: \"lab\"\nsource: {path: %q, branch: \"main\"}\nsocket: %q\nstate_dir: %q\n", h.dir+"/fleet", h.dir+"/s", h.dir+"/state"),
		"fleet/swage.cue":            "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n",
		"fleet/servers/lab.cue":      "",
		"fleet/projects/web/app.cue": "containers: app: id: \"111111111111111111111111\"\naliases: site: {container: \"app\", program: \"http\", port: " + port + "}\n",
	} {
		file := filepath.Join(h.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	git := exec.Command("sh", "-c", "git init -q -b main && git add -A && git -c user.name=a -c user.email=a@b commit -qm first")
	git.Dir, git.Env = filepath.Join(h.dir, "fleet"), append(os.Environ(), "HOME="+h.dir)
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	// The first agent makes the container, which has its address ever after.
	first := h.start(t)
	var at netip.Addr
	await(t, "the container is not made", func() bool {
		var engine struct{ Containers []struct{ Addr netip.Addr } }
		b, _ := os.ReadFile(filepath.Join(h.dir, "incus"))
		if json.Unmarshal(b, &engine) == nil && len(engine.Containers) == 1 {
			at = engine.Containers[0].Addr
		}
		return at.IsValid()
	})
	inside, err := net.Listen("tcp", net.JoinHostPort(at.String(), port))
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		_, _ = io.WriteString(w, "hello")
	})}
	go app.Serve(inside)
	t.Cleanup(func() { app.Close() })
	ca, err := certs.Open(filepath.Join(h.dir, "state", "ca"))
	if err != nil {
		t.Fatal(err)
	}
	h.roots.AppendCertsFromPEM(ca.PEM())
	await(t, "nothing is served", func() bool {
		c := h.client(t, false, true)
		defer c.CloseIdleConnections()
		_, err := h.ask(c)
		return err == nil
	})
	h.stop(t, first)
	return h
}

// await waits for a condition.
func await(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatal(otherwise)
		}
	}
}

// start runs the agent, whose Incus is a file.
func (h *held) start(t *testing.T) *exec.Cmd {
	t.Helper()
	child := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec ./swage agent --config agent.cue`)
	child.Dir, child.ExtraFiles = h.dir, h.files
	child.Env = append(os.Environ(), "HOME="+h.dir, "INCUS_FILE="+h.dir+"/incus", "GORACE=atexit_sleep_ms=0", fmt.Sprintf("LISTEN_FDS=%d", len(h.files)))
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	child.Stderr = log
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	return child
}

// stop ends an agent as systemd does.
func (h *held) stop(t *testing.T, agent *exec.Cmd) {
	t.Helper()
	begun := time.Now()
	defer func() { t.Logf("the agent ended within %v", time.Since(begun)) }()
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		log, _ := os.ReadFile(filepath.Join(h.dir, "log"))
		t.Fatalf("%v\n%s", err, log)
	}
}

// client is one over TCP, with connections that are used again or not.
func (h *held) client(t *testing.T, http2, keep bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", h.addr)
		},
		TLSClientConfig:   &tls.Config{RootCAs: h.roots},
		ForceAttemptHTTP2: http2,
		DisableKeepAlives: !keep,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// patient is a client of HTTP/3 that does what browsers do: a GET that was not
// answered over a connection that has ended is sent over the next one. What it
// does not forgive is silence.
type patient struct {
	*http3.Transport
	again *atomic.Int64
}

func (h *held) client3(t *testing.T, again *atomic.Int64) *http.Client {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	to, err := net.ResolveUDPAddr("udp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	q := &quic.Transport{Conn: socket}
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: h.roots},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 10 * time.Second, MaxIdleTimeout: time.Minute},
		Dial: func(ctx context.Context, _ string, c *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return q.DialEarly(ctx, to, c, qc)
		},
	}
	t.Cleanup(func() { _ = errors.Join(transport.Close(), q.Close(), socket.Close()) })
	return &http.Client{Transport: patient{transport, again}, Timeout: 20 * time.Second}
}

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for range 5 {
		res, err := p.Transport.RoundTrip(r)
		var reset *quic.StatelessResetError
		var refused *quic.TransportError
		var ended *http3.Error
		switch {
		case errors.As(err, &reset):
		case errors.As(err, &refused) && refused.ErrorCode == quic.ConnectionRefused:
		case errors.As(err, &ended) && (ended.ErrorCode == http3.ErrCodeNoError || ended.ErrorCode == http3.ErrCodeRequestRejected):
		default:
			return res, err
		}
		p.again.Add(1)
	}
	return nil, errors.New("five connections ended one after another")
}

// ask sends a request, which must be answered in full.
func (h *held) ask(c *http.Client) (*http.Response, error) {
	res, err := c.Get(h.url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || string(body) != "hello") {
		err = fmt.Errorf("%s %q", res.Status, body)
	}
	return res, err
}

// TestRestartFailsNobody: agents that are given the same sockets follow each
// other under load. Each request is answered, by the application: over TCP on
// the first try, over HTTP/3 on the connection after the one that ended.
func TestRestartFailsNobody(t *testing.T) {
	h := hold(t)
	var answered [4]atomic.Int64 // by version of HTTP
	var again atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	load := func(version int, c *http.Client) {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := h.ask(c); err != nil {
					t.Errorf("HTTP/%d: %v", version, err)
					return
				}
				answered[version].Add(1)
			}
		})
	}
	for range 2 {
		load(1, h.client(t, false, true))
		load(1, h.client(t, false, false))
		load(2, h.client(t, true, true))
		load(2, h.client(t, true, false))
	}
	for range 4 {
		load(3, h.client3(t, &again))
	}
	agent := h.start(t)
	for round := range 3 {
		var before [4]int64
		for version := range answered {
			before[version] = answered[version].Load()
		}
		await(t, fmt.Sprintf("round %d: few answers", round), func() bool {
			return t.Failed() || min(answered[1].Load()-before[1], answered[2].Load()-before[2], answered[3].Load()-before[3]) >= 50
		})
		if round < 2 {
			h.stop(t, agent)
			agent = h.start(t)
		}
	}
	close(stop)
	clients.Wait()
	h.stop(t, agent)
	t.Logf("%d + %d answers over TCP, %d over HTTP/3, of which %d on the second connection", answered[1].Load(), answered[2].Load(), answered[3].Load(), again.Load())
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(h.dir, "log"))
		t.Logf("%s", log)
	}
}

// TestCrashIsToldAtOnce: the agent that follows one which died sends its clients
// of HTTP/3 away, instead of leaving them to wait.
func TestCrashIsToldAtOnce(t *testing.T) {
	h := hold(t)
	agent := h.start(t)
	var again atomic.Int64
	c := h.client3(t, &again)
	if _, err := h.ask(c); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(h.dir, "state", "quic.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	agent = h.start(t)
	begun := time.Now()
	if _, err := h.ask(c); err != nil {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	t.Logf("answered after %v, on try %d", time.Since(begun), again.Load()+1)
	if again.Load() == 0 {
		t.Error("the connection outlived the agent")
	}
	h.stop(t, agent)
	info, err := os.Stat(filepath.Join(h.dir, "state", "quic.key"))
	if err != nil || info.Mode() != 0o600 || strings.TrimSpace(string(key)) == "" {
		t.Errorf("the key: %v, %v", info, err)
	}
	if now, _ := os.ReadFile(filepath.Join(h.dir, "state", "quic.key")); string(now) != string(key) {
		t.Error("the key changed")
	}
}
