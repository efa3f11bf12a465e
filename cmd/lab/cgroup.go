//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The lab's cgroup stands below the root of the v2 hierarchy and has the lab's
// name. Every process of the lab is in one of its children:
//
//	setup      a holder that is not ready
//	holder     the ready holder, one process
//	daemon     incusd, dnsmasq and other children of incusd
//	exec       what `lab exec` runs
//	lxc.*      the containers, made by LXC, which takes our cgroup for the root
//
// So the processes are found here by the kernel's word, not by a pid file.
var cgroupChildren = []string{"setup", "holder", "daemon", "exec"}

type cgroups struct {
	root *os.File // of the v2 hierarchy
	name string
}

func (l *Lab) cgroups() (*cgroups, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	root, err := openHierarchy(mounts)
	if err != nil {
		return nil, err
	}
	return &cgroups{root, l.Name}, nil
}

// openHierarchy opens the v2 hierarchy where the machine has it mounted, since
// a second mount would reset the options of the first. Where it is mounted
// nowhere, it is opened by a mount that is attached nowhere either.
func openHierarchy(mounts []Mount) (*os.File, error) {
	for _, m := range mounts {
		if m.Kind == "cgroup2" {
			return os.Open(m.Point)
		}
	}
	fsfd, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open the cgroup v2 hierarchy (Linux 5.14 or later is needed): %w", err)
	}
	defer unix.Close(fsfd)
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("open the cgroup v2 hierarchy: %w", err)
	}
	root, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount the cgroup v2 hierarchy: %w", err)
	}
	return os.NewFile(uintptr(root), "cgroup2"), nil
}

func (c *cgroups) close() { c.root.Close() }

func (c *cgroups) path(child string) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(c.root.Fd())), c.name, child)
}

// make creates the tree and passes on every controller the machine has given
// to it. None is no fault: limits are then accepted and not enforced.
func (c *cgroups) make() error {
	for _, child := range cgroupChildren {
		if err := os.MkdirAll(c.path(child), 0o755); err != nil {
			return fmt.Errorf("make the lab's cgroup: %w", err)
		}
	}
	controllers, _ := os.ReadFile(c.path("cgroup.controllers"))
	for _, controller := range strings.Fields(string(controllers)) {
		_ = os.WriteFile(c.path("cgroup.subtree_control"), []byte("+"+controller), 0)
	}
	return nil
}

// pids are the processes of one child.
func (c *cgroups) pids(child string) []int {
	text, _ := os.ReadFile(filepath.Join(c.path(child), "cgroup.procs"))
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *cgroups) holder() (pid int, found bool) {
	pids := c.pids("holder")
	if len(pids) == 0 {
		return 0, false
	}
	return pids[0], true
}

// kill ends every process of the lab, frozen ones too, until none is born any
// more. The file cgroup.kill would do it in one stroke, but some kernels then
// also kill whatever is later started into the same cgroup.
func (c *cgroups) kill(ctx context.Context) error {
	return await(ctx, 10*time.Second, "wait for the lab's processes to end", func() bool {
		for _, dir := range c.tree() {
			for _, pid := range c.pids(dir) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return !c.populated()
	})
}

// tree names the lab's cgroup and all below it, the deepest last.
func (c *cgroups) tree() []string {
	var dirs []string
	_ = filepath.WalkDir(c.path(""), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, strings.TrimPrefix(path, c.path("")))
		}
		return nil
	})
	return dirs
}

func (c *cgroups) populated() bool {
	events, _ := os.ReadFile(c.path("cgroup.events"))
	return strings.Contains(string(events), "populated 1")
}

// remove takes the empty tree away, deepest first.
func (c *cgroups) remove(ctx context.Context) error {
	return await(ctx, 5*time.Second, "remove the lab's cgroup", func() bool {
		for _, dir := range slices.Backward(c.tree()) {
			_ = unix.Rmdir(c.path(dir))
		}
		_, err := os.Stat(c.path(""))
		return errors.Is(err, fs.ErrNotExist)
	})
}
