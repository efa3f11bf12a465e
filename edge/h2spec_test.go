package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2 "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// TestH2spec: every case of h2spec that Go's own HTTP/2 server passes with
// nothing around it is passed by the edge with a container behind it.
func TestH2spec(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "hello")
	})
	plain := httptest.NewUnstartedServer(answer)
	plain.EnableHTTP2 = true
	plain.TLS = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain.StartTLS()
	defer plain.Close()
	var reached atomic.Int32
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		answer(w, r)
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	host := strings.TrimPrefix(origin(app.Port()), "https://")

	var cases []*spec.TestCase
	var collect func(*spec.TestGroup)
	collect = func(g *spec.TestGroup) {
		cases = append(append(cases, g.Tests...), g.StrictTests...)
		for _, below := range g.Groups {
			collect(below)
		}
	}
	for _, g := range []*spec.TestGroup{generic.Spec(), h2.Spec(), hpack.Spec()} {
		collect(g)
	}
	// Some cases are races of two frames: they count where the plain server
	// always passes them, and the edge must pass them now and then.
	passed := 0
	for _, c := range cases {
		if h2spec(c, host, plain.Listener.Addr().String(), 3, false) != nil {
			continue
		}
		passed++
		if err := h2spec(c, host, s.addr, 10, true); err != nil {
			t.Errorf("%s, %s: %v", c.Parent.ID(), c.Desc, err)
		}
	}
	if passed < 130 || reached.Load() == 0 {
		t.Errorf("the plain server passes %d of %d cases, and %d requests reached the container", passed, len(cases), reached.Load())
	}
	t.Logf("%d of %d cases are passed by both", passed, len(cases))
}

// h2spec runs one case against the server at addr, several times: until it
// passes, or until it fails.
func h2spec(c *spec.TestCase, host, addr string, times int, untilPassed bool) (err error) {
	to := &config.Config{
		Host: host, Port: int(netip.MustParseAddrPort(addr).Port()), Path: "/", Timeout: time.Second,
		MaxHeaderLen: 4000, Strict: true, TLS: true, Insecure: true,
	}
	for range times {
		var conn *spec.Conn
		if conn, err = spec.Dial(to); err == nil {
			err = c.Run(to, conn)
			_ = conn.Close()
		}
		if (err == nil) == untilPassed {
			return err
		}
	}
	return err
}

// loopback resolves every name to 127.0.0.1, for programs that take a name for the
// address to dial and for the host to ask for.
var loopback = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
	asks, answers := net.Pipe()
	go func() {
		conn := &dns.Conn{Conn: answers}
		defer conn.Close()
		question, err := conn.ReadMsg()
		if err != nil {
			return
		}
		answer := new(dns.Msg).SetReply(question)
		if q := question.Question[0]; q.Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = conn.WriteMsg(answer)
	}()
	return asks, nil
}}
