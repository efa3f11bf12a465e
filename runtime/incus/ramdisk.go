package incus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"swage/runtime"
)

// ramdiskPath is where a container finds its ramdisk.
const ramdiskPath = "/ramdisk"

// ramdiskDir is where this host mounts it. Incus is given a folder inside: if
// the mount is missing so is the folder, and a start fails where it would
// else write to the disk in silence.
func ramdiskDir(s runtime.Scope, id runtime.ID) string {
	return filepath.Join(ramdisksDir(s), string(id))
}

// ramdisksDir is the folder of them all.
func ramdisksDir(s runtime.Scope) string { return cmp.Or(s.Ramdisks, "/run/swage/ramdisk") }

func ramdiskDevice(s runtime.Scope, id runtime.ID) device {
	return device{
		"type": "disk", "path": ramdiskPath, "shift": "true",
		"source": filepath.Join(ramdiskDir(s, id), "data"),
	}
}

// mount makes sure of the ramdisk of a container that has one.
func (r *Runtime) mount(at place) error {
	if !at.ramdisk {
		return nil
	}
	if away(r.scope.Daemon) {
		return errors.New("a ramdisk needs the agent on the host of Incus, which is elsewhere; write ramdisk: false")
	}
	return r.mountRamdisk(at.id, at.memory)
}

// mountRamdisk makes sure that the ramdisk is there, and of its size; 0 is the
// kernel's own choice. What is in it stays.
func (r *Runtime) mountRamdisk(id runtime.ID, size int64) error {
	dir := ramdiskDir(r.scope, id)
	if _, err := closeFolder(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("ramdisk: %w", err)
	}
	mounted, err := isMount(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("ramdisk: %w", err)
	}
	if err := mountTmpfs(dir, mounted, size); err != nil {
		return err
	}
	data, half := filepath.Join(dir, "data"), filepath.Join(dir, "new")
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	err = errors.Join(
		os.MkdirAll(half, 0o700),
		os.Chmod(half, 0o777|os.ModeSticky), // for every user of the container, as /tmp
		os.Rename(half, data),
	)
	if err != nil {
		return fmt.Errorf("ramdisk: %w", err)
	}
	return nil
}

// closeFolder makes sure of the folder of all ramdisks: what is in them is for
// every user of a container, so that this folder alone keeps the users of the
// host out. It reports whether it was open. One that is a link, or belongs to
// somebody else, is an error.
func closeFolder(dir string) (opened bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("the folder of ramdisks %s must be a folder of its own and no link: %w", dir, err)
	}
	defer unix.Close(fd)
	var is unix.Stat_t
	if err := unix.Fstat(fd, &is); err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	if int(is.Uid) != os.Geteuid() {
		return false, fmt.Errorf("the folder of ramdisks %s belongs to user %d; remove it, or give it to user %d", dir, is.Uid, os.Geteuid())
	}
	if is.Mode&0o077 == 0 {
		return false, nil
	}
	return true, unix.Fchmod(fd, 0o700)
}

// dropRamdisk ends the ramdisk of a stopped container that is given up. It
// comes before the instance: once that is gone nobody remembers its ramdisk.
func (r *Runtime) dropRamdisk(ctx context.Context, at place) error {
	if at.ramdisk {
		// Else Incus complains in its log of the source that it misses. No more:
		// on a full pool it cannot write this, and deletions are the cure.
		_ = r.patch(ctx, at, map[string]any{"devices": map[string]device{ramdisk: noDevice}})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return r.unmountRamdisk(at.id)
}

// unmountRamdisk frees the RAM; there may be none.
func (r *Runtime) unmountRamdisk(id runtime.ID) error {
	dir := ramdiskDir(r.scope, id)
	if err := unmount(dir); err != nil {
		return fmt.Errorf("unmount the ramdisk %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ramdisk: %w", err)
	}
	return nil
}

// isMount tells a mount from the folder that waits for it: it is of another
// device than the folder above.
func isMount(dir string) (bool, error) {
	var own, above unix.Stat_t
	if err := unix.Stat(dir, &own); err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	if err := unix.Stat(filepath.Dir(dir), &above); err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	return own.Dev != above.Dev, nil
}
