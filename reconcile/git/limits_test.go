package git

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"swage/edge/limit"
)

// tokened serves a repository over HTTP to tokens that say what they allow:
// "push-1" and the like. Handling counts who is being served.
func tokened(t *testing.T, bare string) (s *Server, url string, handling *atomic.Int64) {
	s = NewServer(bare, func(token, right string) (Visitor, bool) {
		has, _, ok := strings.Cut(token, "-")
		return Visitor{Name: token}, ok && has == right
	}, slog.New(slog.DiscardHandler))
	handling = new(atomic.Int64)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handling.Add(1)
		defer handling.Add(-1)
		_ = http.NewResponseController(w).EnableFullDuplex() // as the edge does
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	return s, h.URL, handling
}

// begun is more of a request than is read ahead, and not all of it: the same
// commit wanted again and again, or many branches to be made.
func begun(t *testing.T, bare, service string) []byte {
	var b bytes.Buffer
	commit := head(t, bare)
	if service == "upload-pack" {
		b.WriteString(line("want %s\n", commit) + "0000")
		for b.Len() <= ahead {
			b.WriteString(line("have %040x\n", b.Len()))
		}
		return b.Bytes()
	}
	// A branch, and a pack of one blob of 900,000 bytes (gitformat-pack(5)).
	b.WriteString(line("%040d %s refs/heads/b\x00report-status", 0, commit) + "0000")
	b.WriteString("PACK\x00\x00\x00\x02\x00\x00\x00\x01")
	size := 900_000
	b.Write([]byte{0x80 | 3<<4 | byte(size&15), 0x80 | byte(size>>4&127), 0x80 | byte(size>>11&127), byte(size >> 18)})
	z, err := zlib.NewWriterLevel(&b, zlib.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(make([]byte, 2*ahead)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stall sends the beginning of a request of git, and holds the connection.
func stall(t *testing.T, url, token, service string, body []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /fleet/git-%s HTTP/1.1\r\nHost: git\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-git-%[1]s-request\r\nContent-Length: 1000000\r\n\r\n", service, token)
	if _, err := c.Write(body); err != nil {
		t.Fatal(err)
	}
	return c
}

// pushOver clones, commits and pushes with the stock git.
func pushOver(t *testing.T, url, token string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	for _, args := range [][]string{
		{"clone", "--quiet", url + "/fleet", dir},
		{"-C", dir, "commit", "--quiet", "--allow-empty", "--message=" + token},
		{"-C", dir, "push", "--quiet", "origin", "HEAD:refs/heads/" + token},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "http.extraHeader=Authorization: Bearer " + token}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestS14StalledReadersStopNoPush: requests whose bodies do not come, with a token
// that may read or one that may push, leave all to others.
func TestS14StalledReadersStopNoPush(t *testing.T) {
	for _, service := range []string{"upload-pack", "receive-pack"} {
		t.Run(service, func(t *testing.T) {
			bare, _ := fixture(t)
			_, url, handling := tokened(t, bare)
			token := map[string]string{"upload-pack": "read-1", "receive-pack": "push-1"}[service]
			for range 24 {
				stall(t, url, token, service, []byte("00"))
			}
			until(t, "the requests", func() bool { return handling.Load() >= 8 })
			pushOver(t, url, "push-2")
		})
	}
}

// TestS14SlotsOfOneToken: what a token holds by bodies that stop in the middle is
// bounded for each token, and reading takes nothing from pushing.
func TestS14SlotsOfOneToken(t *testing.T) {
	bare, _ := fixture(t)
	s, url, _ := tokened(t, bare)
	wants, makes := begun(t, bare, "upload-pack"), begun(t, bare, "receive-pack")
	for i := range 10 {
		stall(t, url, "read-1", "upload-pack", wants)
		stall(t, url, "push-1", "receive-pack", makes)
		until(t, "gits that are served", func() bool { return s.slots.taken() == 2*min(i+1, atOnceAlike) })
	}
	refused := func(token, service string, want int) {
		t.Helper()
		c := stall(t, url, token, service, map[string][]byte{"upload-pack": wants, "receive-pack": makes}[service])
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != want || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v, %v, want %d", token, res, err, want)
		}
	}
	refused("read-1", "upload-pack", http.StatusTooManyRequests)
	refused("push-1", "receive-pack", http.StatusTooManyRequests)
	pushOver(t, url, "push-2")
	for range atOnceAlike {
		stall(t, url, "read-2", "upload-pack", wants)
	}
	until(t, "gits that are served", func() bool { return s.slots.taken() == 3*atOnceAlike })
	refused("read-3", "upload-pack", http.StatusServiceUnavailable)
	s.slots.mu.Lock()
	pushing := s.slots.all["receive-pack"]
	s.slots.mu.Unlock()
	if pushing != atOnceAlike {
		t.Errorf("%d push", pushing)
	}
}

// TestS14StalledOverSSH: who neither sends nor reads is cut, though the
// connection itself lives, and lets go of git.
func TestS14StalledOverSSH(t *testing.T) {
	for _, command := range []string{"git-receive-pack", "git-upload-pack"} {
		t.Run(command, func(t *testing.T) {
			bare, _ := fixture(t)
			d := serveOwn(t, bare, func(s *SSH) { s.look, s.ahead = 20*time.Millisecond, limit.Stall+time.Second })
			key, err := os.ReadFile(filepath.Join(d.dir, "push"))
			if err != nil {
				t.Fatal(err)
			}
			signer, err := gossh.ParsePrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.dialFrom("127.0.0.1", signer)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			session, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := session.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			if err := session.Start(command + " '/fleet'"); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Wait() }()
			select {
			case <-ended:
			case <-time.After(30 * time.Second):
				t.Fatal("the connection is not cut")
			}
			until(t, "git", func() bool { return d.Server.slots.taken() == 0 })
		})
	}
}

func (d *sshd) dialFrom(from string, key gossh.Signer) (*gossh.Client, error) {
	raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", d.addr)
	if err != nil {
		return nil, err
	}
	c, chans, reqs, err := gossh.NewClientConn(raw, d.addr, &gossh.ClientConfig{
		User: sshUser, Auth: []gossh.AuthMethod{gossh.PublicKeys(key)}, HostKeyCallback: gossh.InsecureIgnoreHostKey(),
		BannerCallback: func(message string) error { _, err := d.log.Write([]byte("banner: " + message)); return err },
	})
	if err != nil {
		raw.Close()
		return nil, err
	}
	return gossh.NewClient(c, chans, reqs), nil
}

// TestS5KeysOfSSH: connections that show no good key are guesses; a client that
// made too many is told to wait, and others are not.
func TestS5KeysOfSSH(t *testing.T) {
	bare, _ := fixture(t)
	d := serveOwn(t, bare, func(s *SSH) { s.Server.Guesses = limit.NewGuesses() })
	text, err := os.ReadFile(filepath.Join(d.dir, "read"))
	if err != nil {
		t.Fatal(err)
	}
	good, err := gossh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	let := func(from string, key gossh.Signer) bool {
		c, err := d.dialFrom(from, key)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	for i := range limit.ClientBurst + 1 {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := gossh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if !let("127.0.66.1", good) != (i == limit.ClientBurst) {
			t.Fatalf("after %d others the right key: %v", i, i == limit.ClientBurst)
		}
		if let("127.0.66.1", signer) {
			t.Fatal("a wrong key is let in")
		}
		// Its failure is counted once the connection has ended.
		until(t, "the end of the connection", func() bool { return d.count().Counts().Open == 0 })
	}
	if said := d.log.String(); !strings.Contains(said, "banner: swage: "+guessed) {
		t.Errorf("the client is not told: %s", said)
	}
	if !let("127.0.67.1", good) {
		t.Error("another client is refused")
	}
}

// TestS5TokensOfGit: wrong tokens are guesses; none at all, and one that allows
// something else, are not.
func TestS5TokensOfGit(t *testing.T) {
	bare, _ := fixture(t)
	s, _, _ := tokened(t, bare)
	s.Guesses = limit.NewGuesses()
	ask := func(from, token, service string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/fleet/info/refs?service=git-"+service, nil)
		r.RemoteAddr = from + ":1"
		if token != "" {
			r.SetBasicAuth("x", token)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	for range 3 * limit.ClientBurst {
		for _, row := range [][2]string{{"", "upload-pack"}, {"read-1", "receive-pack"}, {"wrong", "upload-pack"}} {
			if w := ask("192.0.2.1", row[0], row[1]); w.Code != http.StatusUnauthorized {
				t.Fatalf("%v: %d", row, w.Code)
			}
		}
	}
	for i := range limit.ClientBurst - 1 { // and the one above, which counts once
		if w := ask("192.0.2.1", fmt.Sprint("guess", i), "upload-pack"); w.Code != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i, w.Code)
		}
	}
	for _, token := range []string{"guess", "read-1"} {
		if w := ask("192.0.2.1", token, "upload-pack"); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", token, w.Code)
		}
	}
	if w := ask("192.0.2.2", "read-1", "upload-pack"); w.Code != http.StatusOK {
		t.Errorf("another client: %d", w.Code)
	}
}

// TestS5Signatures: so are wrong signatures of webhooks, before their bodies are
// read.
func TestS5Signatures(t *testing.T) {
	woken := 0
	h := Webhook(func() map[string]string { return map[string]string{"gitlab": "secret"} }, func() { woken++ }, limit.NewGuesses())
	send := func(from, token string, body io.Reader) int {
		r := httptest.NewRequest("POST", "/hooks/git", body)
		r.RemoteAddr = from + ":1"
		if token != "" {
			r.Header.Set("X-Gitlab-Token", token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 3 * limit.ClientBurst {
		if got := send("192.0.2.1", "", nil); got != http.StatusUnauthorized {
			t.Fatalf("without a signature: %d", got)
		}
	}
	for i := range limit.ClientBurst {
		if got := send("192.0.2.1", fmt.Sprint(i), nil); got != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i, got)
		}
	}
	if got := send("192.0.2.1", "secret", io.MultiReader(unread{t})); got != http.StatusTooManyRequests || woken != 0 {
		t.Errorf("after that: %d, woken %d times", got, woken)
	}
	if got := send("192.0.2.2", "secret", nil); got != http.StatusNoContent || woken != 1 {
		t.Errorf("another client: %d, woken %d times", got, woken)
	}
}

// unread must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) { u.t.Error("the body is read"); return 0, io.EOF }
