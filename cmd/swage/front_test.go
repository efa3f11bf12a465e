package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"swage/edge"
	"swage/edge/certs"
	"swage/reconcile"
	"swage/reconcile/hostfile"
	"swage/schema"
)

// TestSocketsSurviveTheSecondStart: a process that was given sockets and starts
// itself again for RFC 8441 has them still, each for its protocol.
func TestSocketsSurviveTheSecondStart(t *testing.T) {
	if os.Getenv("SWAGE_TEST_INHERITS") != "" {
		withExtendedConnect()
		streams, datagrams, err := inheritedSockets()
		for _, l := range streams {
			fmt.Println("stream", l.Addr())
		}
		for _, c := range datagrams {
			fmt.Println("datagram", c.LocalAddr())
		}
		fmt.Println(os.Getenv("GODEBUG"), os.Getenv("LISTEN_FDS"), err)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stream, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	datagram, err := c.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()

	child := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestSocketsSurviveTheSecondStart$'`, os.Args[0])
	child.Env = append(os.Environ(), "SWAGE_TEST_INHERITS=1", "LISTEN_FDS=2", "GODEBUG=madvdontneed=1")
	child.ExtraFiles = []*os.File{stream, datagram}
	out, err := child.CombinedOutput()
	want := fmt.Sprintf("stream %v\ndatagram %v\nmadvdontneed=1,http2xconnect=1  <nil>\n", l.Addr(), c.LocalAddr())
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
}

// TestFrontFollows: what a commit says about certificates and plain HTTP is in
// force for the next visitor.
func TestFrontFollows(t *testing.T) {
	const zone = "lab.example.com"
	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	dir := t.TempDir()
	ca, err := certs.Open(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	source := certs.New(ca, filepath.Join(dir, "acme"), hostfile.Read, log)
	defer source.Close()
	f := &front{
		ctx: ctx, group: group, log: log, certs: source, certificates: hostfile.Folders{dir}, open: map[endpoint]context.CancelFunc{},
		proxy: edge.NewProxy(edge.Options{Logger: log, Pending: source.Pending, Strict: source.Public, Challenge: source.Challenge}),
	}
	defer func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}()
	table, err := edge.Compile(edge.Config{
		Zone: zone,
		Containers: []edge.Container{{
			ProjectID: strings.Repeat("a", 24), ID: strings.Repeat("b", 24), Name: "web/api",
			Addr: netip.MustParseAddr("127.0.0.1"), Permissions: &edge.Permissions{}, Catalogue: &edge.Catalogue{},
		}},
		Aliases: []edge.Alias{{Name: "my-api", Domains: []string{"shop.example.org"}, Target: edge.Target{Container: "web/api", Program: "http"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	at := reconcile.Edge{
		Zone: zone, Table: table,
		Listen: []string{"127.0.0.1:" + freePort(t)}, HTTP: []string{"127.0.0.1:" + freePort(t)},
	}
	publish := func() {
		t.Helper()
		if err := f.publish(at); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	dial := func(name string) (*tls.Conn, error) {
		return tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", at.Listen[0], &tls.Config{ServerName: name, RootCAs: roots})
	}
	names := func(name string) string {
		conn, err := dial(name)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return strings.Join(conn.ConnectionState().PeerCertificates[0].DNSNames, " ")
	}
	publish()
	if got := names("shop.example.org"); got != "shop.example.org" {
		t.Errorf("a domain is served with %q", got)
	}
	if got := names("other.example.org"); !strings.Contains(got, "unrecognized name") {
		t.Errorf("a name that no table has: %q", got)
	}

	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func() string {
		r, _ := http.NewRequest("GET", "http://"+at.HTTP[0]+"/x?y", nil)
		r.Host = "my-api." + zone
		res, err := client.Do(r)
		if err != nil {
			return err.Error()
		}
		res.Body.Close()
		return fmt.Sprint(res.StatusCode, " ", res.Header.Get("Location"))
	}
	_, port, _ := net.SplitHostPort(at.Listen[0])
	if got, want := ask(), "308 https://my-api."+zone+":"+port+"/x?y"; got != want {
		t.Errorf("plain HTTP: %s, want %s", got, want)
	}

	// Files that are not there are told, and what was served goes on.
	at.TLS = schema.TLS{Type: "files", Certificates: []schema.Certificate{{Certificate: dir + "/none.pem", Key: dir + "/none.key"}}}
	publish()
	if w := strings.Join(source.Warnings(), "\n"); !strings.Contains(w, "none.pem") {
		t.Errorf("warnings %q", w)
	}
	if got := names("my-api." + zone); !strings.Contains(got, "unrecognized name") {
		t.Errorf("without any file: %q", got)
	}
	// A secret that cannot be read changes nothing.
	at.TLS = schema.TLS{}
	publish()
	at.TLS = schema.TLS{Type: "acme", Directory: "https://127.0.0.1:1/", DNSProvider: "exec", DNSOptions: map[string]schema.Secret{"program": {}}}
	if err := f.publish(at); err == nil || !strings.Contains(err.Error(), "dns.options.program") {
		t.Errorf("a secret that is not there: %v", err)
	}
	if got := names("my-api." + zone); !strings.Contains(got, zone) {
		t.Errorf("after an error: %q", got)
	}
	// And plain HTTP goes when the file says so.
	at.TLS, at.HTTP = schema.TLS{}, nil
	addr := ""
	for e := range f.open {
		if e.plain {
			addr = e.addr
		}
	}
	publish()
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatal("plain HTTP is still served")
		}
	}
}
