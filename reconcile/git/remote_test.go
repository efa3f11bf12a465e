package git

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// tipIs fetches and compares.
func tipIs(t *testing.T, r *Remote, work string) {
	t.Helper()
	if err := r.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := r.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := head(t, work); s.Commit != want {
		t.Fatalf("the mirror is at %s, want %s", s.Commit, want)
	}
	want, err := os.ReadFile(filepath.Join(work, "swage.cue"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fs.ReadFile(s.Tree, "swage.cue"); string(got) != string(want) {
		t.Fatalf("swage.cue is %q, %v; want %q", got, err, want)
	}
}

func head(t testing.TB, work string) string {
	return strings.TrimSpace(run(t, work, "rev-parse", "HEAD"))
}

// eachRemote runs a test against a web server and against an SSH server.
func eachRemote(t *testing.T, test func(t *testing.T, bare, work string, o RemoteOptions)) {
	t.Run("https", func(t *testing.T) {
		bare, work := fixture(t)
		test(t, bare, work, serveWeb(t, filepath.Dir(bare)).options(t))
	})
	t.Run("ssh", func(t *testing.T) {
		bare, work := fixture(t)
		test(t, bare, work, serveSSH(t).options(t, bare))
	})
}

func TestRemoteIsFollowed(t *testing.T) {
	eachRemote(t, func(t *testing.T, bare, work string, o RemoteOptions) {
		r := newRemote(t, o)
		first, err := r.Latest(t.Context()) // asks by itself the first time
		if err != nil || first.Commit != head(t, work) {
			t.Fatalf("%q, %v", first.Commit, err)
		}
		tipIs(t, r, work)
		write(t, work, "swage.cue", "two")
		commit(t, work)
		tipIs(t, r, work)

		// A force-push; what it replaced stays readable, also after repacking.
		replaced := head(t, work)
		run(t, work, "reset", "-q", "--hard", "HEAD~1")
		write(t, work, "swage.cue", "three")
		run(t, work, "commit", "-qam", "instead")
		run(t, work, "push", "-qf", "origin", "main")
		tipIs(t, r, work)
		run(t, r.Path, "repack", "-adq")
		if s, err := r.At(t.Context(), replaced); err != nil || s.Commit != replaced {
			t.Errorf("what a force-push replaced: %v", err)
		}
		// Back to a commit that is there already.
		run(t, work, "push", "-qf", "origin", first.Commit+":main")
		run(t, work, "reset", "-q", "--hard", first.Commit)
		tipIs(t, r, work)
		// A history of its own.
		run(t, work, "checkout", "-q", "--orphan", "other")
		write(t, work, "swage.cue", "four")
		run(t, work, "commit", "-qam", "anew")
		run(t, work, "push", "-qf", "origin", "other:main")
		tipIs(t, r, work)
	})
}

func TestRemoteSaysWhatIsWrong(t *testing.T) {
	bare, _ := fixture(t)
	w := serveWeb(t, filepath.Dir(bare))
	d := serveSSH(t)
	run(t, filepath.Dir(bare), "init", "-q", "--bare", "-b", "main", "empty.git")
	other := filepath.Join(t.TempDir(), "other")
	keygen(t, other)
	page := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/moved") {
			http.Redirect(rw, r, "https://git.example.com/fleet.git/info/refs?x=y", http.StatusMovedPermanently)
			return
		}
		fmt.Fprint(rw, "<html>hello")
	}))
	t.Cleanup(page.Close)
	pageCA := writeCA(t, page)
	https := func(change func(*RemoteOptions)) RemoteOptions { o := w.options(t); change(&o); return o }
	ssh := func(change func(*RemoteOptions)) RemoteOptions { o := d.options(t, bare); change(&o); return o }
	for name, c := range map[string]struct {
		options RemoteOptions
		want    []string
	}{
		"no token":       {https(func(o *RemoteOptions) { o.Password = nil }), []string{"wants a token; name one as source.token"}},
		"a wrong token":  {https(func(o *RemoteOptions) { o.Password = func() (string, error) { return "wrong", nil } }), []string{"refuses source.token (401"}},
		"no token file":  {https(func(o *RemoteOptions) { o.Password = func() (string, error) { return "", errors.New("no file") } }), []string{"source.token: no file"}},
		"unknown CA":     {https(func(o *RemoteOptions) { o.CA = "" }), []string{"certificate signed by unknown authority", "name its file as source.ca"}},
		"no such path":   {https(func(o *RemoteOptions) { o.URL = w.URL + "/none.git" }), []string{"is not there, or source.token may not see it"}},
		"no such branch": {https(func(o *RemoteOptions) { o.Branch = "none" }), []string{`has no branch "none"; push one, or correct source.branch`}},
		"empty":          {https(func(o *RemoteOptions) { o.URL = w.URL + "/empty.git" }), []string{`has no commit; push one to branch "main"`}},
		"a page":         {https(func(o *RemoteOptions) { o.URL, o.CA = page.URL+"/fleet.git", pageCA }), []string{`is no Git repository ("text/html"); check source.url`}},
		"moved":          {https(func(o *RemoteOptions) { o.URL, o.CA = page.URL+"/moved", pageCA }), []string{`leads to "https://git.example.com/fleet.git"; name that as source.url`}},
		"nobody there":   {https(func(o *RemoteOptions) { o.URL = "https://" + freeAddr(t) + "/fleet.git" }), []string{"connection refused"}},
		"not pinned":     {ssh(func(o *RemoteOptions) { o.KnownHosts = nil }), []string{"is not pinned. It showed the key SHA256:", "add to source.known_hosts: \"[127.0.0.1]:"}},
		"another key pinned": {ssh(func(o *RemoteOptions) {
			public, _ := os.ReadFile(other + ".pub")
			o.KnownHosts = []string{strings.Fields(d.known[0])[0] + " " + string(public)}
		}), []string{"has another key than the pinned one: it showed SHA256:", "replace its line in source.known_hosts by \"[127.0.0.1]:"}},
		"another kind of key pinned": {ssh(func(o *RemoteOptions) {
			o.KnownHosts = []string{strings.Fields(d.known[0])[0] + " ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="}
		}), []string{"does not show a key of a kind that source.known_hosts pins for it (ecdsa-sha2-nistp256)"}},
		"a key that is not let in": {ssh(func(o *RemoteOptions) { o.SSHKey = other }), []string{"does not let source.ssh_key in as", "add its public key ssh-ed25519 "}},
		"no key":                   {ssh(func(o *RemoteOptions) { o.SSHKey = "/none" }), []string{"source.ssh_key: open /none"}},
		"no such path over ssh":    {ssh(func(o *RemoteOptions) { o.URL += ".none" }), []string{"the server says: ", "fleet.git.none"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemote(t, c.options)
			_, err := r.Latest(t.Context())
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the token shows: %v", err)
			}
		})
	}
}

