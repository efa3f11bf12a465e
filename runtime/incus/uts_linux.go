package incus

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// setHostname changes the host name that a process sees, and all others of its
// container. Nothing inside is needed: a thread of ours goes in and does it.
func setHostname(pid int64, name string) error {
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/uts", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	ended := make(chan error)
	go func() {
		// Never unlocked: the thread must not serve anybody else afterwards,
		// and ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Setns(ns, unix.CLONE_NEWUTS)
		if err == nil {
			err = unix.Sethostname([]byte(name))
		}
		ended <- err
	}()
	return <-ended
}
