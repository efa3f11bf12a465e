//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// holdCommand is how lab starts itself as the holder; not for people.
const holdCommand = "_hold"

// namespaces makes sure that a holder keeps the lab's network and mount
// namespaces, and that the network one is found at its name.
//
// The two belong together: a lab whose holder is gone is ended whole and begun
// anew, as a reboot would. Incus then starts what ran before.
func (l *Lab) namespaces(ctx context.Context, c *cgroups) (holder int, err error) {
	pid, found := c.holder()
	if !found {
		l.say("making namespaces %s", l.Name)
		err := inOrder(
			func() error { return c.kill(ctx) },
			func() error { return unmount(l.netns()) },
			c.make,
			l.bindShared,
			func() error { return l.startHolder(c) },
			func() error {
				return await(ctx, 10*time.Second, "wait for the namespaces", func() bool {
					pid, found = c.holder()
					return found || !c.populated()
				})
			},
		)
		if err != nil {
			return 0, err
		}
		if !found {
			reason, _ := os.ReadFile(l.Dir + "/holder.log")
			return 0, fmt.Errorf("the namespaces could not be made: %s", reason)
		}
	}
	return pid, l.nameNetwork(pid)
}

// bindShared mounts the folder on itself as a shared mount. The lab's mount
// namespace is a slave of it: what the machine later mounts below the folder
// is seen inside, and what Incus mounts inside is not seen out here.
func (l *Lab) bindShared() error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	mounted := func(point string) bool {
		return slices.ContainsFunc(mounts, func(m Mount) bool { return m.Point == point && m.Shared })
	}
	if !mounted(l.Dir) {
		if err := unix.Mount(l.Dir, l.Dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on itself: %w", l.Dir, err)
		}
		if err := unix.Mount("", l.Dir, "", unix.MS_SHARED, ""); err != nil {
			return fmt.Errorf("share the mount %s: %w", l.Dir, err)
		}
	}
	// The alias joins the same group of mounts: what appears below the one
	// appears below the other.
	if l.incusDir() == l.Dir+"/incus" || mounted(l.alias()) {
		return nil
	}
	if err := os.MkdirAll(l.alias(), 0o711); err != nil {
		return fmt.Errorf("make a shorter path to %s: %w", l.Dir, err)
	}
	if err := unix.Mount(l.Dir, l.alias(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("make a shorter path to %s: %w", l.Dir, err)
	}
	return nil
}

func (l *Lab) startHolder(c *cgroups) error {
	setup, err := os.Open(c.path("setup"))
	if err != nil {
		return fmt.Errorf("open the lab's cgroup: %w", err)
	}
	defer setup.Close()
	log, err := os.Create(l.Dir + "/holder.log")
	if err != nil {
		return fmt.Errorf("make the holder's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", holdCommand, l.Name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UseCgroupFD: true, CgroupFD: int(setup.Fd()), Setsid: true,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the holder of the namespaces: %w", err)
	}
	go cmd.Wait() // reaps it, should it end while we are here
	return nil
}

// hold runs inside new namespaces, furnishes them and stays as a `sleep`. Its
// last step is into the cgroup "holder": who finds it there finds it ready.
func hold(args []string) error {
	name := args[0]
	c, err := (&Lab{Name: name}).cgroups()
	if err != nil {
		return err
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return fmt.Errorf("find a program that waits: %w", err)
	}
	const cg = "/sys/fs/cgroup"
	var tree int
	mount := func(source, target, kind string, flags uintptr) func() error {
		return func() error {
			if err := unix.Mount(source, target, kind, flags, ""); err != nil {
				return fmt.Errorf("mount %s on %s: %w", source, target, err)
			}
			return nil
		}
	}
	err = inOrder(
		mount("", "/", "", unix.MS_REC|unix.MS_SLAVE),
		func() (err error) {
			tree, err = unix.OpenTree(unix.AT_FDCWD, c.path(""), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			return err
		},
		// A sysfs shows the network of whoever mounts it, and Incus looks for
		// its bridge there.
		func() error { return unix.Unmount("/sys", unix.MNT_DETACH) },
		mount("sysfs", "/sys", "sysfs", 0),
		func() error { _ = mount("securityfs", "/sys/kernel/security", "securityfs", 0)(); return nil }, // AppArmor, where there is one
		// Pure cgroup v2, with our cgroup as its root, so that LXC puts the
		// containers below it. Programs that join the path from /proc/…/cgroup
		// to the mount find the same folder a second time under its name.
		func() error { return unix.MoveMount(tree, "", unix.AT_FDCWD, cg, unix.MOVE_MOUNT_F_EMPTY_PATH) },
		func() error { return os.MkdirAll(filepath.Join(cg, name), 0o755) },
		mount(cg, filepath.Join(cg, name), "", unix.MS_BIND),
		func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) },
		func() error { return exec.Command("ip", "link", "set", "lo", "up").Run() },
		func() error { return os.WriteFile(cg+"/holder/cgroup.procs", []byte("0"), 0) },
	)
	if err != nil {
		return err
	}
	return syscall.Exec(sleep, []string{name, "infinity"}, nil)
}

