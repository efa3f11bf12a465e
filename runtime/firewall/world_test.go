package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
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
)

// The first thread is what /proc shows as the whole process, and it never
// ends: no goroutine but main's may run on it, so that it enters no namespace.
func init() { runtime.LockOSThread() }

// silence is how long nothing must be heard where nothing is expected; what is
// expected may take longer on a busy machine.
const (
	silence = 300 * time.Millisecond
	hearing = 5 * time.Second
)

const (
	table  = "swage-test"
	bridge = "br0"
)

// Everybody in the world, by name. The bridge has isolated ports, as those of
// Incus with security.port_isolation. The host's address for the outside is
// 203.0.113.1.
var people = map[string]struct{ addr, addr6 string }{
	"host":      {"198.18.0.1", "fd00:18::1"},
	"outside":   {"203.0.113.2", "2001:db8::2"},
	"shop/web":  {"198.18.0.10", "fd00:18::10"},
	"shop/db":   {"198.18.0.11", "fd00:18::11"},
	"blog/mail": {"198.18.0.20", "fd00:18::20"},
}

// world is a host with containers and an outside, in namespaces that vanish
// with the test.
type world struct {
	t  *testing.T
	ns map[string]int
}

// newWorld needs root. Everybody serves TCP and UDP on some ports and answers
// with the address that it was called from.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	for _, program := range []string{"nft", "ip", "bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the program %s: install %s", program, packages[program])
		}
	}
	t.Parallel()
	w := &world{t, map[string]int{}}
	for name := range people {
		w.ns[name] = newNamespace(t)
		w.sh(name, "ip link set lo up")
	}
	w.in("host", func() error {
		for _, s := range []string{"ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0"} {
			path, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	w.bridgeNetfilter("0")
	w.sh("host", `ip link add br0 type bridge forward_delay 0
		ip addr add 198.18.0.1/24 dev br0
		ip addr add fd00:18::1/64 dev br0 nodad
		ip link set br0 up
		ip link add up0 type veth peer name eth0 netns `+w.path("outside")+`
		ip addr add 203.0.113.1/24 dev up0
		ip addr add 2001:db8::1/64 dev up0 nodad
		ip link set up0 up`)
	// The outside even knows the way to the containers' own addresses.
	w.sh("outside", `ip addr add 203.0.113.2/24 dev eth0
		ip addr add 203.0.113.3/24 dev eth0
		ip addr add 2001:db8::2/64 dev eth0 nodad
		ip link set eth0 up
		ip route add 198.18.0.0/24 via 203.0.113.1
		ip route add fd00:18::/64 via 2001:db8::1`)
	i := 0
	for name, p := range people {
		if !strings.Contains(name, "/") {
			continue
		}
		i++
		w.sh("host", fmt.Sprintf(`ip link add ve%[1]d type veth peer name eth0 netns %[2]s
			ip link set ve%[1]d master br0 up
			bridge link set dev ve%[1]d isolated on`, i, w.path(name)))
		w.sh(name, fmt.Sprintf(`ip addr add %s/24 dev eth0
			ip addr add %s/64 dev eth0 nodad
			ip link set eth0 up
			ip route add default via 198.18.0.1
			ip route add default via fd00:18::1`, p.addr, p.addr6))
	}
	for name := range people {
		for _, port := range []int{53, 67, 80, 81, 5432} {
			w.serve(name, port)
		}
	}
	// A link of IPv6 is deaf until its own address is known to be free.
	for name := range people {
		w.sh(name, `for i in $(seq 50); do ip -6 addr show tentative | grep -q inet6 || exit 0; sleep 0.1; done; exit 1`)
	}
	return w
}

// bridgeNetfilter says whether the host's kernel shows bridged packets to
// tables that are not of the bridge family. Docker and Kubernetes turn it on;
// some kernels do not know it.
func (w *world) bridgeNetfilter(value string) (known bool) {
	w.in("host", func() error {
		for _, name := range []string{"iptables", "ip6tables"} {
			known = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte(value), 0) == nil
		}
		return nil
	})
	return known
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
		t.Skipf("cannot make a network namespace: %v", m.err)
	}
	t.Cleanup(func() { unix.Close(m.fd) })
	return m.fd
}