func TestRemoteServesTheLastCommitWhileAway(t *testing.T) {
	bare, work := fixture(t)
	w := serveWeb(t, filepath.Dir(bare))
	o := w.options(t)
	r := newRemote(t, o)
	tipIs(t, r, work)
	w.CloseClientConnections()
	w.Close()
	if err := r.sync(t.Context()); err == nil {
		t.Fatal("nobody is there, and nobody minds")
	}
	for what, r := range map[string]*Remote{"the same process": r, "another": newRemote(t, o)} {
		s, err := r.Latest(t.Context())
		if s.Commit != head(t, work) {
			t.Errorf("%s: %q, %v", what, s.Commit, err)
		}
		if (err == nil) != (what == "another") { // which has not asked yet
			t.Errorf("%s: %v", what, err)
		}
		if got, _ := fs.ReadFile(s.Tree, "swage.cue"); string(got) != "one" {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func TestMirrorHeals(t *testing.T) {
	for what, harm := range map[string]func(t *testing.T, dir string){
		"gone":     func(t *testing.T, dir string) { os.RemoveAll(dir) },
		"no HEAD":  func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "HEAD")) },
		"no packs": func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "objects")) },
		"a pack with a flipped byte": func(t *testing.T, dir string) {
			for _, p := range (mirror{dir, "main"}).packs() {
				os.Chmod(p+".pack", 0o644)
				src, err := os.ReadFile(p + ".pack")
				if err != nil {
					t.Fatal(err)
				}
				for i := 12; i < len(src)-20; i += 7 {
					src[i] ^= 0x55
				}
				if err := os.WriteFile(p+".pack", src, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		},
		"a branch that leads nowhere": func(t *testing.T, dir string) {
			write(t, dir, "refs/heads/main", strings.Repeat("1", 40)+"\n")
		},
		"another's": func(t *testing.T, dir string) {
			os.RemoveAll(dir)
			if _, err := makeMirror(dir, "main", "https://elsewhere.example.com/"); err != nil {
				t.Fatal(err)
			}
		},
		"a file in its place": func(t *testing.T, dir string) {
			os.RemoveAll(dir)
			write(t, filepath.Dir(dir), "mirror", "?")
		},
		"a change of mirrors half done": func(t *testing.T, dir string) {
			os.Rename(dir, dir+".old")
			write(t, dir+".new", "HEAD", "?")
		},
	} {
		t.Run(what, func(t *testing.T) {
			bare, work := fixture(t)
			o := serveWeb(t, filepath.Dir(bare)).options(t)
			tipIs(t, newRemote(t, o), work)
			harm(t, filepath.Join(o.State, "mirror"))
			r := newRemote(t, o)
			if s, err := r.Latest(t.Context()); err == nil { // notices what can be noticed
				_, _ = fs.ReadFile(s.Tree, "swage.cue")
			}
			tipIs(t, r, work)
			write(t, work, "swage.cue", "after")
			commit(t, work)
			tipIs(t, r, work)
			if left, _ := filepath.Glob(r.Path + ".*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestMirrorStaysSmall(t *testing.T) {
	bare, work := fixture(t)
	r := newRemote(t, serveWeb(t, filepath.Dir(bare)).options(t))
	r.packs = 5
	most := 0
	for i := range 12 {
		write(t, work, "swage.cue", fmt.Sprint(i))
		commit(t, work)
		if err := r.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		most = max(most, len(mirror{r.Path, "main"}.packs()))
		r.tidy()
	}
	if n := len(mirror{r.Path, "main"}.packs()); most > 6 || n > 5 {
		t.Errorf("%d packs at most, %d at the end", most, n)
	}
	tipIs(t, r, work)
}

func TestRemoteIsBounded(t *testing.T) {
	eachRemote(t, func(t *testing.T, bare, work string, o RemoteOptions) {
		r := newRemote(t, o)
		r.most = 1 << 20
		tipIs(t, r, work)
		good := head(t, work)
		noise, err := os.Open("/dev/urandom")
		if err != nil {
			t.Fatal(err)
		}
		defer noise.Close()
		big, err := os.Create(filepath.Join(work, "big"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(big, noise, 4<<20); err != nil {
			t.Fatal(err)
		}
		big.Close()
		commit(t, work)
		if err := r.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "larger than what is mirrored: 1 MiB; take large files out") {
			t.Errorf("a repository that is too large: %v", err)
		}
		if s, _ := r.Latest(t.Context()); s.Commit != good {
			t.Errorf("the mirror is at %q", s.Commit)
		}
		if n := (mirror{o.State, ""}).size(); n > r.most {
			t.Errorf("%d bytes are kept", n)
		}
		run(t, work, "reset", "-q", "--hard", good)
		run(t, work, "push", "-qf", "origin", "main")
		tipIs(t, r, work)
	})
}

// raw accepts connections and hands them to talk, one by one.
func raw(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			talk(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// hang reads until the other side goes away.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestHostileServers(t *testing.T) {
	bare, work := fixture(t)
	d := serveSSH(t)
	w := serveWeb(t, filepath.Dir(bare))
	endless := func(c net.Conn) {
		junk := []byte(strings.Repeat("0 ", 32<<10))
		for {
			if _, err := c.Write(junk); err != nil {
				return
			}
		}
	}
	// behind answers HTTP by talk, once the mirror is there.
	behind := func(talk http.HandlerFunc) func(o *RemoteOptions) {
		s := httptest.NewTLSServer(talk)
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		ca := writeCA(t, s)
		return func(o *RemoteOptions) { o.URL, o.CA = s.URL+"/fleet.git", ca }
	}
	advertise := func(rw http.ResponseWriter) {
		rw.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		fmt.Fprint(rw, line("# service=git-upload-pack\n")+"0000"+line("%040d refs/heads/main\x00side-band-64k ofs-delta\n", 1)+"0000")
	}
	waits := func(r *http.Request) { <-r.Context().Done() }
	answers := func(body func(rw http.ResponseWriter, r *http.Request)) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				advertise(rw)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			rw.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			body(rw, r)
			rw.(http.Flusher).Flush()
		}
	}
	over := func(scheme string, talk func(net.Conn)) func(o *RemoteOptions) {
		addr := raw(t, talk)
		return func(o *RemoteOptions) {
			if o.URL = scheme + "://" + addr + "/fleet.git"; scheme == "ssh" {
				o.SSHKey, o.KnownHosts = d.key, []string{"[127.0.0.1]:" + addr[strings.LastIndex(addr, ":")+1:] + " " + strings.Join(strings.Fields(d.known[0])[1:3], " ")}
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*RemoteOptions)
		want   string
	}{
		"https hangs before TLS":  {over("https", hang), "silent for"},
		"ssh hangs before banner": {over("ssh", hang), "silent for"},
		"ssh hangs after banner":  {over("ssh", func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\r\n"); hang(c) }), "silent for"},
		"https is garbage":        {over("https", endless), ""},
		"ssh is garbage":          {over("ssh", endless), ""},
		"https hangs in headers":  {behind(func(rw http.ResponseWriter, r *http.Request) { waits(r) }), "silent for"},
		"https hangs in refs": {behind(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(rw, line("# service=git-upload-pack\n"))
			rw.(http.Flusher).Flush()
			waits(r)
		}), "silent for"},
		"refs without end": {behind(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			for i := 1; ; i++ {
				if _, err := fmt.Fprint(rw, line("%040d refs/heads/%s\n", i, strings.Repeat("x", 60000))); err != nil {
					return
				}
			}
		}), "more refs than fit"},
		"refs that are none": {behind(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(rw, "zzzz")
		}), "does not speak Git"},
		"hangs before the pack": {behind(answers(func(rw http.ResponseWriter, r *http.Request) { waits(r) })), "silent for"},
		"hangs in the pack": {behind(answers(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, line("NAK\n")+line("\x01PACK"))
			rw.(http.Flusher).Flush()
			waits(r)
		})), "silent for"},
		"ends in the pack": {behind(answers(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, line("NAK\n")+line("\x01PACK")) })), "ended in the middle"},
		"a pack of garbage": {behind(answers(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, line("NAK\n")+line("\x01PICK and so on")+"0000")
		})), "the pack is broken"},
		"an error in the pack": {behind(answers(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, line("NAK\n")+line("\x03out of \x1b[31mmemory\n"))
		})), "the server says: out of  [31mmemory"},
		"a pack without the tip": {behind(answers(func(rw http.ResponseWriter, r *http.Request) {
			empty := "PACK\x00\x00\x00\x02\x00\x00\x00\x00\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e"
			fmt.Fprint(rw, line("NAK\n")+line("\x01%s", empty)+"0000")
		})), "does not hold all of commit"},
		"a refusal": {behind(answers(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, line("ERR go away\n")) })), "the server says: go away"},
		"a pack without end": {behind(answers(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, line("NAK\n")+line("\x01PACK\x00\x00\x00\x02\x7f\xff\xff\xff\xb0\x80\x80\x80\x80\x20\x78\x01"))
			block := line("\x01%s", "\x00\xff\xff\x00\x00"+strings.Repeat("x", 65000))
			for {
				if _, err := io.WriteString(rw, block); err != nil {
					return
				}
			}
		})), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := w.options(t)
			tipIs(t, newRemote(t, o), work)
			c.change(&o)
			r := newRemote(t, o)
			r.silence, r.whole, r.most = 2*time.Second, 10*time.Second, 8<<20
			// As if the same repository had turned bad.
			run(t, r.Path, "config", "remote.origin.url", o.URL)
			begin := time.Now()
			err := r.sync(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
			if took := time.Since(begin); took > 60*time.Second {
				t.Errorf("took %s", took)
			}
			s, stale := r.Latest(t.Context())
			if s.Commit != head(t, work) || stale == nil {
				t.Errorf("the mirror is at %q, %v", s.Commit, stale)
			}
			if n := (mirror{o.State, ""}).size(); n > 1<<20 {
				t.Errorf("%d bytes are kept", n)
			}
		})
	}
}