// nameNetwork binds the network namespace to its name, where `ip netns` looks.
func (l *Lab) nameNetwork(holder int) error {
	own := fmt.Sprintf("/proc/%d/ns/net", holder)
	want, err := os.Stat(own)
	if err != nil {
		return fmt.Errorf("find the lab's network: %w", err)
	}
	if have, err := os.Stat(l.netns()); err == nil && os.SameFile(have, want) {
		return nil
	}
	if err := unmount(l.netns()); err != nil {
		return err
	}
	if err := shareNetworkNames(); err != nil {
		return fmt.Errorf("name the lab's network: %w", err)
	}
	if err := os.WriteFile(l.netns(), nil, 0o444); err != nil {
		return fmt.Errorf("name the lab's network: %w", err)
	}
	if err := unix.Mount(own, l.netns(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("name the lab's network: %w", err)
	}
	return nil
}

// networkNames is where `ip netns` keeps its names. It mounts the folder on
// itself when it adds one, on top of what is mounted below by then, which could
// not be unmounted any more. So the same is done here before, and noted, so
// that the last lab undoes it.
const (
	networkNames = "/run/netns"
	namesByLab   = "/run/swage-netns"
)

func shareNetworkNames() error {
	if err := os.MkdirAll(networkNames, 0o755); err != nil {
		return err
	}
	mounts, err := readMounts()
	if err != nil || slices.Contains(below(mounts, networkNames), networkNames) {
		return err
	}
	if err := os.WriteFile(namesByLab, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(networkNames, networkNames, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", networkNames, "", unix.MS_SHARED|unix.MS_REC, "")
}

// unshareNetworkNames undoes it once nobody has a name there.
func unshareNetworkNames() error {
	names, err := os.ReadDir(networkNames)
	if err != nil || len(names) > 0 || !exists(namesByLab) {
		return nil
	}
	if err := unix.Unmount(networkNames, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", networkNames, err)
	}
	return os.Remove(namesByLab)
}

// The first thread is what /proc shows as the whole process, and it never
// ends: no goroutine but main's may run on it, so that it never goes inside.
func init() { runtime.LockOSThread() }

// inside runs f on a thread of its own that has entered the lab. Programs that
// f starts, or becomes, are in the lab; the rest of this process stays outside.
func (l *Lab) inside(c *cgroups, f func() error) error {
	holder, found := c.holder()
	if !found {
		return errDown
	}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, as nothing else
		// may run on it.
		runtime.LockOSThread()
		done <- func() error {
			// A mount namespace can be entered only by who shares its working
			// directory with nobody.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("prepare to enter the lab: %w", err)
			}
			for _, kind := range []struct {
				name string
				flag int
			}{{"net", unix.CLONE_NEWNET}, {"mnt", unix.CLONE_NEWNS}} {
				fd, err := unix.Open("/proc/"+strconv.Itoa(holder)+"/ns/"+kind.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return fmt.Errorf("find the lab's %s namespace: %w", kind.name, err)
				}
				err = unix.Setns(fd, kind.flag)
				unix.Close(fd)
				if err != nil {
					return fmt.Errorf("enter the lab's %s namespace: %w", kind.name, err)
				}
			}
			return f()
		}()
	}()
	return <-done
}

// unmount takes every mount off path, and path itself away; it may be missing.
func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
