package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"swage/reconcile/api"
)

// How much more than idle the agent may take, and keep.
const (
	hostilePeak = 128 * mib
	hostileRest = 48 * mib
)

// victim is an agent in a process of its own, on the fake engine, that serves a
// container and takes pushes and plans.
type victim struct {
	*testing.T
	dir, port string
	app       string // port of what runs in the container
	agent     *exec.Cmd
	client    *http.Client
}

const victimFleet = "containers: app: id: \"111111111111111111111111\"\n"

// files are those that every tree has, so that a plan of it leaves alone what
// runs.
func (v *victim) files() map[string]string {
	return map[string]string{
		"servers/lab.cue":       fmt.Sprintf("listen: [\"127.0.0.1:%s\"]\ntokens: {p: {value: \"plans\", allow: [\"plan\"]}, a: {value: \"pushes\", allow: [\"push\"]}}\n", v.port),
		"projects/base/app.cue": victimFleet + "aliases: site: {container: \"app\", program: \"http\", port: " + v.app + "}\n",
	}
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	dir, err := os.MkdirTemp("", "hostile") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v := &victim{T: t, dir: dir, port: freePort(t), app: freePort(t)}
	// The hooks of the repository start the agent's own file, by that name. It is
	// built without the race detector, which alone takes more memory than allowed.
	program := v.path("swage")
	if out, err := exec.Command("go", "test", "-c", "-race=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	node := fmt.Sprintf("server: \"lab\"\nsource: push: true\nstate_dir: %q\nsocket: %q\ntoken: {env: \"NODE_TOKEN\"}\n", v.path("state"), v.path("s"))
	if err := os.WriteFile(v.path("agent.cue"), []byte(node), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(v.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	v.agent = exec.Command(program, "agent", "--config", v.path("agent.cue"))
	v.agent.Env = append(os.Environ(), "INCUS_FILE="+v.path("incus.json"), "NODE_TOKEN=node", "HOME="+dir)
	v.agent.Stdout, v.agent.Stderr = log, log
	if err := v.agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.stop)
	v.eventually("the agent answers", func() bool {
		_, err := api.Socket(v.path("s")).Status(t.Context())
		return err == nil
	})
	if out, err := v.push("first", one("README.md", "")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ca, err := os.ReadFile(v.path("state/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	v.backend()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	v.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, "127.0.0.1:"+v.port)
		},
	}}
	t.Cleanup(v.client.CloseIdleConnections)
	return v
}

// backend answers where the container runs, which is on loopback.
func (v *victim) backend() {
	v.Helper()
	var l net.Listener
	v.eventually("the container runs", func() bool {
		r, err := api.Socket(v.path("s")).Status(v.Context())
		if err != nil || len(r.Containers) == 0 || r.Containers[0].Address == "" {
			return false
		}
		l, err = net.Listen("tcp", net.JoinHostPort(r.Containers[0].Address, v.app))
		return err == nil
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	go func() { _ = srv.Serve(l) }()
	v.Cleanup(func() { srv.Close() })
}

func (v *victim) stop() {
	_ = v.agent.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- v.agent.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = v.agent.Process.Kill()
		<-ended
	}
	if v.Failed() {
		log, _ := os.ReadFile(v.path("log"))
		v.Logf("the agent's log ends with\n%s", log[max(0, len(log)-4000):])
	}
}

func (v *victim) path(name string) string { return filepath.Join(v.dir, name) }

func (v *victim) eventually(what string, is func() bool) {
	v.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			v.Fatalf("not within 30 s: %s", what)
		}
	}
}

// push makes a commit of the tree, which follows no other, and pushes it. Each
// text is one blob, whatever its names.
func (v *victim) push(branch string, files map[string]string) (string, error) {
	v.Helper()
	work := v.path("work.git")
	git := func(in io.Reader, args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-C", work}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		cmd.Stdin = in
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		v.Fatal(err)
	}
	if out, err := git(nil, "init", "--quiet", "--bare"); err != nil {
		v.Fatalf("%v\n%s", err, out)
	}
	var stream bytes.Buffer
	marks := map[string]int{}
	for _, tree := range []map[string]string{v.files(), files} {
		for _, text := range tree {
			if marks[text] == 0 {
				marks[text] = len(marks) + 1
				fmt.Fprintf(&stream, "blob\nmark :%d\ndata %d\n%s\n", marks[text], len(text), text)
			}
		}
	}
	fmt.Fprintf(&stream, "commit refs/heads/%s\ncommitter a <a@example.com> 1700000000 +0000\ndata 1\nx\n", branch)
	for _, tree := range []map[string]string{v.files(), files} {
		for name, text := range tree {
			fmt.Fprintf(&stream, "M 100644 :%d %s\n", marks[text], name)
		}
	}
	if out, err := git(&stream, "fast-import", "--quiet", "--force"); err != nil {
		v.Fatalf("%v\n%s", err, out)
	}
	return git(nil, "push", "--quiet", "--force", v.path("state/fleet.git"), branch+":main")
}

