package git

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	gossh "golang.org/x/crypto/ssh"
)

// asAgent has the test binary do what the agent does of a push, or of a
// source, in a process of its own, so that its memory can be told.
const asAgent = "as-agent"

// mostMemory is by how much the agent may grow over what it has when idle.
const mostMemory = 128 << 20

func agentPart(args []string) int {
	idle := memory("VmRSS")
	err := func() error {
		switch args[0] {
		case "read": // a source: path, branch
			s, err := Follow(args[1], args[2], "").Latest(context.Background())
			if err == nil {
				err = readAll(s.Tree)
			}
			return err
		case "pre-receive":
			updates, err := ReadUpdates(os.Stdin)
			if err != nil {
				return err
			}
			if len(updates) != 1 {
				return errors.New("push one branch at a time")
			}
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			s, _, err := Local{Path: dir}.Incoming(os.Getenv("GIT_QUARANTINE_PATH"), updates[0].New)
			if err == nil {
				err = readAll(s.Tree)
			}
			return err
		case "proc-receive":
			return ProcReceive(os.Stdin, os.Stdout, func(u Update, _ []string) error { return Move(context.Background(), u) })
		}
		return errors.New("what?")
	}()
	if grown := memory("VmHWM") - idle; grown > mostMemory {
		fmt.Fprintf(os.Stderr, "GREW by %d MiB\n", grown>>20)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "swage:", err)
		return 1
	}
	return 0
}

// readAll reads as schema.Load does: the files of the layout, of at most 1 MiB
// each, and folders no deeper than 100.
func readAll(tree fs.FS) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.Count(name, "/") >= 100:
			return errors.New("folders nest deeper than 100 levels")
		case d.IsDir() && name != "." && name != "projects" && !strings.HasPrefix(name, "projects/"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".cue":
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > 1<<20 {
			return fmt.Errorf("%s has %d bytes; a file may have 1048576", name, info.Size())
		}
		_, err = fs.ReadFile(tree, name)
		return err
	})
}

// memory is a figure of this process in bytes (proc_pid_status(5)).
func memory(field string) int64 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// remote is a repository that takes pushes, over HTTPS and SSH, with the hooks
// of an agent.
type takesPushes struct {
	bare, work string
	url        string // over HTTPS, with a token
	client     *http.Client
	ca         string
	ssh        *sshd
}

func serveBoth(t testing.TB) *takesPushes {
	t.Helper()
	bare, work := fixture(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Prepare(t.Context(), bare, "main", self, asAgent); err != nil {
		t.Fatal(err)
	}
	r := &takesPushes{bare: bare, work: work, ssh: serveOwn(t, bare)}
	allow := func(token, right string) (Visitor, bool) {
		return Visitor{Name: token}, token == right || token == "push"
	}
	web := httptest.NewTLSServer(NewServer(bare, allow, slog.New(slog.NewTextHandler(r.ssh.log, nil))))
	t.Cleanup(web.Close)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	r.client, r.ca = web.Client(), writeCA(t, web)
	r.url = strings.Replace(web.URL, "https://", "https://x:push@", 1) + "/fleet"
	return r
}

// git runs the stock git against it, and tells whether it went well.
func (r *takesPushes) git(t testing.TB, dir string, args ...string) (said string, ok bool) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_SSL_CAINFO="+r.ca, "GIT_SSH_COMMAND="+r.ssh.command("push"), "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func (r *takesPushes) post(t testing.TB, service string, body io.Reader, header ...string) (status int, said string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/git-"+service, body)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-git-"+service+"-request")
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(q)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, heard(string(text))
}

