package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"swage/reconcile"
	"swage/runtime"
)

// TestL14LiveIsWhatAnswers: a push calls live what takes a connection, says of
// what refuses one which answer it gives, and tells what is not reached.
func TestL14LiveIsWhatAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := netip.MustParseAddrPort(silent.Addr().String()).Port()
	silent.Close()
	line := func(name, address, url string) reconcile.ContainerReport {
		return reconcile.ContainerReport{Project: "web", Name: name, Address: address, Status: runtime.Running, URLs: []string{url}}
	}
	r := &reconcile.Report{Aliases: []reconcile.AliasReport{
		{URL: "https://up/", Program: "http", Port: port},
		{URL: "https://down/", Program: "http", Port: refused},
		{URL: "https://tool/", Program: "terminal"},
	}}
	got := live(t.Context(), r, []reconcile.ContainerReport{
		line("up", "127.0.0.1", "https://up/"),
		line("down", "127.0.0.1", "https://down/"),
		line("tool", "127.0.0.1", "https://tool/"),
		line("nowhere", "", "https://nowhere/"),
		line("gone", "192.0.2.1%nowhere", "https://gone/"),
	})
	for i, want := range []string{
		"live: https://up/ web/up", "live: https://down/ web/down (502 until something listens on its port",
		"live: https://tool/ web/tool", "no answer: https://nowhere/ web/nowhere: it has no address",
		"no answer: https://gone/ web/gone: ",
	} {
		if !strings.HasPrefix(got[i], want) || i%2 == 0 && i < 3 && got[i] != want {
			t.Errorf("%q, want %q", got[i], want)
		}
	}
}