func TestHostKeyMoves(t *testing.T) {
	bare, work := fixture(t)
	d := serveSSH(t)
	r := newRemote(t, d.options(t, bare))
	tipIs(t, r, work)
	d.stop()
	d.start(t, "another")
	if err := r.sync(t.Context()); err == nil || !strings.Contains(err.Error(), "another key than the pinned one") {
		t.Errorf("the host's key changed: %v", err)
	}
	d.stop()
	d.start(t, "host")
	tipIs(t, r, work)
}

func TestRemoteWatch(t *testing.T) {
	bare, work := fixture(t)
	w := serveWeb(t, filepath.Dir(bare))
	r := newRemote(t, w.options(t))
	ctx, cancel := context.WithCancel(t.Context())
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- r.Watch(ctx, changed) }()
	until := func(what string, done func(commit string, err error) bool) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			s, err := r.Latest(t.Context())
			if done(s.Commit, err) {
				return
			}
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("%s was not told: %q, %v", what, s.Commit, err)
			}
		}
	}
	until("the first", func(c string, err error) bool { return err == nil && c == head(t, work) })
	write(t, work, "swage.cue", "two")
	commit(t, work)
	until("a push", func(c string, err error) bool { return err == nil && c == head(t, work) })
	if err := os.Rename(bare, bare+".away"); err != nil {
		t.Fatal(err)
	}
	until("its absence", func(c string, err error) bool { return err != nil && c == head(t, work) })
	if err := os.Rename(bare+".away", bare); err != nil {
		t.Fatal(err)
	}
	until("its return", func(c string, err error) bool { return err == nil && c == head(t, work) })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// ending is what a server answers that has more to say than its answer.
type ending struct{ s *session }

func (e ending) Read([]byte) (int, error) {
	go func() {
		_, _ = e.s.said.Write([]byte("no such repository"))
		close(e.s.ended)
	}()
	return 0, io.EOF
}

// TestLastWords: what a server says after the end of its answer is waited for.
func TestLastWords(t *testing.T) {
	s := &session{ended: make(chan struct{})}
	s.out = ending{s}
	if _, err := s.Read(make([]byte, 1)); err == nil || err.Error() != "the server says: no such repository" {
		t.Error(err)
	}
}