// path names somebody's namespace for `ip`.
func (w *world) path(name string) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), w.ns[name])
}

// enter runs f on a thread that is at somebody's place, where the sockets and
// programs that f makes then are.
func (w *world) enter(name string, f func() error) error {
	ns, known := w.ns[name]
	if !known {
		return fmt.Errorf("nobody is called %q", name)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever, see newNamespace
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (w *world) in(name string, f func() error) {
	w.t.Helper()
	if err := w.enter(name, f); err != nil {
		w.t.Fatalf("at %s: %v", name, err)
	}
}

func (w *world) sh(name, script string) {
	w.t.Helper()
	w.in(name, func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (w *world) serve(name string, port int) {
	w.t.Helper()
	w.in(name, func() error {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					echo(c, name+" "+c.RemoteAddr().String())
				}()
			}
		}()
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				u.WriteTo([]byte(name+" "+from.String()), from)
			}
		}()
		return nil
	})
}

// echo answers whatever comes with a text.
func echo(c net.Conn, text string) {
	b := make([]byte, 100)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// answer is what a server says: who it is and from where it was called.
type answer struct {
	who  string
	from netip.Addr
}

// call says what becomes of one attempt: "open", "refused" or "silent".
func (w *world) call(from, protocol, to string, patience time.Duration) (verdict string, seen answer) {
	w.t.Helper()
	who, as, _ := strings.Cut(from, " as ")
	err := w.enter(who, func() error {
		if strings.HasPrefix(protocol, "icmp") {
			return ping(protocol, to, patience)
		}
		c, err := dial(protocol, as, to, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		seen, err = ask(c, patience)
		return err
	})
	return verdictOf(err), seen
}

// dial connects, from a foreign address if one is given.
func dial(protocol, as, to string, patience time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	if as != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(as)}
		d.Control = func(_, _ string, c syscall.RawConn) (err error) {
			control := c.Control(func(fd uintptr) {
				if strings.Contains(as, ":") {
					err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
				} else {
					err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
				}
			})
			return errors.Join(err, control)
		}
	}
	return d.Dial(protocol, to)
}

// ask sends a word and waits for the answer.
func ask(c net.Conn, patience time.Duration) (seen answer, err error) {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "who am I?"); err != nil {
		return seen, err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return seen, err
	}
	who, from, _ := strings.Cut(string(b[:n]), " ")
	addr, err := netip.ParseAddrPort(from)
	return answer{who, addr.Addr().Unmap()}, err
}

func ping(protocol, to string, patience time.Duration) error {
	request, network, reply := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, "ip4:icmp", byte(0)
	if protocol == "icmp6" {
		request, network, reply = []byte{128, 0, 0, 0, 0, 0, 0, 0}, "ip6:ipv6-icmp", 129
	}
	c, err := net.Dial(network, to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(request); err != nil {
		return err
	}
	for b := make([]byte, 100); ; {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		message := b[:n]
		if protocol == "icmp4" && n > 20 && b[0] == 0x45 {
			message = b[20:n]
		}
		if message[0] == reply {
			return nil
		}
	}
}

func verdictOf(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "open"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "silent"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, io.EOF):
		return "refused"
	}
	return "odd: " + err.Error()
}

// firewall is the Firewall of this world's host.
type hostFirewall struct {
	*Firewall
	w *world
}

func (w *world) firewall() hostFirewall {
	return hostFirewall{&Firewall{Table: table, Bridge: bridge}, w}
}

func (f hostFirewall) apply(containers []Container) {
	f.w.t.Helper()
	f.w.in("host", func() error { return f.Apply(context.Background(), containers) })
}

// container is one of the world's people as the firewall knows it.
func container(name string, change ...func(*Container)) Container {
	project, _, _ := strings.Cut(name, "/")
	c := Container{
		Name: name, Project: project,
		Addr: netip.MustParseAddr(people[name].addr), Addr6: netip.MustParseAddr(people[name].addr6),
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// containers are all of them, with those given in the place of the plain ones.
func containers(changed ...Container) []Container {
	out := changed
	for _, name := range []string{"shop/web", "shop/db", "blog/mail"} {
		have := false
		for _, c := range changed {
			have = have || c.Name == name
		}
		if !have {
			out = append(out, container(name))
		}
	}
	return out
}
