//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// down removes the lab in the one order that cannot get stuck: processes,
// which ends the namespaces with all their mounts; mounts out here; loop
// devices; names; the folder. Nothing is asked of Incus, as it may be gone.
func (l *Lab) down(ctx context.Context) error {
	c, err := l.cgroups()
	if err != nil {
		return err
	}
	defer c.close()
	// Without its marker the folder is left to its owner, unless it is empty;
	// a cgroup or network of the lab's name is the lab's all the same.
	remove := func() error { return os.RemoveAll(l.Dir) }
	unlock, err := l.lock(false)
	if errors.Is(err, fs.ErrNotExist) {
		if !exists(c.path("")) && !exists(l.netns()) {
			if exists(l.Dir) {
				return err
			}
			l.say("nothing there")
			return nil
		}
		unlock, remove = func() {}, func() error { return unmount(l.Dir) }
	} else if err != nil {
		return err
	}
	defer unlock()
	if slices.Contains(c.pids("exec"), os.Getpid()) {
		return errors.New("this command runs inside the lab: run it outside")
	}
	err = inOrder(
		func() error { return c.kill(ctx) },
		func() error { return l.killStrays(ctx) },
		l.unmountAll,
		func() error { return l.freeLoops(ctx) },
		func() error { return c.remove(ctx) },
		func() error { return unmount(l.netns()) },
		unshareNetworkNames,
		func() error { return unmount(l.alias()) },
		removePolicy,
		remove,
	)
	if err != nil {
		return err
	}
	if left := l.leftovers(c); len(left) > 0 {
		return fmt.Errorf("still there: %s", strings.Join(left, ", "))
	}
	l.say("removed %s", l.Dir)
	return nil
}

// killStrays ends what entered the lab's network by another door than ours,
// such as `ip netns exec`.
func (l *Lab) killStrays(ctx context.Context) error {
	return await(ctx, 5*time.Second, "end the processes in the lab's network", func() bool {
		pids := inNetwork(l.netns())
		for _, pid := range pids {
			// Looked at again through the handle, so that a number which has
			// meanwhile gone to another process is left alone.
			handle, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			if slices.Contains(inNetwork(l.netns()), pid) {
				_ = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0)
			}
			unix.Close(handle)
		}
		return len(pids) == 0
	})
}

// unmountAll leaves no mount at or below the folder: what is deleted after
// this is the lab's own.
func (l *Lab) unmountAll() error {
	for range 100 {
		mounts, err := readMounts()
		if err != nil {
			return err
		}
		points := below(mounts, l.Dir, l.alias())
		if len(points) == 0 {
			return nil
		}
		for _, point := range points {
			if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", point, err)
			}
		}
	}
	return fmt.Errorf("mounts below %s keep coming back: stop what makes them", l.Dir)
}

// freeLoops waits for the kernel to free what the pool's mount had, and frees
// what a crash left without a mount.
func (l *Lab) freeLoops(ctx context.Context) error {
	return await(ctx, 5*time.Second, "free the loop devices", func() bool {
		devices := loops(l.Dir, l.alias())
		for _, device := range devices {
			if fd, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				_ = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
				unix.Close(fd)
			}
		}
		return len(devices) == 0
	})
}
