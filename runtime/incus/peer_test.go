package incus

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"

	"github.com/lxc/incus/v6/shared/api"
	"github.com/vishvananda/netns"

	"swage/runtime"
)

// overNetwork has the lab's Incus listen on loopback, trust a new client
// certificate, and be reached there from here too: the lab has a network
// namespace of its own. The folder of the certificate is the second result.
func overNetwork(t *testing.T) (runtime.Daemon, string) {
	t.Helper()
	socket(t)
	identity := t.TempDir()
	rt := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab"})
	c := rt.in(context.Background(), "")
	crt, _, err := clientCertificate(identity)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(crt))
	if err := c.CreateCertificate(api.CertificatesPost{CertificatePut: api.CertificatePut{
		Name: "test", Type: api.CertificateTypeClient, Certificate: base64.StdEncoding.EncodeToString(block.Bytes),
	}}); err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := func(address string) {
		server, etag, err := c.GetServer()
		if err != nil {
			t.Fatal(err)
		}
		put := server.Writable()
		put.Config["core.https_address"] = address
		if err := c.UpdateServer(put, etag); err != nil {
			t.Fatal(err)
		}
	}
	listen(l.Addr().String())
	t.Cleanup(func() { listen("") })

	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			relays.Go(func() { relay(t, conn, l.Addr().String()) })
		}
	})
	t.Cleanup(func() { l.Close(); relays.Wait() })

	server, _, err := c.GetServer()
	if err != nil {
		t.Fatal(err)
	}
	return runtime.Daemon{Remote: "https://" + l.Addr().String(), Certificate: server.Environment.Certificate}, identity
}

// relay joins a connection to an address of the lab's network.
func relay(t *testing.T, conn net.Conn, address string) {
	defer conn.Close()
	there, err := dialLab(address)
	if err != nil {
		t.Error(err)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(conn, there)
		conn.Close()
	}()
	_, _ = io.Copy(there, conn)
	there.Close()
	<-done
}

// dialLab connects inside the lab; a socket stays where it was made.
func dialLab(address string) (net.Conn, error) {
	env, err := os.ReadFile(os.Getenv("SWAGE_TEST_LAB") + "/lab.env")
	if err != nil {
		return nil, err
	}
	_, name, _ := strings.Cut(string(env), "NETNS=")
	name, _, _ = strings.Cut(name, "\n")
	goruntime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	lab, err := netns.GetFromName(name)
	if err != nil {
		return nil, err
	}
	defer lab.Close()
	if err := netns.Set(lab); err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", address)
	if netns.Set(home) == nil {
		goruntime.UnlockOSThread() // else the thread ends with its goroutine
	}
	return conn, err
}

// TestAnotherServerMustTrustThisOne: what to do is in the error.
func TestAnotherServerMustTrustThisOne(t *testing.T) {
	daemon, _ := overNetwork(t)
	stranger := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Identity: t.TempDir()})
	for d, want := range map[runtime.Daemon]string{
		daemon: "does not trust this server yet; there, run incus config trust add-certificate",
		{}:     "nothing says where the Incus of there is reached",
	} {
		_, err := stranger.Seek(t.Context(), runtime.Origin{Peer: runtime.Peer{Server: "there", Daemon: d}, Container: "web/web1"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", d, err, want)
		}
	}
	daemon.Certificate = ""
	if _, err := stranger.Seek(t.Context(), runtime.Origin{Peer: runtime.Peer{Server: "there", Daemon: daemon}}); err == nil {
		t.Error("a certificate that nobody vouches for was trusted")
	}
}

// TestADaemonElsewhere: an agent that is not on the host of Incus does all but
// what needs that host.
func TestADaemonElsewhere(t *testing.T) {
	daemon, identity := overNetwork(t)
	s := runtime.Scope{
		Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default",
		Ramdisks: ramdisks(), Identity: identity, Daemon: daemon,
	}
	s.Prefix = "r" + string(s.Fleet[:8]) + "-"
	rt, err := Open("/nowhere", s)
	if err != nil {
		t.Fatal(err)
	}
	p := runtime.CreateProject{Project: runtime.Project{Name: "web"}}
	c := runtime.Container{ID: runtime.NewID(), Project: "web", Name: "one", Image: "tiny/1", Status: runtime.Running, Asked: runtime.Running, Autostart: true}
	for _, step := range []runtime.Step{p, runtime.CreateContainer{New: c}} {
		if _, err := rt.Do(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_, err := rt.Do(ctx, runtime.DeleteContainer{Target: c})
		_, gone := rt.Do(ctx, runtime.DeleteProject(p))
		if err := errors.Join(err, gone); err != nil {
			t.Error(err)
		}
	})
	if a, err := rt.Observe(t.Context()); err != nil || len(a.Containers) != 1 || a.Containers[0].Status != runtime.Running {
		t.Errorf("observed %+v, %v", a, err)
	}
	c2 := c
	c2.ID, c2.Name, c2.Ramdisk = runtime.NewID(), "two", true
	if _, err := rt.Do(t.Context(), runtime.CreateContainer{New: c2}); err == nil || !strings.Contains(err.Error(), "ramdisk: false") {
		t.Errorf("a ramdisk on another host: %v", err)
	}
}