// overSSH sends a request to git-receive-pack, and gives all that is answered.
func (r *takesPushes) overSSH(t testing.TB, body io.Reader) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(r.ssh.dir, "push"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := gossh.Dial("tcp", r.ssh.addr, &gossh.ClientConfig{
		User: "git", Auth: []gossh.AuthMethod{gossh.PublicKeys(signer)}, HostKeyCallback: gossh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := &lines{}
	s.Stdin, s.Stdout, s.Stderr = body, out, out
	if err := s.Start("git-receive-pack '/fleet'"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Wait() }()
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Error("the session does not end")
		c.Close()
		<-ended
	}
	return heard(out.String())
}

// heard takes the packets of the side-band out of what lies in them.
func heard(text string) string {
	return regexp.MustCompile("[0-9a-f]{4}[\x01\x02]").ReplaceAllString(text, "")
}

func commands(updates ...string) string {
	var b strings.Builder
	for i, u := range updates {
		if i == 0 {
			u += "\x00 report-status side-band-64k agent=test"
		}
		b.WriteString(line("%s", u))
	}
	return b.String() + "0000"
}

// used is how many bytes the files of a folder have.
func used(t testing.TB, dir string) (n int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// grows tells by how much this process grew at most while something was done.
func grows(t testing.TB, do func()) int64 {
	t.Helper()
	debug.FreeOSMemory()
	idle := memory("VmRSS")
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak begins anew
		t.Fatal(err)
	}
	do()
	return memory("VmHWM") - idle
}

// refusedCleanly checks that nothing of a push is left.
func (r *takesPushes) refusedCleanly(t testing.TB, tip string, before int64) {
	t.Helper()
	if now := strings.TrimSpace(run(t, r.bare, "rev-parse", "main")); now != tip {
		t.Errorf("main is at %s", now)
	}
	var left []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, _ = filepath.Glob(filepath.Join(r.bare, "objects", "tmp_objdir-*"))
		more, _ := filepath.Glob(filepath.Join(r.bare, "objects", "pack", "tmp_*"))
		if left = append(left, more...); len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	if now := used(t, filepath.Join(r.bare, "objects")); now != before {
		t.Errorf("the objects take %d bytes, and took %d", now, before)
	}
}

// [G2, F9] No pack takes more of the agent than its limits, is taken, or is in
// the way of the next push.
func TestS11HostilePacks(t *testing.T) {
	defer func(l packLimits) { pushLimits = l }(pushLimits)
	pushLimits.inflated = 128 << 20 // so that less is to be made
	r := serveBoth(t)
	tip := head(t, r.work)
	before := used(t, filepath.Join(r.bare, "objects"))
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			p := newPack(t)
			commit, count := h.make(p, plumbing.NewHash(tip))
			pack := p.done(count)
			request := func() io.Reader {
				return io.MultiReader(strings.NewReader(commands(fmt.Sprintf("%s %s refs/heads/main", tip, commit))), io.NewSectionReader(pack, 0, p.at))
			}
			for transport, push := range map[string]func() string{
				"https": func() string {
					status, said := r.post(t, "receive-pack", request())
					return fmt.Sprint(status, " ", said)
				},
				"ssh": func() string { return r.overSSH(t, request()) },
			} {
				var said string
				grown := grows(t, func() { said = push() })
				if !strings.Contains(said, "ng refs/heads/main") || !strings.Contains(said, h.says) {
					t.Errorf("%s: it is answered with %q, which does not say %q", transport, said, h.says)
				}
				if grown > mostMemory || strings.Contains(said, "GREW") {
					t.Errorf("%s: the agent grew by %d MiB and more; it said %q", transport, grown>>20, said)
				}
				r.refusedCleanly(t, tip, before)
			}
		})
	}
	for i, url := range []string{r.url, r.ssh.url()} {
		write(t, r.work, "swage.cue", fmt.Sprint("good ", i))
		run(t, r.work, "commit", "-qam", "good")
		if said, ok := r.git(t, r.work, "push", url, "HEAD:main"); !ok {
			t.Errorf("a good push to %s: %s", url, said)
		}
	}
}

