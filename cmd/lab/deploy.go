//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"swage/reconcile"
	"swage/reconcile/api"
)

// deployment is an agent in the lab that follows a repository of its own, made
// from an example, and serves it to the machine around the lab.
type deployment struct {
	*Lab
	example string // folder of a fleet with a server "lab"
	swage   string // the program
	port    string // on loopback
}

func (d *deployment) repo() string   { return filepath.Join(d.Dir, "fleet.git") }
func (d *deployment) socket() string { return filepath.Join(d.Dir, "agent.sock") }
func (d *deployment) ca() string     { return filepath.Join(d.Dir, "ca.crt") }
func (d *deployment) config() string { return filepath.Join(d.Dir, "agent.cue") }

// deploy does what is missing of it and returns when every running container
// of the example answers over HTTPS.
func (l *Lab) deploy(ctx context.Context, d deployment) error {
	d.Lab = l
	var err error
	if d.swage, err = filepath.Abs(d.swage); err != nil {
		return err
	}
	unlock, err := l.lock(false)
	if err != nil {
		return errDown
	}
	defer unlock()
	return inOrder(
		func() error { return d.repository(ctx) },
		d.configure,
		func() error { return d.agent(ctx) },
		func() error { return d.answer(ctx) },
	)
}

// repository makes the bare repository from the example, once: what was pushed
// to it since is kept.
func (d *deployment) repository(ctx context.Context) error {
	if exists(d.repo()) {
		return nil
	}
	work := filepath.Join(d.Dir, "first-commit")
	fresh := d.repo() + ".new"
	for _, path := range []string{work, fresh} { // of a run that was cut short
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, os.DirFS(d.example)); err != nil {
		return fmt.Errorf("copy the example: %w", err)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", fresh},
		{"-C", work, "init", "--quiet", "--initial-branch=main"},
		{"-C", work, "add", "--all"},
		{"-C", work, "-c", "user.name=swage", "-c", "user.email=swage@localhost", "commit", "--quiet", "--message=The " + filepath.Base(d.example) + " example"},
		{"-C", work, "push", "--quiet", fresh, "main"},
	} {
		if _, err := d.command(ctx, "git", args...); err != nil {
			return err
		}
	}
	if err := giveToCaller(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, d.repo())
}

// giveToCaller makes who ran sudo the owner: Git refuses the repositories of
// others, root's among them.
func giveToCaller(dir string) error {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	})
}

// configure writes the node file.
func (d *deployment) configure() error {
	node := fmt.Sprintf("server: \"lab\"\nsource: path: %q\nstate_dir: %q\nsocket: %q\nincus: socket: %q\n",
		d.repo(), filepath.Join(d.Dir, "state"), d.socket(), d.incusDir()+"/unix.socket")
	return os.WriteFile(d.config(), []byte(node), 0o644)
}

// variables are for scripts, as a shell reads them.
func (d *deployment) variables(url string) error {
	var text strings.Builder
	for _, v := range [][2]string{
		{"SWAGE_LAB_REPO", d.repo()},
		{"SWAGE_LAB_URL", url},
		{"SWAGE_LAB_CA", d.ca()},
		{"SWAGE_SOCKET", d.socket()},
		{"INCUS_DIR", d.incusDir()},
		{"SWAGE", d.swage},
	} {
		fmt.Fprintf(&text, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return os.WriteFile(filepath.Join(d.Dir, "env"), []byte(text.String()), 0o644)
}

// agent starts the agent, unless this very program runs already with this port.
func (d *deployment) agent(ctx context.Context) error {
	c, err := d.cgroups()
	if err != nil {
		return err
	}
	defer c.close()
	arguments := []string{d.swage, "agent", "--config", d.config()}
	for _, pid := range c.pids("exec") {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if !slices.Equal(strings.Split(strings.Trim(string(line), "\x00"), "\x00"), arguments) {
			continue
		}
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if exe == d.swage && bytes.Contains(env, []byte("SWAGE_LAB_PORT="+d.port+"\x00")) {
			return nil
		}
		d.say("stopping the agent (process %d) to start another", pid)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return err
		}
		if err := await(ctx, 20*time.Second, "stop the agent", func() bool { return !slices.Contains(c.pids("exec"), pid) }); err != nil {
			return err
		}
	}
	d.say("starting the agent")
	log, err := os.OpenFile(filepath.Join(d.Dir, "agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{
		"exec", "--dir", d.Dir, "--listen", "127.0.0.1:" + d.port, "--listen-optional", "[::1]:" + d.port, "--",
	}, arguments...)...)
	cmd.Env = append(os.Environ(), "SWAGE_LAB_PORT="+d.port)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this command and its terminal
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// answer waits until all that should run does and answers, and prints how to
// reach it.
func (d *deployment) answer(ctx context.Context) error {
	d.say("waiting for the containers")
	var report *reconcile.Report
	err := await(ctx, time.Minute, "the agent does not finish; see "+filepath.Join(d.Dir, "agent.log"), func() bool {
		r, err := api.Socket(d.socket()).Status(ctx)
		report = r
		return err == nil && !r.Finished.IsZero() && (r.State == reconcile.Applied || r.State == reconcile.Incomplete)
	})
	if err != nil {
		return errors.Join(err, d.tail())
	}
	pem, err := os.ReadFile(filepath.Join(d.Dir, "state", "ca.crt"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.ca(), pem, 0o644); err != nil {
		return err
	}
	client := d.client(pem)
	d.say("\nrepository  %s", d.repo())
	first := ""
	for _, c := range report.Containers {
		for i, url := range c.URLs {
			d.say("%-11s %s", map[bool]string{true: c.Name}[i == 0], url)
			err := await(ctx, 20*time.Second, url+" does not answer; see "+filepath.Join(d.Dir, "agent.log"), func() bool {
				resp, err := client.Get(url)
				if err != nil {
					return false
				}
				resp.Body.Close()
				return resp.StatusCode < 500
			})
			if err != nil {
				return err
			}
			if first == "" {
				first = url
			}
		}
	}
	if first != "" {
		d.say("try         curl --cacert %s %s", d.ca(), first)
	}
	if err := d.variables(first); err != nil {
		return err
	}
	d.say("status      %s status --socket %s", d.swage, d.socket())
	d.say("variables   . %s", filepath.Join(d.Dir, "env"))
	return nil
}

// client reaches the edge without DNS: not every resolver knows *.localhost.
func (d *deployment) client(pem []byte) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var dialer net.Dialer
				return dialer.DialContext(ctx, "tcp", "127.0.0.1:"+d.port)
			},
		},
	}
}

// tail is the end of the agent's log as an error: there the reason stands.
func (d *deployment) tail() error {
	text, err := os.ReadFile(filepath.Join(d.Dir, "agent.log"))
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return errors.New(strings.Join(lines[max(0, len(lines)-10):], "\n"))
}
