package git

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"swage/edge/limit"
)

// Server serves one bare repository as /fleet by the stock git: over HTTPS
// (gitprotocol-http(5)), and to an SSH.
type Server struct {
	Dir string
	// Allow says whose a token is, if it allows "read" or "push".
	Allow func(token, right string) (Visitor, bool)
	Log   *slog.Logger
	// Guesses counts tokens and keys that are not good. Nil: nobody has to wait.
	Guesses *limit.Guesses

	slots slots
}

// Visitor is whose token or key it is.
type Visitor struct {
	Name  string // for the log
	Realm string // that pushes are held to; empty: none
}

// What the hooks of a push read of its Visitor in their environment. A push
// that did not come through a Server has neither.
const (
	EnvVisitor = "SWAGE_VISITOR"
	EnvRealm   = "SWAGE_REALM"
)

// servedFor bounds how long one may take. A deploy that is waited for has
// deadlines of its own.
const servedFor = time.Hour

// NewServer serves the repository in dir.
func NewServer(dir string, allow func(token, right string) (Visitor, bool), log *slog.Logger) *Server {
	return &Server{Dir: dir, Allow: allow, Log: log}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/fleet.git/")
	if !ok {
		path, ok = strings.CutPrefix(r.URL.Path, "/fleet/")
	}
	service, asked := strings.CutPrefix(path, "git-")
	switch {
	case !ok:
	case path == "info/refs" && r.Method == http.MethodGet:
		service, asked = strings.CutPrefix(r.URL.Query().Get("service"), "git-")
		if !asked {
			http.Error(w, "this repository is served to git only", http.StatusForbidden)
			return
		}
	case asked && r.Method == http.MethodPost:
		if r.Header.Get("Content-Type") != "application/x-git-"+service+"-request" {
			http.Error(w, "this is no request of git", http.StatusUnsupportedMediaType)
			return
		}
	default:
		ok = false
	}
	right := map[string]string{"upload-pack": "read", "receive-pack": "push"}[service]
	if !ok || right == "" {
		http.Error(w, "the repository is at /fleet", http.StatusNotFound)
		return
	}
	who, ok, wait := s.permit(r, right)
	if wait > 0 {
		w.Header().Set("Retry-After", limit.RetryAfter(wait))
		http.Error(w, guessed, http.StatusTooManyRequests)
		return
	}
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="swage", charset="UTF-8"`)
		http.Error(w, "a token that allows "+right+" is needed, as the password", http.StatusUnauthorized)
		return
	}
	// A request that does not come takes no slot.
	begun, err := readAhead(r.Body)
	if err != nil {
		http.Error(w, "the body broke off", http.StatusBadRequest)
		return
	}
	r.Body = begun
	leave, err := s.slots.take(service, who)
	if err != nil {
		w.Header().Set("Retry-After", "5")
		status := http.StatusServiceUnavailable
		if err == errAlike {
			status = http.StatusTooManyRequests
		}
		http.Error(w, err.Error(), status)
		return
	}
	defer leave()
	s.run(w, r, service, who)
}

const guessed = "there were too many wrong tokens or keys from here; wait a moment"

// permit asks whether a request brings a token that allows something, or how long
// it has to wait until that is looked at. A token that allows something else is no
// guess.
func (s *Server) permit(r *http.Request, right string) (who Visitor, ok bool, wait time.Duration) {
	token := tokenOf(r)
	if token == "" {
		return Visitor{}, false, 0
	}
	_, wait = s.Guesses.Try(r, token, func() bool {
		if who, ok = permit(s.Allow, token, right); ok {
			return true
		}
		return slices.ContainsFunc([]string{"read", "plan", "push"}, func(other string) bool { _, known := s.Allow(token, other); return known })
	})
	return who, ok, wait
}

// permit asks for a right. Who may push may read what he pushes onto.
func permit[C any](allow func(credential C, right string) (Visitor, bool), credential C, right string) (Visitor, bool) {
	who, ok := allow(credential, right)
	if !ok && right == "read" {
		return allow(credential, "push")
	}
	return who, ok
}

// tokenOf is a bearer token (RFC 6750) or the password of any user (RFC 7617).
func tokenOf(r *http.Request) string {
	if len(r.Header.Values("Authorization")) != 1 {
		return ""
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

func (s *Server) run(w http.ResponseWriter, r *http.Request, service string, who Visitor) {
	ctx, cancel := context.WithTimeout(r.Context(), servedFor)
	defer cancel()
	args := []string{service, "--stateless-rpc"}
	w.Header().Set("Cache-Control", "no-store")
	out := &flushed{w: w, c: http.NewResponseController(w)}
	packets := &packets{out: out}
	if r.Method == http.MethodGet {
		args = append(args, "--advertise-refs")
		w.Header().Set("Content-Type", "application/x-git-"+service+"-advertisement")
		out.first = line("# service=git-%s\n", service) + "0000"
	} else {
		w.Header().Set("Content-Type", "application/x-git-"+service+"-result")
	}
	most := int64(maxPush + 1<<20)
	if service == "upload-pack" {
		most = maxRequest
	}
	var body io.Reader = http.MaxBytesReader(w, r.Body, most)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, "the body is not gzip", http.StatusBadRequest)
			return
		}
		body = bounded(z, most)
	}
	feed := func(to io.Writer) error { return nil }
	switch {
	case r.Method == http.MethodGet:
	case service == "receive-pack":
		feed = func(to io.Writer) error {
			err := checkPush(io.TeeReader(body, to))
			if err != nil && !errors.Is(err, syscall.EPIPE) {
				s.Log.Info("a push is refused", "by", who.Name, "err", err)
				packets.tell(err)
				// A client that is still sending reads no answer.
				_, _ = io.CopyN(io.Discard, body, mostUnread)
			}
			return err
		}
	default:
		checked, err := Local{Path: s.Dir}.reachable(ctx, body)
		if err != nil {
			s.Log.Info("a fetch is refused", "by", who.Name, "err", err)
			_, _ = io.WriteString(out, line("ERR swage: %s\n", err)) // the client may have gone
			return
		}
		feed = func(to io.Writer) error {
			_, err := io.Copy(to, checked)
			return err
		}
	}
	cmd := s.command(ctx, who, args...)
	cmd.Stdout = packets
	well := s.wait(cmd, who, func() error { return start(cmd, feed) })
	packets.end() // what still feeds git may not touch an answer that is over
	if !well && !out.begun {
		http.Error(w, failed, http.StatusInternalServerError)
	}
}

// mostUnread is how much of a push is read, in bytes, once it is refused.
const mostUnread = 64 << 20

// start runs a git within its limits. It is fed once they are in force: until
// then it waits for its input, and starts nothing itself.
func start(cmd *exec.Cmd, feed func(io.Writer) error) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := served.set(cmd.Process.Pid); err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return errors.Join(err, cmd.Wait())
	}
	// Its reader ends with the request or the channel, which is after the
	// command.
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		_ = feed(in) // git says what it lacks
		in.Close()
	}()
	err = cmd.Wait()
	if err != nil {
		// It may have ended of what is about to be refused in better words.
		select {
		case <-fed:
		case <-time.After(refusedWithin):
		}
	}
	return err
}

// refusedWithin is how long a git that failed waits for what fed it.
const refusedWithin = time.Second

const failed = "git failed; the agent's log says why"

// wait waits for a git that is served, and reports whether it ended well.
func (s *Server) wait(cmd *exec.Cmd, who Visitor, wait func() error) bool {
	said := &words{}
	cmd.Stderr = said
	var late *time.Timer
	cmd.Cancel = func() error {
		// Its input ends with the connection. A git that ends of that removes
		// what it has in quarantine, and one that is told to end does not.
		late = time.AfterFunc(grace, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) })
		return nil
	}
	err := wait()
	if late != nil {
		late.Stop()
	}
	if err != nil {
		s.Log.Warn("git ended badly", "service", cmd.Args[1+2*len(servedConfig)], "by", who.Name, "err", err, "said", said.String())
		sweep(s.Dir, time.Now().Add(-servedFor-time.Minute))
	}
	return err == nil
}

// grace is how long git has to end by itself.
const grace = 3 * time.Second

// sweep removes the quarantines of a repository that are older than any push
// that goes on.
func sweep(dir string, before time.Time) {
	left, _ := filepath.Glob(filepath.Join(dir, "objects", "tmp_objdir-*")) // the pattern is good
	for _, quarantine := range left {
		if info, err := os.Stat(quarantine); err == nil && info.ModTime().Before(before) {
			os.RemoveAll(quarantine)
		}
	}
}

// served are the limits of a git that is served. All hooks of a push run
// within them, too.
var served = rlimits{data: 512 << 20, cpu: 300, file: maxPush + 1<<28}

// servedConfig holds git to what a client may have of it, whatever stands in
// the configuration of the repository. Objects of pushes stay packed: to unpack
// them is to hold each in memory.
var servedConfig = []string{
	"pack.threads=1", "pack.windowMemory=32m", "pack.deltaCacheSize=16m",
	"core.deltaBaseCacheLimit=32m", "core.bigFileThreshold=1m",
	"receive.unpackLimit=1", "receive.fsckObjects=true", fmt.Sprint("receive.maxInputSize=", maxPush),
	"transfer.hideRefs=refs", "transfer.hideRefs=!refs/heads",
	"uploadpack.allowTipSHA1InWant=false", "uploadpack.allowReachableSHA1InWant=false",
	"uploadpack.allowAnySHA1InWant=false", "uploadpack.allowFilter=false",
}

// command is the stock git on the repository, with nobody's configuration. It
// speaks version 0 of the protocol: in version 2 a client may have any object
// that is there.
func (s *Server) command(ctx context.Context, who Visitor, args ...string) *exec.Cmd {
	var all []string
	for _, c := range servedConfig {
		all = append(all, "-c", c)
	}
	cmd := exec.CommandContext(ctx, "git", append(append(all, args...), s.Dir)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		EnvVisitor + "=" + who.Name, EnvRealm + "=" + who.Realm,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	cmd.WaitDelay = 2 * grace
	return cmd
}

// flushed sends at once what is written, so that a pusher sees each step as it
// happens.
type flushed struct {
	w     http.ResponseWriter
	c     *http.ResponseController
	first string // written before all else
	begun bool
}

func (f *flushed) Write(p []byte) (int, error) {
	if !f.begun {
		f.begun = true
		if _, err := io.WriteString(f.w, f.first); err != nil {
			return 0, err
		}
	}
	n, err := f.w.Write(p)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}
