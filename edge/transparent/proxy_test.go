package transparent_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"swage/edge"
)

const (
	zone    = "node.example.com"
	origin  = "https://67e89abc123def456789abcd-890abcdef12345678901cdef-http." + zone
	edgeTCP = "203.0.113.1:443"
	edge6   = "[2001:db8::1]:443"
)

func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"*." + zone}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// site is an edge with one container, which answers each request with the
// address that its connection comes from.
type site struct {
	*world
	proxy *edge.Proxy
	cert  tls.Certificate
	log   *bytes.Buffer // complete when the test has ended
}

func (w *world) site(dialer edge.ClientDialer) *site {
	w.t.Helper()
	log := &bytes.Buffer{}
	s := &site{w, edge.NewProxy(edge.Options{Logger: slog.New(slog.NewTextHandler(log, nil)), Transparent: dialer}), certificate(w.t), log}
	app := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from := netip.MustParseAddrPort(r.RemoteAddr).Addr().Unmap().String()
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprintf(rw, "%s %s", from, r.Header.Get("Forwarded"))
			return
		}
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for c.Write(r.Context(), websocket.MessageText, []byte(from)) == nil {
			if _, _, err := c.Read(r.Context()); err != nil {
				return
			}
		}
	})}
	go app.Serve(w.listen("web", ":80"))
	w.t.Cleanup(func() { app.Close() })
	table, err := edge.Compile(edge.Config{Zone: zone, Version: "v1", Containers: []edge.Container{{
		ProjectID: "67e89abc123def456789abcd", ID: "890abcdef12345678901cdef", Name: "shop/web",
		Addr: netip.MustParseAddr(web4), Addr6: netip.MustParseAddr(web6),
		Catalogue: &edge.Catalogue{},
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
	s.proxy.Swap(table)
	ctx, cancel := context.WithCancel(context.Background())
	config := &tls.Config{Certificates: []tls.Certificate{s.cert}}
	l := w.listen("", ":443")
	u, err := net.ListenPacket("udp", ":443")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- s.proxy.Serve(ctx, l, config) }()
	go func() { done <- s.proxy.ServeQUIC(ctx, u, config) }()
	w.t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			w.t.Error(err)
		}
		s.proxy.Swap(nil)
	})
	return s
}

// client calls the edge from an address of somebody's.
func (s *site) client(name, from string, version int) *http.Client {
	addr := netip.MustParseAddr(from)
	server := edgeTCP
	if addr.Is6() {
		server = edge6
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.cert.Leaf)
	if version == 3 {
		var socket net.PacketConn
		if err := s.in(name, func() (err error) {
			socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
			return err
		}); err != nil {
			s.t.Fatal(err)
		}
		q := &quic.Transport{Conn: socket}
		transport := &http3.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots},
			Dial: func(ctx context.Context, _ string, c *tls.Config, qc *quic.Config) (*quic.Conn, error) {
				return q.DialEarly(ctx, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(server)), c, qc)
			},
		}
		s.t.Cleanup(func() { _ = errors.Join(transport.Close(), q.Close(), socket.Close()) })
		return &http.Client{Transport: transport, Timeout: patience}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetHTTP2(version == 2)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
			err = s.in(name, func() (err error) {
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))}
				c, err = d.DialContext(ctx, "tcp", server)
				return err
			})
			return c, err
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Protocols:       protocols,
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func get(c *http.Client) (string, error) {
	res, err := c.Get(origin)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(body), err
}

// TestEveryRequestFromItsClient: 48 clients of both families call one container
// at once over HTTP/1.1, 2 and 3, with connections kept alive on both sides,
// while eight more talk over WebSockets.
func TestEveryRequestFromItsClient(t *testing.T) {
	const clients = 48
	requests := 10_000
	if os.Getenv("SWAGE_SOAK") != "" {
		requests = 100_000
	}
	w := newWorld(t, clients/2+8)
	s := w.site(w.setup())
	var all sync.WaitGroup
	for i := range clients {
		from := fmt.Sprint(clients4, 2+i/2)
		if i%2 == 1 {
			from = fmt.Sprintf("%s%x", clients6, 2+i/2)
		}
		c := s.client("clients", from, 1+i/2%3)
		all.Go(func() {
			for range (requests + clients - 1) / clients {
				if got, err := get(c); err != nil || got != from+" "+forwarded(from) {
					t.Errorf("seen as %q (%v), want %s", got, err, from)
					return
				}
			}
		})
	}
	for i := range 8 {
		from := fmt.Sprint(clients4, 2+clients/2+i)
		c := s.client("clients", from, 1)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, strings.Replace(origin, "https", "wss", 1), &websocket.DialOptions{HTTPClient: &http.Client{Transport: c.Transport}})
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.CloseNow()
			for range requests / 100 {
				if _, got, err := conn.Read(ctx); err != nil || string(got) != from {
					t.Errorf("seen as %q (%v), want %s", got, err, from)
					return
				}
				if err := conn.Write(ctx, websocket.MessageText, []byte("again")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func forwarded(from string) string {
	if strings.Contains(from, ":") {
		from = `"[` + from + `]"`
	}
	return "for=" + from + `;host="` + strings.TrimPrefix(origin, "https://") + `";proto=https`
}

// TestContainerCallsByURL: a container that calls another by its public URL is
// seen as itself, and one that calls itself is answered.
func TestContainerCallsByURL(t *testing.T) {
	w := newWorld(t, 1)
	w.betweenContainers()
	s := w.site(w.setup())
	for _, test := range []struct{ who, from, want string }{
		{"db", db4, db4 + " " + forwarded(db4)},
		{"db", db6, db6 + " " + forwarded(db6)},
		{"web", web4, host4 + " " + forwarded(web4) + ";swage-source=edge"},
	} {
		if got, err := get(s.client(test.who, test.from, 1)); err != nil || got != test.want {
			t.Errorf("%s is seen as %q (%v), want %q", test.from, got, err, test.want)
		}
	}
}

// TestNothingSetUp: the edge serves all the same.
func TestNothingSetUp(t *testing.T) {
	w := newWorld(t, 1)
	p := w.setup()
	s := w.site(p)
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := clients4 + "2"
	if got, err := get(s.client("clients", from, 1)); err != nil || got != host4+" "+forwarded(from)+";swage-source=edge" {
		t.Errorf("seen as %q (%v)", got, err)
	}
}

// TestAnotherGateway: a container whose answers to others go past this host is
// served from the edge's own address.
func TestAnotherGateway(t *testing.T) {
	w := newWorld(t, 1)
	s := w.site(w.setup())
	w.sh("web", "ip route replace default via 198.18.0.99")
	from := clients4 + "2"
	if got, err := get(s.client("clients", from, 1)); err != nil || got != host4+" "+forwarded(from)+";swage-source=edge" {
		t.Errorf("seen as %q (%v)", got, err)
	}
}
