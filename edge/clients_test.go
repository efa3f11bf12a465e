package edge

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// installed is a client of other people's. The lab installs those that the tests
// need, so only a machine without it lacks one.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: run `make test`, which installs it", name)
	}
	return path
}

// TestGit clones, pushes and clones again through the edge, with git's own
// server behind it.
func TestGit(t *testing.T) {
	git := installed(t, "git")
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, git, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("init", "--quiet", "--bare", "--initial-branch=main", "repository.git")
	run("-C", "repository.git", "config", "http.receivepack", "true")
	server := &cgi.Handler{
		Path:   strings.TrimSpace(run("--exec-path")) + "/git-http-backend",
		Env:    []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
		Stderr: io.Discard,
	}
	app := backend(t, "127.0.1.1", server.ServeHTTP)
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	url := "https://" + host + ":" + port + "/repository.git"
	https := []string{"-c", "http.sslVerify=false", "-c", "http.curloptResolve=" + host + ":" + port + ":127.0.0.1", "-c", "http.postBuffer=104857600"}

	run(append(https, "clone", "--quiet", url, "one")...)
	noise := make([]byte, 8<<20)
	for i := range noise { // packs badly
		noise[i] = byte(i*i>>7 ^ i)
	}
	if err := os.WriteFile(filepath.Join(dir, "one", "noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	run("-C", "one", "add", "noise")
	run("-C", "one", "commit", "--quiet", "--message=noise")
	run(append(https, "-C", "one", "push", "--quiet", "origin", "HEAD:main")...)
	run(append(https, "clone", "--quiet", url, "two")...)
	if got, err := os.ReadFile(filepath.Join(dir, "two", "noise")); err != nil || sha256.Sum256(got) != sha256.Sum256(noise) {
		t.Errorf("what was pushed is not what is cloned: %d bytes, %v", len(got), err)
	}
}

// TestNgtcp2 has another implementation of QUIC and HTTP/3 than ours download.
func TestNgtcp2(t *testing.T) {
	client := installed(t, "gtlsclient")
	const size = 4 << 20
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/file" || r.Header.Get("Forwarded") == "" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.CopyN(w, zeros{}, size)
	})
	// For an address the client names "localhost" whatever --sni says, so
	// that must be covered by the certificate that the host is.
	c := at(app.Addr(), nil)
	c.Zone = "localhost"
	s := serve(t, mustCompile(t, c))
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.Replace(strings.TrimPrefix(origin(app.Port()), "https://"), zone, c.Zone, 1)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, client, "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close", "--handshake-timeout=10s", "--timeout=10s",
		"--sni="+host, "--download="+dir, "127.0.0.1", port, "https://"+host+":"+port+"/file").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(filepath.Join(dir, "file")); err != nil || info.Size() != size || !strings.Contains(string(out), "[:status: 200]") {
		t.Errorf("%v, %v\n%s", info, err, out)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// visit tells its server, in one request, what a browser saw.
const visit = `<!doctype html><title>x</title><script>
(async () => {
	const seen = {}
	try {
		seen.fetched = await (await fetch("/data")).text()
		seen.protocol = performance.getEntriesByName(new URL("/data", location).href)[0].nextHopProtocol
		seen.echo = await new Promise((resolve, reject) => {
			const ws = new WebSocket("wss://" + location.host + "/echo")
			ws.onopen = () => ws.send("h\u00e9llo")
			ws.onmessage = (m) => { resolve(m.data); ws.close(4001, "bye") }
			ws.onerror = () => reject("the WebSocket failed")
		})
		seen.event = await new Promise((resolve, reject) => {
			const es = new EventSource("/events")
			es.onmessage = (m) => { resolve(m.data); es.close() }
			es.onerror = () => reject("the event stream failed")
		})
	} catch (e) { seen.error = String(e) }
	await fetch("/seen", {method: "POST", body: JSON.stringify(seen)})
})()
</script>`

// TestChromium: a browser that fetches, holds a WebSocket and reads an event
// stream, over each version of HTTP.
func TestChromium(t *testing.T) {
	chromium := installed(t, "chromium")
	seen := make(chan map[string]string, 1)
	closed := make(chan websocket.StatusCode, 1)
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, visit)
		case "/data":
			fmt.Fprint(w, "data")
		case "/echo":
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			kind, b, err := c.Read(r.Context())
			if err == nil {
				err = c.Write(r.Context(), kind, b)
			}
			if err == nil {
				_, _, err = c.Read(r.Context())
			}
			closed <- websocket.CloseStatus(err)
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: event\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/seen":
			var m map[string]string
			_ = json.NewDecoder(r.Body).Decode(&m)
			seen <- m
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	spki := sha256.Sum256(certificate().Leaf.RawSubjectPublicKeyInfo)
	for protocol, flag := range map[string]string{
		"http/1.1": "--disable-http2",
		"h2":       "--disable-quic",
		"h3":       "--origin-to-force-quic-on=" + host + ":" + port,
	} {
		t.Run(strings.ReplaceAll(protocol, "/", "-"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
				"--disable-background-networking", "--disable-component-update", "--user-data-dir="+t.TempDir(),
				"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(spki[:]),
				"--host-resolver-rules=MAP * 127.0.0.1", flag, "https://"+host+":"+port+"/")
			log := &lockedBuffer{}
			cmd.Stdout, cmd.Stderr = log, log
			cmd.WaitDelay = time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = cmd.Wait() }()
			select {
			case got := <-seen:
				if got["error"] != "" || got["fetched"] != "data" || got["echo"] != "héllo" || got["event"] != "event" || got["protocol"] != protocol {
					t.Errorf("the browser saw %v", got)
				}
			case <-ctx.Done():
				t.Fatalf("the browser told nothing\n%s", log.String())
			}
			select {
			case code := <-closed:
				if code != 4001 {
					t.Errorf("the WebSocket ended with %d", code)
				}
			case <-ctx.Done():
				t.Error("the WebSocket did not end")
			}
		})
	}
}
