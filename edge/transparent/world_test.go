package transparent_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"swage/edge/transparent"
)

// inside says that this process is in a network namespace of its own.
const inside = "SWAGE_TEST_NAMESPACE"

// The first thread is what /proc shows as the whole process, and it never
// ends: no goroutine but main's may run on it, so that it enters no namespace.
func init() { runtime.LockOSThread() }

// TestMain starts itself again in a network namespace of its own, which is the
// edge's: whatever goroutine dials there, it is on the right side. The
// environment is for WebSockets over HTTP/2, see edge.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1", "GODEBUG=http2xconnect=1,"+os.Getenv("GODEBUG"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	switch exit, failed := err.(*exec.ExitError); {
	case failed:
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot make a network namespace; the tests will say so:", err)
		os.Exit(m.Run())
	}
}

const (
	bridge   = "br0"
	patience = 30 * time.Second
)

// The clients are behind a router's link, in a network of their own; each has
// addresses from .2 on. The containers are on the bridge.
const (
	clients4, clients6 = "203.0.113.", "2001:db8::"
	web4, web6         = "198.18.0.10", "fd00:18::10"
	db4, db6           = "198.18.0.11", "fd00:18::11"
	host4, host6       = "198.18.0.1", "fd00:18::1"
)

// world is this process's namespace with a bridge, and its neighbours, made
// anew by each test.
type world struct {
	t  *testing.T
	ns map[string]int
}

// ready makes links of IPv6 usable at once, and not when their addresses are
// known to be free.
const ready = `ip link set lo up
	echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad
	echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad`

// newWorld has so many clients of each family.
func newWorld(t *testing.T, clients int) *world {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root: it makes network namespaces")
	}
	for _, program := range []string{"nft", "ip", "bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the program %s: install nftables and iproute2", program)
		}
	}
	w := &world{t, map[string]int{}}
	for _, name := range []string{"clients", "web", "db"} {
		w.ns[name] = newNamespace(t)
		w.sh(name, ready)
	}
	w.sh("", ready+`
		ip link add br0 type bridge forward_delay 0
		ip addr add 198.18.0.1/24 dev br0
		ip addr add fd00:18::1/64 dev br0 nodad
		ip link set br0 up
		ip link add up0 type veth peer name eth0 netns `+w.path("clients")+`
		ip addr add 203.0.113.1/24 dev up0
		ip addr add 2001:db8::1/64 dev up0 nodad
		ip link set up0 up
		echo 1 > /proc/sys/net/ipv4/ip_forward
		echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
		echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter`)
	t.Cleanup(func() { w.sh("", "for l in br0 up0 web db; do ip link del $l 2>/dev/null || true; done") })
	var addrs strings.Builder
	for i := range clients {
		fmt.Fprintf(&addrs, "ip addr add %s%d/24 dev eth0\nip addr add %s%x/64 dev eth0 nodad\n", clients4, i+2, clients6, i+2)
	}
	w.sh("clients", addrs.String()+"ip link set eth0 up")
	for name, a := range map[string][2]string{"web": {web4, web6}, "db": {db4, db6}} {
		w.sh("", fmt.Sprintf(`ip link add %[1]s type veth peer name eth0 netns %[2]s
			ip link set %[1]s master br0 up
			bridge link set dev %[1]s isolated on`, name, w.path(name)))
		w.sh(name, fmt.Sprintf(`ip addr add %s/24 dev eth0
			ip addr add %s/64 dev eth0 nodad
			ip link set eth0 up
			ip route add default via 198.18.0.1
			ip route add default via fd00:18::1`, a[0], a[1]))
	}
	return w
}

// betweenContainers makes the host stand between the containers, as the
// firewall of a server does.
func (w *world) betweenContainers() {
	w.sh("", `echo 1 > /proc/sys/net/ipv4/conf/br0/proxy_arp_pvlan
		echo 0 > /proc/sys/net/ipv4/neigh/br0/proxy_delay
		echo 1 > /proc/sys/net/ipv6/conf/br0/proxy_ndp
		echo 0 > /proc/sys/net/ipv6/neigh/br0/proxy_delay
		ip -6 neigh add proxy `+web6+` dev br0
		ip -6 neigh add proxy `+db6+` dev br0`)
}

func newNamespace(t *testing.T) int {
	type made struct {
		fd  int
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		var m made
		if m.err = unix.Unshare(unix.CLONE_NEWNET); m.err == nil {
			m.fd, m.err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- m
	}()
	m := <-done
	if m.err != nil {
		t.Fatalf("cannot make a network namespace: %v", m.err)
	}
	t.Cleanup(func() { unix.Close(m.fd) })
	return m.fd
}

// path names somebody's namespace for `ip`.
func (w *world) path(name string) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), w.ns[name])
}

// in runs f on a thread that is at somebody's place, where the sockets and
// programs that f makes are. The empty name is the edge's own.
func (w *world) in(name string, f func() error) error {
	if name == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever, see newNamespace
		if err := unix.Setns(w.ns[name], unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (w *world) sh(name, script string) string {
	w.t.Helper()
	var out []byte
	err := w.in(name, func() (err error) {
		out, err = exec.Command("sh", "-ec", script).CombinedOutput()
		return err
	})
	if err != nil {
		w.t.Fatalf("at %q: %v: %s", name, err, out)
	}
	return string(out)
}

// listen opens a port at somebody's.
func (w *world) listen(name, addr string) net.Listener {
	w.t.Helper()
	var l net.Listener
	if err := w.in(name, func() (err error) { l, err = net.Listen("tcp", addr); return err }); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// tellCaller answers every connection to a container with the address that it
// comes from.
func (w *world) tellCaller(name string) netip.AddrPort {
	l := w.listen(name, ":80")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			_, _ = fmt.Fprint(c, from)
			c.Close()
		}
	}()
	return netip.MustParseAddrPort(web4 + ":80")
}

// setup is a Path that is closed with the test.
func (w *world) setup() *transparent.Path {
	w.t.Helper()
	p := new(transparent.Path)
	if err := p.Setup(w.t.Context(), bridge); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	return p
}

// rules is everything that decides about packets: tables, routing rules, routes
// and the settings of the kernel.
func (w *world) rules() string {
	return w.sh("", `nft -s list ruleset
		ip rule; ip -6 rule
		ip route show table all; ip -6 route show table all
		cd /proc/sys/net
		grep -r . ipv4/conf ipv4/ip_forward ipv6/conf/*/forwarding ipv6/conf/*/proxy_ndp`)
}
