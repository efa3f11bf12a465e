//go:build linux

// Lab gives a Debian or Ubuntu machine a private Incus to throw away: its own
// network, mounts, cgroup and storage, all of it below one folder, nothing of
// the machine's own Incus or network touched. See `lab help`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

const usage = `lab: a private, throw-away Incus

  lab up     [--dir DIR] [--pool auto|btrfs|dir] [--for-tests]
             make it, or repair it; harmless when it runs. --for-tests installs
             what tests need besides
  lab down   [--dir DIR]                          remove it without a trace
  lab status [--dir DIR]                          what runs
  lab image  [--dir DIR] tiny|debian/12|debian/13 build an image and import it
  lab deploy [--dir DIR] [--swage FILE] [--port N] EXAMPLE
             start an agent that follows a repository made from a fleet, and
             serve it on loopback
  lab peers                                       install what make bench compares with
  lab exec   [--dir DIR] [--listen ADDR]... [--listen-optional ADDR]... -- COMMAND [ARG]...
             run a command in the lab's network; listeners are opened out here
             and handed over as systemd's socket activation does

DIR is .lab unless told. Missing packages are installed from the machine's own
apt source after a question, or without one when YES=1 is set.
`

func main() {
	// First of all, before the runtime opens files of its own; see exec.go.
	reserveListenFDs(os.Args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if args[0] != "exec" {
		// What the caller left open is not for daemons to hold.
		_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	}
	if args[0] == holdCommand {
		return report(stderr, hold(args[1:]))
	}
	flags := flag.NewFlagSet("lab "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	dir := flags.String("dir", ".lab", "")
	command := map[string]func(l *Lab) error{
		"up":     nil,
		"down":   func(l *Lab) error { return l.down(ctx) },
		"status": func(l *Lab) error { return l.status(ctx) },
		"image":  func(l *Lab) error { return l.images(ctx, flags.Args(), stdin) },
		"peers":  func(l *Lab) error { return l.peers(ctx, stdin) },
		"deploy": nil,
		"exec":   nil,
	}
	switch args[0] {
	case "up":
		pool := flags.String("pool", "auto", "")
		tests := flags.Bool("for-tests", false, "")
		command["up"] = func(l *Lab) error {
			needs := needed
			if *tests {
				needs = slices.Concat(needed, forTests)
			}
			return l.up(ctx, *pool, needs, stdin)
		}
	case "deploy":
		var d deployment
		flags.StringVar(&d.swage, "swage", ".bin/swage", "")
		flags.StringVar(&d.port, "port", "8443", "")
		command["deploy"] = func(l *Lab) error {
			if flags.NArg() != 1 {
				return errors.New("deploy: name the folder of one fleet, such as examples/quickstart")
			}
			d.example = flags.Arg(0)
			return l.deploy(ctx, d)
		}
	case "exec":
		var listen listeners
		flags.Func("listen", "", listen.add(false))
		flags.Func("listen-optional", "", listen.add(true))
		command["exec"] = func(l *Lab) error { return l.exec(flags.Args(), listen, stderr) }
	}
	do, known := command[args[0]]
	if !known {
		fmt.Fprintf(stderr, "lab: no command %q\n%s", args[0], usage)
		return 2
	}
	if err := flags.Parse(args[1:]); err != nil {
		return 2
	}
	if os.Geteuid() != 0 {
		return report(stderr, asRoot())
	}
	// Where daemons are, also for who has a user's PATH.
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin:/usr/libexec/incus:/opt/incus/bin")
	lab, err := newLab(*dir, stdout)
	if err != nil {
		return report(stderr, err)
	}
	return report(stderr, do(lab))
}

func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "lab:", err)
	if errors.Is(err, exec.ErrNotFound) {
		return 127
	}
	return 1
}

// asRoot starts this very command again under sudo. HOME is left to sudo, so
// that no file of root's lands in the user's caches.
func asRoot() error {
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return errors.New("namespaces need root, and there is no sudo: run this as root")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of lab itself: %w", err)
	}
	args := []string{"sudo", "--", "env"}
	for _, key := range []string{"PATH", "YES", "XDG_CACHE_HOME", "DEBIAN_MIRROR", "GOPROXY", "GOFLAGS", "GOTOOLCHAIN"} {
		if value, set := os.LookupEnv(key); set {
			args = append(args, key+"="+value)
		}
	}
	args = append(append(args, self), os.Args[1:]...)
	return fmt.Errorf("start sudo: %w", syscall.Exec(sudo, args, os.Environ()))
}
