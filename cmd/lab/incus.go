//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The lab's network exists only inside its namespace, so every lab has the
// same. 198.18.0.0/15 is set aside for tests, fd00::/8 for private use.
const (
	bridge   = "incusbr0"
	subnet4  = "198.18.0.1/20"
	subnet6  = "fd00:5a:6e::1/64"
	poolSize = "20GiB"
)

// daemon makes sure that Incus runs in the lab and answers.
func (l *Lab) daemon(ctx context.Context, c *cgroups) error {
	pid, running := l.incusd(c)
	ended := make(chan struct{})
	if !running {
		l.say("starting Incus")
		cmd, err := l.startDaemon(c)
		if err != nil {
			return err
		}
		pid = cmd.Process.Pid
		go func() { _ = cmd.Wait(); close(ended) }()
	}
	err := await(ctx, time.Minute, "wait for Incus", func() bool {
		select {
		case <-ended:
			return true
		default:
			return l.answers()
		}
	})
	if err == nil && l.answers() {
		_, err = l.command(ctx, "incus", "admin", "waitready", "--timeout=60")
	} else if err == nil {
		err = errors.New("the daemon of Incus ended at once")
	}
	if err != nil {
		log, _ := os.ReadFile(l.Dir + "/incusd.log")
		return fmt.Errorf("%w (process %d); the end of %s/incusd.log:\n%s", err, pid, l.Dir, log[max(0, len(log)-1000):])
	}
	return nil
}

// incusd finds the daemon among its children, which may be the same program
// with a command of its own.
func (l *Lab) incusd(c *cgroups) (pid int, found bool) {
	for _, pid := range c.pids("daemon") {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(line), "\x00")
		if filepath.Base(args[0]) == "incusd" && len(args) > 1 && (args[1] == "" || args[1][0] == '-') {
			return pid, true
		}
	}
	return 0, false
}

func (l *Lab) answers() bool {
	conn, err := net.Dial("unix", l.incusDir()+"/unix.socket")
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (l *Lab) startDaemon(c *cgroups) (*exec.Cmd, error) {
	incusd, err := exec.LookPath("incusd")
	if err != nil {
		return nil, fmt.Errorf("find the daemon of Incus: %w", err)
	}
	group, err := os.Open(c.path("daemon"))
	if err != nil {
		return nil, fmt.Errorf("open the lab's cgroup: %w", err)
	}
	defer group.Close()
	log, err := os.OpenFile(l.Dir+"/incusd.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of Incus: %w", err)
	}
	defer log.Close()
	if err := os.MkdirAll(l.incusDir(), 0o711); err != nil {
		return nil, fmt.Errorf("make the folder of Incus: %w", err)
	}
	// Each container costs the daemon some; what may not be raised stays.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	cmd := exec.Command(incusd)
	cmd.Env = l.environ(0)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Setsid: true}
	return cmd, l.inside(c, cmd.Start)
}

// furnish gives Incus its pool, its bridge and the devices of each container.
func (l *Lab) furnish(ctx context.Context, pool string) error {
	if err := l.ensure(ctx, "/1.0/storage-pools/default", "storage", func() error { return l.createPool(ctx, pool) }); err != nil {
		return err
	}
	incus := func(args ...string) error { _, err := l.command(ctx, "incus", args...); return err }
	err := l.ensure(ctx, "/1.0/networks/"+bridge, "network", func() error {
		return incus("network", "create", bridge, "ipv4.address="+subnet4, "ipv6.address="+subnet6, "ipv4.nat=false", "ipv6.nat=false")
	})
	if err != nil {
		return err
	}
	var profile struct {
		Devices map[string]any `json:"devices"`
	}
	if err := l.query(ctx, "/1.0/profiles/default", &profile); err != nil {
		return err
	}
	if profile.Devices["root"] == nil {
		if err := incus("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default"); err != nil {
			return err
		}
	}
	if profile.Devices["eth0"] == nil {
		return incus("profile", "device", "add", "default", "eth0", "nic", "network="+bridge, "security.port_isolation=true")
	}
	return nil
}

// ensure makes what is not there, and makes anew what a crash left half done.
func (l *Lab) ensure(ctx context.Context, path, noun string, create func() error) error {
	var have struct {
		Status string `json:"status"`
	}
	if l.query(ctx, path, &have) == nil {
		if have.Status == "Created" {
			return nil
		}
		if _, err := l.command(ctx, "incus", noun, "delete", filepath.Base(path)); err != nil {
			return err
		}
	}
	return create()
}

// createPool prefers btrfs in a file: about ten times quicker than plain
// folders, and it holds containers to their size. Not every machine can.
func (l *Lab) createPool(ctx context.Context, kind string) error {
	var err error
	if kind != "auto" && kind != "btrfs" && kind != "dir" {
		return fmt.Errorf("--pool %q: say auto, btrfs or dir", kind)
	}
	if kind != "dir" {
		l.say("making a btrfs pool of %s, which takes space as it fills", poolSize)
		if _, err = l.command(ctx, "incus", "storage", "create", "default", "btrfs", "size="+poolSize); err == nil || kind == "btrfs" {
			return err
		}
		l.say("no btrfs here, plain folders instead (%v)", err)
		_, _ = l.command(ctx, "incus", "storage", "delete", "default")
	}
	_, err = l.command(ctx, "incus", "storage", "create", "default", "dir")
	return err
}

func (l *Lab) query(ctx context.Context, path string, answer any) error {
	text, err := l.command(ctx, "incus", "query", path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), answer); err != nil {
		return fmt.Errorf("the answer of Incus to %s: %w", path, err)
	}
	return nil
}
