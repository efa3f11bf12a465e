//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket activation, as in sd_listen_fds(3): descriptors from 3 on, their
// number in LISTEN_FDS, the process meant in LISTEN_PID.
const (
	firstFD   = 3
	maxListen = 16 // each with a socket for datagrams beside it
)

// reserveListenFDs puts placeholders where the listeners will be, so that the
// runtime's poller, which it opens later, is not there when they move in.
func reserveListenFDs(args []string) {
	if len(args) < 2 || args[1] != "exec" {
		return
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for fd := firstFD; fd < firstFD+2*maxListen; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			_ = unix.Dup3(null, fd, unix.O_CLOEXEC)
		}
	}
}

type listener struct {
	addr     string
	optional bool
}

// listeners are in the order of the flags, which is that of the descriptors.
type listeners []listener

func (ls *listeners) add(optional bool) func(string) error {
	return func(addr string) error {
		if len(*ls) == maxListen {
			return fmt.Errorf("at most %d listeners", maxListen)
		}
		*ls = append(*ls, listener{addr, optional})
		return nil
	}
}

// open listens in the network of the caller: on each address for streams, and
// where it can for datagrams, which HTTP/3 needs. The files are duplicates; the
// listeners they came from may be forgotten.
func (ls listeners) open(stderr io.Writer) ([]*os.File, error) {
	var files []*os.File
	for _, l := range ls {
		opened, err := net.Listen("tcp", l.addr)
		if l.optional && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
			fmt.Fprintf(stderr, "lab: not listening on %s, this machine does not have it\n", l.addr)
			continue
		} else if err != nil {
			return nil, fmt.Errorf("listen for the command: %w", err)
		}
		file, err := opened.(*net.TCPListener).File()
		if err != nil {
			return nil, fmt.Errorf("hand over the listener %s: %w", l.addr, err)
		}
		files = append(files, file)
		packets, err := net.ListenPacket("udp", opened.Addr().String()) // the port may have been drawn
		if err != nil {
			fmt.Fprintf(stderr, "lab: no HTTP/3 on %s: %v\n", opened.Addr(), err)
			continue
		}
		if file, err = packets.(*net.UDPConn).File(); err != nil {
			return nil, fmt.Errorf("hand over the datagrams of %s: %w", l.addr, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// exec becomes the command: same process, now inside the lab. It returns only
// if that fails.
func (l *Lab) exec(command []string, ls listeners, stderr io.Writer) error {
	if len(command) == 0 {
		return errors.New("exec: name a command after --, such as lab exec -- incus list")
	}
	files, err := ls.open(stderr)
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the working directory: %w", err)
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	c, err := l.cgroups()
	if err != nil {
		return err
	}
	defer c.close()
	return l.inside(c, func() error {
		if err := os.WriteFile(c.path("exec/cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter the lab's cgroup: %w", err)
		}
		// The same path, but looked up in the lab's mounts.
		if err := unix.Chdir(dir); err != nil {
			return fmt.Errorf("enter %s inside the lab: %w", dir, err)
		}
		for i, file := range files {
			if err := unix.Dup3(int(file.Fd()), firstFD+i, 0); err != nil {
				return fmt.Errorf("hand over a listener: %w", err)
			}
		}
		return fmt.Errorf("start %s: %w", program, syscall.Exec(program, command, l.environ(len(files))))
	})
}

// environ is the caller's environment with the lab's Incus in it, and with no
// word of an activation that was meant for the caller.
func (l *Lab) environ(sockets int) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "LISTEN_") && !strings.HasPrefix(pair, "INCUS_") {
			env = append(env, pair)
		}
	}
	env = append(env, "INCUS_DIR="+l.incusDir())
	if sockets > 0 {
		names := strings.TrimSuffix(strings.Repeat("https:", sockets), ":")
		env = append(env, "LISTEN_FDS="+strconv.Itoa(sockets), "LISTEN_PID="+strconv.Itoa(os.Getpid()), "LISTEN_FDNAMES="+names)
	}
	return env
}
