package git

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Server serves one bare repository over HTTPS (gitprotocol-http(5)) at
// /fleet, by the stock git.
type Server struct {
	Dir string
	// Allow reports whether a token allows "read" or "push".
	Allow func(token, right string) bool
	Log   *slog.Logger

	slots chan struct{}
}

// Bounds on those who are served at once and on how long one may take. A
// deploy that is waited for has deadlines of its own.
const (
	atOnce    = 8
	servedFor = time.Hour
)

// NewServer serves the repository in dir.
func NewServer(dir string, allow func(token, right string) bool, log *slog.Logger) *Server {
	return &Server{dir, allow, log, make(chan struct{}, atOnce)}
}

var protocol = regexp.MustCompile(`^[a-z0-9=:.]{1,64}$`)

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
	// Who may push may read what he pushes onto.
	token := tokenOf(r)
	if !s.Allow(token, right) && !(right == "read" && s.Allow(token, "push")) {
		w.Header().Set("WWW-Authenticate", `Basic realm="swage", charset="UTF-8"`)
		http.Error(w, "a token that allows "+right+" is needed, as the password", http.StatusUnauthorized)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many are served; come again", http.StatusServiceUnavailable)
		return
	}
	s.run(w, r, service)
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

func (s *Server) run(w http.ResponseWriter, r *http.Request, service string) {
	ctx, cancel := context.WithTimeout(r.Context(), servedFor)
	defer cancel()
	args := []string{service, "--stateless-rpc"}
	w.Header().Set("Cache-Control", "no-store")
	out := &flushed{w: w, c: http.NewResponseController(w)}
	if r.Method == http.MethodGet {
		args = append(args, "--advertise-refs")
		w.Header().Set("Content-Type", "application/x-git-"+service+"-advertisement")
		if !strings.Contains(r.Header.Get("Git-Protocol"), "version=2") || service != "upload-pack" {
			out.first = line("# service=git-%s\n", service) + "0000"
		}
	} else {
		w.Header().Set("Content-Type", "application/x-git-"+service+"-result")
	}
	var body io.Reader = http.MaxBytesReader(w, r.Body, maxPush+1<<20)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, "the body is not gzip", http.StatusBadRequest)
			return
		}
		body = io.LimitReader(z, maxPush+1<<20)
	}
	cmd := exec.CommandContext(ctx, "git", append(args, s.Dir)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
	}
	if v := r.Header.Get("Git-Protocol"); protocol.MatchString(v) {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+v)
	}
	said := &words{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = body, out, said
	// What a git that is told to end has in quarantine it removes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		s.Log.Warn("git ended badly", "service", service, "err", err, "said", said.String())
		if !out.begun {
			http.Error(w, "git failed; the agent's log says why", http.StatusInternalServerError)
		}
	}
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
