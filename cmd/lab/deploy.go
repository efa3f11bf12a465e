//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
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

// deployment is an agent in the lab that an example was pushed to, and that
// serves it to the machine around the lab.
type deployment struct {
	*Lab
	example string // folder of a fleet with a server "lab"
	swage   string // the program
	port    string // on loopback
}

func (d *deployment) repo() string   { return filepath.Join(d.Dir, "state", "fleet.git") }
func (d *deployment) token() string  { return filepath.Join(d.Dir, "token") }
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
		d.configure,
		func() error { return d.agent(ctx) },
		func() error { return d.push(ctx) },
		func() error { return d.answer(ctx) },
	)
}

// push makes the first commit from the example and pushes it, unless something
// was pushed before. What git says is shown.
func (d *deployment) push(ctx context.Context) error {
	err := await(ctx, 20*time.Second, "the agent does not start; see "+filepath.Join(d.Dir, "agent.log"), func() bool {
		_, err := api.Socket(d.socket()).Status(ctx)
		return err == nil
	})
	if err != nil {
		return errors.Join(err, d.tail())
	}
	if _, err := d.command(ctx, "git", "-C", d.repo(), "rev-parse", "--verify", "--quiet", "refs/heads/main"); err == nil {
		return nil
	}
	work := filepath.Join(d.Dir, "first-commit")
	if err := os.RemoveAll(work); err != nil { // of a run that was cut short
		return err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, os.DirFS(d.example)); err != nil {
		return fmt.Errorf("copy the example: %w", err)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "--all"},
		{"-c", "user.name=swage", "-c", "user.email=swage@localhost", "commit", "--quiet", "--message=The " + filepath.Base(d.example) + " example"},
	} {
		if _, err := d.command(ctx, "git", append([]string{"-C", work}, args...)...); err != nil {
			return err
		}
	}
	d.say("pushing %s", d.example)
	cmd := exec.CommandContext(ctx, "git", "-C", work, "push", d.repo(), "main")
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("git push: %w", err), d.tail())
	}
	return nil
}

// giveToCaller makes who ran sudo the owner of a file.
func giveToCaller(path string) error {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// configure writes the node file, and once the token for pushes.
func (d *deployment) configure() error {
	if !exists(d.token()) {
		if err := os.WriteFile(d.token(), []byte(rand.Text()), 0o600); err != nil {
			return err
		}
	}
	node := fmt.Sprintf("server: \"lab\"\nsource: push: true\nstate_dir: %q\nsocket: %q\ntoken: file: %q\nincus: socket: %q\n",
		filepath.Join(d.Dir, "state"), d.socket(), d.token(), d.incusDir()+"/unix.socket")
	return os.WriteFile(d.config(), []byte(node), 0o644)
}

// variables are for scripts, as a shell reads them. They hold the token, so
// only who began the lab may read them.
func (d *deployment) variables(remote, url string) error {
	token, err := os.ReadFile(d.token())
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, v := range [][2]string{
		{"SWAGE_LAB_REPO", strings.Replace(remote, "https://", "https://me:"+string(token)+"@", 1)},
		{"SWAGE_LAB_URL", url},
		{"SWAGE_LAB_CA", d.ca()},
		{"SWAGE_SOCKET", d.socket()},
		{"INCUS_DIR", d.incusDir()},
		{"SWAGE", d.swage},
	} {
		fmt.Fprintf(&text, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	// Where it is set, git heeds it above the configuration of a clone.
	text.WriteString("unset GIT_SSL_CAINFO\n")
	name := filepath.Join(d.Dir, "env")
	return errors.Join(os.WriteFile(name, []byte(text.String()), 0o600), giveToCaller(name))
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
	log, err := os.OpenFile(filepath.Join(d.Dir, "agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
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
	remote := "https://git." + report.Zone + ":" + d.port + "/fleet"
	d.say("\nrepository  %s", remote)
	first := "" // that answers everyone
	for _, c := range report.Containers {
		for i, url := range c.URLs {
			d.say("%-11s %s", map[bool]string{true: c.Name}[i == 0], url)
			err := await(ctx, 20*time.Second, url+" does not answer; see "+filepath.Join(d.Dir, "agent.log"), func() bool {
				resp, err := client.Get(url)
				if err != nil {
					return false
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK && first == "" {
					first = url
				}
				return resp.StatusCode < 500
			})
			if err != nil {
				return err
			}
		}
	}
	if first != "" {
		d.say("try         curl --cacert %s %s", d.ca(), first)
	}
	if err := d.variables(remote, first); err != nil {
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
