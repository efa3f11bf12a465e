package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Node is what a provider may use of this machine. Whoever runs the machine says
// it, not whoever writes the other settings.
type Node struct {
	Program Program // of the provider "exec"
	// Services of this machine that may be called without TLS, as "host:port".
	Services []string
}

// Program is a program of the node that sets records by "COMMAND… set NAME
// VALUE" and "COMMAND… delete NAME VALUE"; exit code 0 says that the record is
// there, or gone. It runs as this process does, so the caller must not take it
// from whoever writes the other settings.
type Program struct {
	Command []string // the first is an absolute path
	// Environment of the program, beside PATH. Secrets among it are in no list
	// of processes, and in no error.
	Environment map[string]string
}

type program struct {
	command []string
	env     []string
}

func newProgram(_ options, n Node) (provider, error) {
	p := n.Program
	if len(p.Command) == 0 || !filepath.IsAbs(p.Command[0]) {
		return nil, errors.New("no program is given by its absolute path")
	}
	out := &program{command: p.Command}
	if _, own := p.Environment["PATH"]; !own {
		out.env = append(out.env, "PATH="+os.Getenv("PATH"))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
		out.env = append(out.env, name+"="+p.Environment[name])
	}
	return out, nil
}

func (p *program) set(ctx context.Context, name, value string) error {
	return p.run(ctx, "set", name, value)
}

func (p *program) delete(ctx context.Context, name, value string) error {
	return p.run(ctx, "delete", name, value)
}

func (p *program) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, p.command[0], slices.Concat(p.command[1:], args)...)
	cmd.Env = p.env
	cmd.WaitDelay = 5 * time.Second // for what it started and left behind
	var errs tail
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		if last := errs.line(); last != "" {
			return fmt.Errorf("%s: %w: %s", p.command[0], err, last)
		}
		return fmt.Errorf("%s: %w", p.command[0], err)
	}
	return nil
}

// tail keeps the last bytes that are written.
type tail struct{ last []byte }

func (t *tail) Write(b []byte) (int, error) {
	const most = 400
	t.last = append(t.last, b...)
	t.last = bytes.Clone(t.last[max(0, len(t.last)-most):])
	return len(b), nil
}

func (t *tail) line() string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(t.last), "?")), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// webhook sets records by POST with {"action": "set" or "delete", "name": …,
// "value": …}; a status of 2xx says that it is done.
type webhook struct {
	url, token string
	client     *http.Client
}

func newWebhook(o options, n Node) (provider, error) {
	address, err := o.need("url", "https://dns.example.com/hook")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New(`option "url" is an https URL; http is for this machine only`)
	}
	if u.Scheme == "http" && !slices.Contains(n.Services, u.Host) {
		return nil, fmt.Errorf(`option "url" leads to a service of this machine, %s, which is not among those that its operator allows (local_services of the node file)`, u.Host)
	}
	return &webhook{address, o.take("token"), &http.Client{
		// Elsewhere the token is nobody's business.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (p *webhook) set(ctx context.Context, name, value string) error {
	return p.post(ctx, "set", name, value)
}

func (p *webhook) delete(ctx context.Context, name, value string) error {
	return p.post(ctx, "delete", name, value)
}

func (p *webhook) post(ctx context.Context, action, name, value string) error {
	body, err := json.Marshal(map[string]string{"action": action, "name": name, "value": value})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	res, err := p.client.Do(r)
	if err != nil {
		var u *url.Error // holds the URL, which may hold a secret
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("webhook at %s: %w", r.URL.Host, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("webhook at %s answered %s", r.URL.Host, res.Status)
	}
	return nil
}