// zipOf is the tree as a body. Repeated texts are packed each, by hand once.
func (v *victim) zipOf(files map[string]string) *bytes.Buffer {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	packed := map[string][]byte{}
	for _, tree := range []map[string]string{v.files(), files} {
		for name, text := range tree {
			data, ok := packed[text]
			if !ok {
				data = deflated(strings.NewReader(text))
				packed[text] = data
			}
			w, err := z.CreateRaw(&zip.FileHeader{
				Name: name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE([]byte(text)),
				CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(text)),
			})
			if err == nil {
				_, err = w.Write(data)
			}
			if err != nil {
				v.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		v.Fatal(err)
	}
	return &b
}

func (v *victim) plan(ctx context.Context, body io.Reader) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.lab.example.com/api/v1/plan", body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer plans")
	resp, err := v.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// memory is a line of the agent's status in bytes.
func (v *victim) memory(line string) int64 {
	v.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.agent.Process.Pid))
	if err != nil {
		v.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	v.Fatalf("no %s", line)
	return 0
}

// fromHere has the kernel count the peak anew (proc(5), clear_refs).
func (v *victim) fromHere() {
	v.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", v.agent.Process.Pid), []byte("5"), 0); err != nil {
		v.Fatal(err)
	}
}

// others are a visitor and somebody with a good plan, who ask all the time.
type others struct {
	visits, plans atomic.Int64
	slowest       atomic.Int64 // visit, in ns
	stop          func()
}

func (v *victim) others() *others {
	o := &others{}
	ctx, cancel := context.WithCancel(v.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://site.lab.example.com/", nil)
			resp, err := v.client.Do(req)
			if err != nil {
				if ctx.Err() == nil {
					v.Errorf("a visitor: %v", err)
				}
				return
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || string(text) != "hello" {
				v.Errorf("a visitor: %s %.100s", resp.Status, text)
				return
			}
			o.visits.Add(1)
			o.slowest.Store(max(o.slowest.Load(), int64(time.Since(start))))
			time.Sleep(2 * time.Millisecond)
		}
	})
	good := v.zipOf(one(app, "containers: good: {}\n")).Bytes()
	wg.Go(func() {
		for ctx.Err() == nil {
			status, text, err := v.plan(ctx, bytes.NewReader(good))
			switch {
			case ctx.Err() != nil:
			case err == nil && status == http.StatusTooManyRequests: // it comes again
				time.Sleep(50 * time.Millisecond)
			case err != nil || status != http.StatusOK || !strings.Contains(text, "create container web/good"):
				v.Errorf("a good plan: %d %.300s %v", status, text, err)
				return
			default:
				o.plans.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		}
	})
	o.stop = func() { cancel(); wg.Wait() }
	return o
}

// TestS3HostileInput: whatever is pushed or sent for a plan, the agent's memory
// stays within its bound, the answer says what is wrong, and others are served
// meanwhile. All of the corpus takes minutes, and its turn in make soak.
func TestS3HostileInput(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is not installed")
	}
	soak := os.Getenv("SWAGE_SOAK") != ""
	v := newVictim(t)
	fifo := v.path("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// What it needs at all times is there after some ordinary use.
	warm := v.others()
	v.eventually("others are served", func() bool { return warm.plans.Load() > 10 && warm.visits.Load() > 100 || t.Failed() })
	warm.stop()
	idle := v.memory("VmRSS")
	t.Logf("idle: %d MiB", idle/mib)
	t.Logf("%-50s %5s %8s %8s %9s  %s", "input", "as", "peak MiB", "time", "slowest", "verdict")
	var c corpus
	c.manyNames()
	c.plainData()
	c.expressions()
	c.secrets(fifo)
	for _, h := range c {
		if !h.quick && !soak {
			continue
		}
		v.sub(h.name, func(v *victim) {
			files := h.files()
			body := v.zipOf(files)
			v.attack(h.name, "plan", idle, h.want, func() (string, error) {
				status, text, err := v.plan(t.Context(), body)
				return verdict(status, h.want == "", text, err)
			})
			if h.want == "" || !soak && !h.push || len(files) > 100000 {
				return // it would be in force, or Git takes long to make it
			}
			v.attack(h.name, "push", idle, h.want, func() (string, error) {
				out, err := v.push("hostile", files)
				if err == nil {
					return "", fmt.Errorf("it was accepted: %s", out)
				}
				return out, nil
			})
		})
	}
	for _, h := range hostileBodies() {
		if !h.quick && !soak {
			continue
		}
		v.sub(h.name, func(v *victim) {
			body := h.body()
			v.attack(h.name, "body", idle, h.want, func() (string, error) {
				status, text, err := v.plan(t.Context(), body)
				if err == nil && (h.status != 0 && status != h.status || status == http.StatusOK) {
					err = fmt.Errorf("status %d: %.300s", status, text)
				}
				return text, err
			})
		})
	}
	v.sub("50 plans at once", func(v *victim) {
		v.attack("50 plans at once", "plan", idle, "", func() (string, error) { return "", v.atOnce(50) })
	})
	v.eventually("its memory goes back", func() bool { return v.memory("VmRSS") < idle+hostileRest })
	t.Logf("after all: %d MiB more than idle", (v.memory("VmRSS")-idle)/mib)
}

