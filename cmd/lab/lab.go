//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// marker is the file that makes a folder a lab. Nothing is ever deleted from a
// folder without it, and its lock keeps two commands from one lab.
const marker = ".swage-lab"

// maxIncusDir leaves room for Incus' longest socket, guestapi/sock, in the 107
// characters that the kernel allows for the path of one.
const maxIncusDir = 107 - len("/guestapi/sock")

// Lab is where everything of one lab is found. All of it follows from Dir:
// whatever else there is to know is read from the kernel or asked of Incus.
type Lab struct {
	Dir  string // absolute, without symbolic links, as mount tables show it
	Name string // of the network namespace and the cgroup
	out  io.Writer
}

func newLab(dir string, out io.Writer) (*Lab, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the folder: %w", err)
	}
	// The folder itself may be missing, its parent may not.
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return nil, fmt.Errorf("the folder above %s: %w", abs, err)
	}
	abs = filepath.Join(parent, filepath.Base(abs))
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	return &Lab{Dir: abs, Name: nameOf(abs), out: out}, nil
}

func nameOf(dir string) string { return fmt.Sprintf("swage-%x", sha256.Sum256([]byte(dir)))[:14] }

func (l *Lab) netns() string { return "/run/netns/" + l.Name }

// alias is a second path to Dir, a mount, where the first is of no use to Incus.
func (l *Lab) alias() string { return "/run/" + l.Name }

// incusDir is what INCUS_DIR must be. It goes by the alias when its path would
// be too long for sockets, or leads through a folder that is closed to others:
// a container's root is an other to this machine, and must reach its files.
func (l *Lab) incusDir() string {
	if len(l.Dir+"/incus") > maxIncusDir {
		return l.alias() + "/incus"
	}
	for dir := filepath.Dir(l.Dir); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o001 == 0 {
			return l.alias() + "/incus"
		}
		if dir == "/" {
			return l.Dir + "/incus"
		}
	}
}

func (l *Lab) say(format string, args ...any) { fmt.Fprintf(l.out, format+"\n", args...) }

// lock makes sure that the folder is a lab and that it is ours alone until
// unlock. With create it makes one of a folder that is missing or empty.
func (l *Lab) lock(create bool) (unlock func(), err error) {
	path := filepath.Join(l.Dir, marker)
	if create {
		if err := os.MkdirAll(l.Dir, 0o711); err != nil {
			return nil, fmt.Errorf("make the lab's folder: %w", err)
		}
		if found, err := os.ReadDir(l.Dir); err != nil {
			return nil, fmt.Errorf("read the lab's folder: %w", err)
		} else if _, err := os.Stat(path); err != nil && len(found) > 0 {
			return nil, fmt.Errorf("%s holds other things (%s, …): name an empty folder with --dir", l.Dir, found[0].Name())
		}
	}
	mode := os.O_RDWR
	if create {
		mode |= os.O_CREATE
	}
	f, err := os.OpenFile(path, mode, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s is no lab: %w", l.Dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Who waited for `lab down` holds a file that is no longer there.
	mine, _ := f.Stat()
	if there, err := os.Stat(path); err != nil || !os.SameFile(mine, there) {
		return nil, fmt.Errorf("%s was removed meanwhile: run this again", l.Dir)
	}
	return func() { f.Close() }, nil
}

// command runs a program to its end and returns what it printed. The error
// carries the last lines of it, since there the reason stands.
func (l *Lab) command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "INCUS_DIR="+l.incusDir(), "INCUS_CONF="+l.Dir+"/client", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()+errs.String()), "\n")
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return out.String(), nil
}

// await polls until done says so. It is bounded: what it waits for is local
// and quick, or broken.
func await(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// inOrder runs the steps until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

var errDown = errors.New("the lab is not running: start it with `lab up`")