// What comes before a pack is within bounds, too.
func TestS11HostileRequests(t *testing.T) {
	r := serveBoth(t)
	tip := head(t, r.work)
	before := used(t, filepath.Join(r.bare, "objects"))
	var refs, shallow []string
	for i := range 1000 {
		refs = append(refs, fmt.Sprintf("%s %s refs/heads/r%d", plumbing.ZeroHash, tip, i))
	}
	for i := range 100_000 {
		shallow = append(shallow, fmt.Sprintf("shallow %040x", i))
	}
	endless := func(piece string) io.Reader { return io.LimitReader(&again{text: piece}, 600<<20) }
	update := fmt.Sprintf("%s %s refs/heads/main", tip, tip)
	options := strings.Replace(commands(update), "\x00", "\x00push-options ", 1)
	options = strings.Replace(options, options[:4], fmt.Sprintf("%04x", len(options)-4), 1)
	for _, c := range []struct {
		name, says string
		body       func() io.Reader
	}{
		{"1,000 refs", "push one branch at a time", func() io.Reader { return strings.NewReader(commands(refs...)) }},
		{"refs without end", "push one branch at a time", func() io.Reader {
			return io.MultiReader(strings.NewReader(strings.TrimSuffix(commands(refs[:2]...), "0000")), endless(line("%s", refs[0])))
		}},
		{"a name of 4,000 bytes", "it may have 255", func() io.Reader {
			return strings.NewReader(commands(fmt.Sprintf("%s %s refs/heads/%s", plumbing.ZeroHash, tip, strings.Repeat("x", 4000))))
		}},
		{"100,000 lines of a shallow clone", "too many lines", func() io.Reader { return strings.NewReader(commands(append(shallow, update)...)) }},
		{"options without end", "too many options", func() io.Reader {
			return io.MultiReader(strings.NewReader(options), endless(line("option=1")))
		}},
		{"no pack", "pack", func() io.Reader { return io.MultiReader(strings.NewReader(commands(update)), endless("garbage")) }},
		{"no protocol", "no push of git", func() io.Reader { return endless("garbage") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for transport, push := range map[string]func() string{
				"https": func() string {
					status, said := r.post(t, "receive-pack", c.body())
					return fmt.Sprint(status, " ", said)
				},
				"ssh": func() string { return r.overSSH(t, c.body()) },
			} {
				var said string
				if grown := grows(t, func() { said = push() }); grown > mostMemory {
					t.Errorf("%s: the agent grew by %d MiB", transport, grown>>20)
				}
				if strings.HasPrefix(said, "0 ") && transport == "https" { // the server hung up on who went on sending
					said += c.says
				}
				if !strings.Contains(said, c.says) {
					t.Errorf("%s: it is answered with %q, which does not say %q", transport, said, c.says)
				}
				r.refusedCleanly(t, tip, before)
			}
		})
	}
	for _, service := range []string{"receive-pack", "upload-pack"} {
		t.Run("a body of gzip, 1000:1, for "+service, func(t *testing.T) {
			var b bytes.Buffer
			z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
			piece := line("want %s\n", tip)
			if service == "receive-pack" {
				piece = line("%s", refs[0])
			}
			_, _ = io.Copy(z, endless(piece))
			z.Close()
			var said string
			if grown := grows(t, func() { _, said = r.post(t, service, &b, "Content-Encoding", "gzip") }); grown > mostMemory {
				t.Errorf("the agent grew by %d MiB", grown>>20)
			}
			if !strings.Contains(said, "refused") && !strings.Contains(said, "ERR swage") && !strings.Contains(said, "push one branch") {
				t.Errorf("it is answered with %q", said)
			}
			r.refusedCleanly(t, tip, before)
		})
	}
	if said, ok := r.git(t, r.work, "push", r.url, "HEAD:main"); !ok {
		t.Errorf("a good push: %s", said)
	}
}

// again is a text without end.
type again struct {
	text string
	at   int
}

