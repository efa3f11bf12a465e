package incus

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountTmpfs makes one at dir, or gives the one there another size; 0 is the
// kernel's own choice.
func mountTmpfs(dir string, mounted bool, size int64) error {
	options, flags := "mode=0700,size=50%", uintptr(unix.MS_NOSUID|unix.MS_NODEV)
	if size > 0 {
		options = "mode=0700,size=" + strconv.FormatInt(size, 10)
	}
	if mounted {
		flags |= unix.MS_REMOUNT
	}
	switch err := unix.Mount("swage", dir, "tmpfs", flags, options); {
	case mounted && errors.Is(err, unix.EINVAL):
		return fmt.Errorf("ramdisk %s holds more than its new size of %d bytes; empty it first", dir, size)
	case err != nil:
		return fmt.Errorf("mount the ramdisk %s: %w", dir, err)
	}
	return nil
}

// unmount takes every mount off dir, which may be missing.
func unmount(dir string) error {
	for {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
