package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestBalancers: who is listed names the client, and must; nobody else can.
func TestBalancers(t *testing.T) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	l := f.behindBalancers(listen)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				from := c.RemoteAddr().(*net.TCPAddr).IP
				b := make([]byte, 5)
				if _, err := io.ReadFull(c, b); err == nil {
					fmt.Fprintf(c, "%v %s", from, b)
				}
			}()
		}
	}()
	const version1 = "PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n"
	version2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" +
		string(netip.MustParseAddr("2001:db8::7").AsSlice()) + string(netip.MustParseAddr("2001:db8::1").AsSlice()) + "\x13\x88\x01\xbb"
	for _, row := range []struct {
		what, from, send, want string
		listed                 bool
	}{
		{"version 1", "127.0.0.9", version1 + "hello", "192.0.2.7 hello", true},
		{"version 2", "127.0.0.9", version2 + "hello", "2001:db8::7 hello", true},
		{"a balancer that names nobody", "127.0.0.9", "hello", "", true},
		{"a stranger", "127.0.0.8", version1, "127.0.0.8 PROXY", true},
		{"nobody is listed", "127.0.0.9", version1, "127.0.0.9 PROXY", false},
	} {
		f.balancers.Store(nil)
		if row.listed {
			f.balancers.Store(&[]netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")})
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(row.from)}}
		c, err := d.Dial("tcp", listen.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, row.send)
		if got, _ := io.ReadAll(c); string(got) != row.want {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
		c.Close()
	}
}