func (a *again) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		c := copy(p[n:], a.text[a.at:])
		n, a.at = n+c, (a.at+c)%len(a.text)
	}
	return len(p), nil
}

// [G1] What the agent reads of a repository on this machine, or of a mirror,
// is within the same bounds, whoever wrote it.
func TestS11HostileSources(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hostile {
		if !h.local {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			bare, work := fixture(t)
			p := newPack(t)
			tip, count := h.make(p, plumbing.NewHash(head(t, work)))
			p.done(count)
			unpack(t, bare, p.file.Name())
			run(t, bare, "update-ref", "refs/heads/main", tip.String())
			out, _ := exec.Command(self, asAgent, "read", bare, "main").CombinedOutput()
			if strings.Contains(string(out), "GREW") {
				t.Errorf("reading: %s", out)
			}
		})
	}
}

// A remote is held to the same bounds while it is fetched, and what was there
// before goes on being served.
func TestS11HostileRemotes(t *testing.T) {
	for _, h := range hostile {
		switch {
		case strings.HasPrefix(h.name, "a commit with"), strings.HasPrefix(h.name, "1,500,000 names"):
		default:
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			bare, work := fixture(t)
			run(t, bare, "config", "pack.window", "0") // or the server takes long
			r := newRemote(t, serveWeb(t, filepath.Dir(bare)).options(t))
			tipIs(t, r, work)
			p := newPack(t)
			tip, count := h.make(p, plumbing.NewHash(head(t, work)))
			unpack(t, bare, p.done(count).Name())
			run(t, bare, "update-ref", "refs/heads/main", tip.String())
			var err error
			if grown := grows(t, func() { err = r.sync(t.Context()) }); grown > mostMemory {
				t.Errorf("the agent grew by %d MiB", grown>>20)
			}
			if err == nil || !strings.Contains(err.Error(), h.says) {
				t.Errorf("%v does not say %q", err, h.says)
			}
			if s, _ := r.Latest(t.Context()); s.Commit != head(t, work) {
				t.Errorf("the mirror is at %s", s.Commit)
			}
			run(t, bare, "update-ref", "refs/heads/main", head(t, work))
			tipIs(t, r, work)
		})
	}
}

func unpack(t testing.TB, bare, pack string) {
	t.Helper()
	in, err := os.Open(pack)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd := exec.Command("git", "index-pack", "--stdin")
	cmd.Dir, cmd.Stdin = bare, in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// What a client says that the branch was is kept for nobody until it is known to
// be so: a name of an object that is not there would stop git from then on.
func TestA2WrongOldValues(t *testing.T) {
	r := serveBoth(t)
	if said, ok := r.git(t, r.work, "push", "-q", r.url, "HEAD:main"); !ok {
		t.Fatal(said)
	}
	main := strings.TrimSpace(run(t, r.bare, "rev-parse", "main"))
	for _, old := range []string{strings.Repeat("deadbeef", 5), strings.TrimSpace(run(t, r.bare, "rev-parse", "main^{tree}"))} {
		p := newPack(t)
		tip := p.withCommit(plumbing.NewHash(main), treeEntry{plainFile, "a", p.small(plumbing.BlobObject, "x")})
		pack := p.done(0)
		_, said := r.post(t, "receive-pack", io.MultiReader(strings.NewReader(commands(fmt.Sprintf("%s %s refs/heads/main", old, tip))), io.NewSectionReader(pack, 0, p.at)))
		if !strings.Contains(said, "somebody else has pushed meanwhile") {
			t.Errorf("%s: %.300q", old, said)
		}
	}
	if kept := run(t, r.bare, "for-each-ref", replacedRefs); kept != "" {
		t.Errorf("kept: %s", kept)
	}
	run(t, r.work, "commit", "-q", "--allow-empty", "-m", "after that")
	if said, ok := r.git(t, r.work, "push", "-q", r.url, "HEAD:main"); !ok {
		t.Errorf("the next push: %s", said)
	}
}