// sub is a subtest on the same agent.
func (v *victim) sub(name string, do func(*victim)) {
	v.Run(name, func(t *testing.T) {
		w := *v
		w.T = t
		do(&w)
	})
}

// verdict is what a plan was answered: accepted, or refused with what is wrong.
func verdict(status int, either bool, text string, err error) (string, error) {
	refused := status == http.StatusUnprocessableEntity || status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge
	if err == nil && !refused && (!either || status != http.StatusOK) {
		err = fmt.Errorf("status %d: %.300s", status, text)
	}
	if either && status == http.StatusOK {
		text = "accepted"
	}
	return text, err
}

// attack does it while others are served, and holds the agent to its bounds.
func (v *victim) attack(name, as string, idle int64, want string, do func() (string, error)) {
	v.Helper()
	o := v.others()
	v.fromHere()
	start := time.Now()
	text, err := do()
	took := time.Since(start)
	// Somebody else is served after it began, for certain.
	visits, plans := o.visits.Load(), o.plans.Load()
	v.eventually("others are served beside "+name, func() bool { return v.Failed() || o.visits.Load() > visits && o.plans.Load() > plans })
	o.stop()
	peak := v.memory("VmHWM") - idle
	found := false
	line := text
	if want != "" {
		want += "|is not evaluated within" // on a machine that is busy
	}
	for _, w := range strings.Split(want, "|") {
		if i := strings.Index(text, w); i >= 0 && !found {
			found, line = true, text[max(0, i-60):]
		}
	}
	v.Logf("%-50s %5s %8d %8s %9s  %.110q", name, as, peak/mib, took.Round(10*time.Millisecond), time.Duration(o.slowest.Load()).Round(time.Millisecond), line)
	switch {
	case err != nil:
		v.Errorf("%s as a %s: %v", name, as, err)
	case !found:
		v.Errorf("%s as a %s: %.500s\nwant %s", name, as, text, want)
	}
	if len(text) > mib {
		v.Errorf("%s as a %s: the answer has %d bytes", name, as, len(text))
	}
	if peak > hostilePeak {
		v.Errorf("%s as a %s: the agent took %d MiB more than idle", name, as, peak/mib)
	}
}

// atOnce sends plans of two megabytes at once. Each is served, refused or told
// to come again, some of which is not all.
func (v *victim) atOnce(n int) error {
	body := v.zipOf(treeOf(func(add func(name, text string)) {
		for i := range 60 {
			add(fmt.Sprintf("projects/web/f%d.json", i), fill(mib/4, fmt.Sprintf(`{"containers":{"c%d":{}},"a":[[]`, i), ",[]", "]}"))
		}
	})).Bytes()
	var wg sync.WaitGroup
	var refused, again atomic.Int64
	failed := make(chan error, n)
	for range n {
		wg.Go(func() {
			status, text, err := v.plan(v.Context(), bytes.NewReader(body))
			switch {
			case err == nil && status == http.StatusUnprocessableEntity:
				refused.Add(1)
			case err == nil && status == http.StatusTooManyRequests:
				again.Add(1)
			default:
				failed <- fmt.Errorf("status %d: %.300s %w", status, text, err)
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		return <-failed
	}
	if refused.Load() < 2 || again.Load() == 0 {
		return fmt.Errorf("%d were looked at and %d told to come again", refused.Load(), again.Load())
	}
	return nil
}
