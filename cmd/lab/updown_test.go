//go:build linux

package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUpDown walks a whole life: up, a container, a crash of everything that
// holds the lab together, repair, down, and nothing left.
func TestUpDown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: namespaces and mounts cannot be made")
	}
	if testing.Short() {
		t.Skip("-short: a real Incus takes some ten seconds")
	}
	bin := filepath.Join(t.TempDir(), "lab")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "l")
	l, err := newLab(dir, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	try := func(args ...string) (string, error) {
		cmd := exec.Command(bin, args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	lab := func(args ...string) string {
		t.Helper()
		began := time.Now()
		out, err := try(args...)
		if err != nil {
			t.Fatalf("lab %v: %v\n%s", args, err, out)
		}
		t.Logf("%v  lab %s", time.Since(began).Round(time.Millisecond), strings.Join(args, " "))
		return out
	}
	inside := func(args ...string) string {
		t.Helper()
		return lab(append([]string{"exec", "--dir", dir, "--"}, args...)...)
	}
	c, err := l.cgroups()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	t.Cleanup(func() {
		if out, err := try("down", "--dir", dir); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})

	began := time.Now()
	if out, err := try("up", "--dir", dir); err != nil {
		if strings.Contains(out, "YES=1") {
			t.Skipf("packages are missing: %s", out)
		}
		t.Fatalf("up: %v\n%s", err, out)
	}
	t.Logf("%v  lab up, the first", time.Since(began).Round(time.Millisecond))
	inside("incus", "launch", "--quiet", "tiny/1", "guest", "--config",
		"raw.lxc=lxc.net.0.ipv4.address = 198.18.0.10/20\nlxc.net.0.ipv4.gateway = 198.18.0.1")
	reach := func() {
		t.Helper()
		began := time.Now()
		err := await(context.Background(), 20*time.Second, "reach the guest", func() bool {
			return l.inside(c, func() error {
				conn, err := net.DialTimeout("tcp", "198.18.0.10:80", 100*time.Millisecond)
				if err == nil {
					conn.Close()
				}
				return err
			}) == nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v  the guest is reached", time.Since(began).Round(time.Millisecond))
	}
	reach()

	t.Run("exec", func(t *testing.T) {
		_, err := try("exec", "--dir", dir, "--", "sh", "-c", "exit 7")
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 7 {
			t.Errorf("exit code: %v", err)
		}
		if got := inside("pwd"); strings.TrimSpace(got) != mustGetwd(t) {
			t.Errorf("working directory %q", got)
		}
		got := lab("exec", "--dir", dir, "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--",
			"sh", "-c", `echo $LISTEN_FDS $((LISTEN_PID - $$)) $LISTEN_FDNAMES; readlink /proc/$$/fd/3 /proc/$$/fd/4 /proc/$$/fd/5 /proc/$$/fd/6 | cut -d: -f1; [ -e /proc/$$/fd/7 ] || echo end`)
		if want := "4 0 https:https:https:https\nsocket\nsocket\nsocket\nsocket\nend\n"; got != want { // for streams and datagrams in turn
			t.Errorf("listeners: got %q, want %q", got, want)
		}
	})
	t.Run("mounts made later are seen inside", func(t *testing.T) {
		ram := filepath.Join(dir, "ram")
		if err := os.Mkdir(ram, 0o755); err != nil {
			t.Fatal(err)
		}
		// Left mounted, for `lab down` to find.
		if err := unix.Mount("tmpfs", ram, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(ram, "word"), "seen")
		if got := inside("cat", filepath.Join(ram, "word")); got != "seen" {
			t.Errorf("got %q", got)
		}
	})

	// The cgroup tells that a process has ended; its number may stay for a
	// while, until somebody reaps it.
	kill := func(find func() (int, bool)) {
		t.Helper()
		pid, found := find()
		if !found {
			t.Fatal("not running")
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		gone := func() bool { _, found := find(); return !found }
		if err := await(context.Background(), 5*time.Second, "end of "+strconv.Itoa(pid), gone); err != nil {
			t.Fatal(err)
		}
	}
	incusd := func() (int, bool) { return l.incusd(c) }
	before := inside("incus", "list", "--format=csv", "--columns=np")
	kill(incusd)
	lab("up", "--dir", dir)
	if after := inside("incus", "list", "--format=csv", "--columns=np"); after != before {
		t.Errorf("the guest did not live on through a crash of the daemon: %q, then %q", before, after)
	}
	reach()

	kill(incusd)
	kill(c.holder)
	lab("up", "--dir", dir)
	reach()
	if out := lab("up", "--dir", dir); strings.Contains(out, "starting") {
		t.Errorf("the second run starts something: %s", out)
	}

	// `ip netns` changes how its folder is mounted when it adds a name; down
	// must cope.
	name := l.Name + "x"
	for _, verb := range []string{"add", "delete"} {
		if out, err := exec.Command("ip", "netns", verb, name).CombinedOutput(); err != nil {
			t.Fatalf("ip netns %s: %v\n%s", verb, err, out)
		}
	}

	// A command that does not end by itself must not keep the lab alive.
	sleeper := exec.Command(bin, "exec", "--dir", dir, "--", "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	holder, _ := c.holder()
	namespace := "/proc/" + strconv.Itoa(holder) + "/ns/net"
	network, err := os.Readlink(namespace)
	if err != nil {
		t.Fatal(err)
	}
	// Held open, so that no other namespace gets its number meanwhile.
	held, err := os.Open(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	lab("status", "--dir", dir)
	lab("down", "--dir", dir)
	_ = sleeper.Wait()
	if left := l.leftovers(c); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		if have, err := os.Readlink(link); err == nil && have == network {
			t.Errorf("%s is still in the lab's network", link)
		}
	}
	lab("down", "--dir", dir)
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
