package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

const (
	tsigKey    = "swage.example.com."
	tsigSecret = "c2VjcmV0LW9mLXRoZS1uYW1lLXNlcnZlcg=="
)

// nameServer is authoritative for example.com. and answers 127.0.0.1 for every
// name there is in the tests. Updates need the TSIG key.
type nameServer struct {
	addr string

	mu      sync.Mutex
	txt     map[string][]string
	updates int // that were taken
	most    int // values that a name had at once
}

func newNameServer(t testing.TB) *nameServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addr: l.Addr().String(), txt: map[string][]string{}}
	started := make(chan struct{})
	srv := &dns.Server{
		Listener: l, Handler: n, TsigSecret: map[string]string{tsigKey: tsigSecret},
		NotifyStartedFunc: func() { close(started) },
		MsgAcceptFunc:     func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }, // updates too
	}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		_ = srv.Shutdown()
		<-done
	})
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(r)
	name := r.Question[0].Name
	if r.Opcode == dns.OpcodeUpdate {
		if r.IsTsig() == nil || w.TsigStatus() != nil || name != "example.com." {
			m.Rcode = dns.RcodeRefused
		} else {
			n.updates++
			for _, rr := range r.Ns {
				record := rr.(*dns.TXT)
				value := strings.Join(record.Txt, "")
				if record.Hdr.Class == dns.ClassNONE { // RFC 2136, section 2.5.4
					var kept []string
					for _, v := range n.txt[record.Hdr.Name] {
						if v != value {
							kept = append(kept, v)
						}
					}
					n.txt[record.Hdr.Name] = kept
				} else {
					n.txt[record.Hdr.Name] = append(n.txt[record.Hdr.Name], value)
				}
				n.most = max(n.most, len(n.txt[record.Hdr.Name]))
			}
		}
	}
	if r.Opcode == dns.OpcodeQuery {
		hdr := dns.RR_Header{Name: name, Rrtype: r.Question[0].Qtype, Class: dns.ClassINET}
		switch r.Question[0].Qtype {
		case dns.TypeTXT:
			for _, v := range n.txt[name] {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr, Txt: []string{v}})
			}
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: net.IPv4(127, 0, 0, 1)})
		case dns.TypeSOA:
			hdr.Name = "example.com."
			m.Rcode = dns.RcodeNameError
			m.Ns = append(m.Ns, &dns.SOA{Hdr: hdr, Ns: "ns.example.com.", Mbox: "ops.example.com."})
		}
	}
	if t := r.IsTsig(); t != nil && w.TsigStatus() == nil {
		m.SetTsig(t.Hdr.Name, t.Algorithm, 300, int64(t.TimeSigned))
	}
	_ = w.WriteMsg(m)
}

func (n *nameServer) left() (values int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.txt {
		values += len(v)
	}
	return values
}

// authority is Pebble in this process.
type authority struct {
	directory string
	roots     *x509.CertPool
	manage    http.Handler
	down      atomic.Bool
	orders    atomic.Int64 // that were asked for
}

// trustTestServers makes the certificate of httptest one of the system's roots:
// those are read once in the life of a process.
func trustTestServers() error {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	f, err := os.CreateTemp("", "roots")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: pemCertificate, Bytes: srv.Certificate().Raw}), f.Close()); err != nil {
		return err
	}
	defer os.Unsetenv("SSL_CERT_FILE")
	os.Setenv("SSL_CERT_FILE", f.Name())
	_, err = x509.SystemCertPool()
	return err
}

// pebble validates at these ports of the addresses that resolver gives.
func pebble(t testing.TB, resolver string, httpPort, tlsPort int) *authority {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	profiles := map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: 90 * 24 * 3600}}
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, profiles)
	front := wfe.New(quiet, store, va.New(quiet, httpPort, tlsPort, false, resolver, store), issuer, []string{"pebble"}, false, false, 0, 0)
	a := &authority{roots: x509.NewCertPool(), manage: front.ManagementHandler()}
	a.roots.AddCert(issuer.GetRootCert(0).Cert)
	handler := front.Handler()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.down.Load() {
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == "/order-plz" {
			a.orders.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	a.directory = srv.URL + wfe.DirectoryPath
	return a
}

// renewNow has the authority say that a certificate is to be renewed at once
// (RFC 9773).
func (a *authority) renewNow(t testing.TB, leaf *x509.Certificate) {
	t.Helper()
	body, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: leaf.Raw})),
		"ARIResponse": `{"suggestedWindow":{"start":"2020-01-01T00:00:00Z","end":"2020-01-02T00:00:00Z"}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/set-renewal-info/", bytes.NewReader(body))
	r.Header.Set("User-Agent", "test")
	a.manage.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("set-renewal-info: %d %s", w.Code, w.Body)
	}
}

// site is a server on loopback that has its certificates by ACME.
type site struct {
	*Source
	*authority
	dns      *nameServer
	dir      string
	tlsAddr  netip.AddrPort
	httpAddr netip.AddrPort
}

// newSite listens for visitors and for challenges.
func newSite(t testing.TB, domains ...string) *site {
	t.Helper()
	s := &site{dns: newNameServer(t), dir: t.TempDir()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.Challenge(w, r) {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(plain.Close)
	s.tlsAddr = netip.MustParseAddrPort(l.Addr().String())
	s.httpAddr = netip.MustParseAddrPort(plain.Listener.Addr().String())
	s.authority = pebble(t, s.dns.addr, int(s.httpAddr.Port()), int(s.tlsAddr.Port()))
	s.Source = s.start(t, domains...)
	over := tls.NewListener(l, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.TLSConfig(), nil }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := over.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return s
}

// start makes a Source as the agent does when it starts.
func (s *site) start(t testing.TB, domains ...string) *Source {
	t.Helper()
	source := New(open(t, s.dir), s.dir+"/acme", anyFile, testLog(t))
	t.Cleanup(source.Close)
	source.Follow(names(domains...))
	use(t, source, s.settings())
	return source
}

func (s *site) settings() Settings {
	return Settings{
		Kind: ACME, Directory: s.directory, Provider: "rfc2136",
		Options: map[string]string{"server": s.dns.addr, "key": tsigKey, "secret": tsigSecret},
		Node:    Node{Services: []string{s.dns.addr}},
		TLSAddr: s.tlsAddr.String(), HTTPAddr: s.httpAddr.String(),
	}
}

// issued is the leaf that the authority issued for a name; nil while something
// else is served.
func (s *site) issued(t testing.TB, source *Source, name string) *x509.Certificate {
	t.Helper()
	state, err := handshake(t, source, name, func(c *tls.Config) { c.RootCAs = s.roots })
	if err != nil {
		return nil
	}
	return state.PeerCertificates[0]
}
