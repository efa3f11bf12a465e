package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The environment of a copy of the test binary that is in namespaces of its own.
const (
	benchInside = "SWAGE_BENCH_INSIDE" // the processors of the proxies
	benchCaddy  = "SWAGE_BENCH_CADDY"  // the program, built where there is a network
)

// The world of a comparison, as around a server: clients behind its link, the
// application behind its bridge.
const (
	worldClients = "203.0.113.0/24"
	worldClient  = "203.0.113.2"
	worldHost    = "203.0.113.1"
	worldBridge  = "br0"
	worldApp     = "198.18.0.10"
)

// inNamespaces runs the benchmark in a copy of this process. The copy is the
// first process of a namespace of its own: whatever way it ends, all that it
// started ends with it, and then the networks and their rules are gone too.
func inNamespaces(b *testing.B) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("nothing is compared: this needs root, to make network namespaces")
	}
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skipf("nothing is compared: this needs the program %s: install nftables and iproute2", program)
		}
	}
	dir := b.TempDir()
	args := []string{"-test.run=^$", "-test.bench=^BenchmarkPeers$", "-test.benchtime=1x", "-test.v"}
	if *update {
		args = append(args, "-update")
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		b.Fatal(err)
	}
	load, proxies := halves(all)
	cmd.Env = append(os.Environ(), benchInside+"="+numbers(proxies), benchCaddy+"="+caddy(b, dir), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	runtime.LockOSThread() // whose end would be taken for that of this process
	defer runtime.UnlockOSThread()
	err := unix.SchedSetaffinity(0, &load)
	if err == nil {
		err = errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &all))
	}
	if err != nil {
		b.Skipf("nothing is compared: this machine does not let us make namespaces: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// halves shares the processors out: what makes load has the application's half
// and the proxies the other, so that the rate of a proxy does not hang on what
// the load costs. Both have all there is of a single one.
func halves(all unix.CPUSet) (load, proxies unix.CPUSet) {
	if all.Count() < 2 {
		return all, all
	}
	for cpu := 0; load.Count()+proxies.Count() < all.Count(); cpu++ {
		switch {
		case !all.IsSet(cpu):
		case load.Count() < (all.Count()+1)/2:
			load.Set(cpu)
		default:
			proxies.Set(cpu)
		}
	}
	return load, proxies
}

// numbers are those of processors, as [world] reads them.
func numbers(cpus unix.CPUSet) string {
	var list []string
	for cpu := 0; len(list) < cpus.Count(); cpu++ {
		if cpus.IsSet(cpu) {
			list = append(list, strconv.Itoa(cpu))
		}
	}
	return strings.Join(list, ",")
}

// world is the namespaces of the host and of the container; this process is in
// the clients'.
type world struct {
	*testing.B
	dir             string
	host, container int
	proxies         unix.CPUSet // that they run on
}

func newWorld(b *testing.B) *world {
	b.Helper()
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil { // of our own processes
		b.Fatal(err)
	}
	w := &world{B: b, dir: b.TempDir(), host: newNetwork(b), container: newNetwork(b)}
	for number := range strings.SplitSeq(os.Getenv(benchInside), ",") {
		cpu, err := strconv.Atoi(number)
		if err != nil {
			b.Fatal(err)
		}
		w.proxies.Set(cpu)
	}
	// wrk wants a name, which it shows the proxy.
	if err := unix.Mount(write(b, w.dir, "hosts", worldHost+" "+benchZone+"\n"), "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		b.Fatal(err)
	}
	fd := func(ns int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns) }
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(own)
	w.sh(w.host, `ip link set lo up
		ip link add `+worldBridge+` type bridge forward_delay 0
		ip addr add 198.18.0.1/24 dev `+worldBridge+`
		ip link set `+worldBridge+` up
		ip link add app type veth peer name eth0 netns `+fd(w.container)+`
		ip link set app master `+worldBridge+` up
		ip link add up0 type veth peer name eth0 netns `+fd(own)+`
		ip addr add `+worldHost+`/24 dev up0
		ip link set up0 up
		echo 1 > /proc/sys/net/ipv4/ip_forward`)
	w.sh(w.container, `ip link set lo up
		ip addr add `+worldApp+`/24 dev eth0
		ip link set eth0 up
		ip route add default via 198.18.0.1`)
	w.sh(own, `ip link set lo up
		ip addr add `+worldClient+`/24 dev eth0
		ip link set eth0 up
		ip route add default via `+worldHost)
	return w
}

func newNetwork(b *testing.B) (ns int) {
	b.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		b.Fatalf("cannot make a network namespace: %v", err)
	}
	return ns
}

// in runs f where the sockets and programs that it makes are to be.
func (w *world) in(ns int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever, see newNetwork
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (w *world) sh(ns int, script string) {
	w.Helper()
	if err := w.in(ns, func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}); err != nil {
		w.Fatal(err)
	}
}

// application is what one proxy is in front of. Each has its own, so that it is
// known who called it.
type application struct {
	addr netip.AddrPort

	mu      sync.Mutex
	callers map[netip.Addr]bool // as its sockets name them
}

// serve starts an application in the container.
func (w *world) serve() *application {
	w.Helper()
	var l net.Listener
	if err := w.in(w.container, func() (err error) { l, err = net.Listen("tcp", worldApp+":0"); return err }); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	a := &application{addr: l.Addr().(*net.TCPAddr).AddrPort(), callers: map[netip.Addr]bool{}}
	lean, err := newLean()
	if err != nil {
		w.Fatal(err)
	}
	go lean.serve()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.callers[conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()] = true
			a.mu.Unlock()
			if err := lean.add(conn.(*net.TCPConn)); err != nil {
				panic(err)
			}
		}
	}()
	return a
}

// seesClient makes sure that the application has been called, and by nobody but
// the client.
func (a *application) seesClient(b *testing.B) {
	b.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := slices.Collect(maps.Keys(a.callers)); len(got) != 1 || got[0] != netip.MustParseAddr(worldClient) {
		b.Fatalf("the application was called by %v, want only by the client's own address %s", got, worldClient)
	}
}
