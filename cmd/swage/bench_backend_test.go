package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"

	"swage/edge"
	"swage/edge/transparent"
)

// The environment by which a copy of the test binary is told to be the edge of
// a comparison: as the agent runs it, in a process of its own.
const (
	benchListen  = "SWAGE_BENCH_LISTEN"
	benchBackend = "SWAGE_BENCH_BACKEND"
	benchDir     = "SWAGE_BENCH_DIR"     // with the certificate
	benchProfile = "SWAGE_BENCH_PROFILE" // a folder, for the profiles of the edge; empty: none
	benchZone    = "node.example.com"
	benchRoutes  = 10_000
)

func benchHost(i int) string { return fmt.Sprintf("app-%d.%s", i, benchZone) }

// benchHosts are the names that each proxy of a comparison knows.
func benchHosts() []string {
	hosts := make([]string, benchRoutes)
	for i := range hosts {
		hosts[i] = benchHost(i)
	}
	return hosts
}

// benchEdgeMain is the edge of a comparison, if this process is to be it.
func benchEdgeMain() {
	if os.Getenv(benchListen) == "" {
		return
	}
	if err := benchEdge(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func benchEdge() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	target, err := netip.ParseAddrPort(os.Getenv(benchBackend))
	if err != nil {
		return err
	}
	dir := os.Getenv(benchDir)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", os.Getenv(benchListen))
	if err != nil {
		return err
	}
	table, err := edge.Compile(benchFleet(target))
	if err != nil {
		return err
	}
	if at := os.Getenv(benchProfile); at != "" {
		f, err := os.Create(filepath.Join(at, "cpu.pprof"))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		defer writeAllocs(filepath.Join(at, "allocs.pprof"))
	}
	log, flush, err := newLog(os.Stderr, "text")
	if err != nil {
		return err
	}
	defer flush()
	go tuneHeap(ctx)
	path := new(transparent.Path) // whose rules end with the namespace
	if err := path.Setup(ctx, worldBridge); err != nil {
		return err
	}
	go path.Watch(ctx, nil)
	p := edge.NewProxy(edge.Options{Logger: log, Limits: edge.Limits{ClientRequests: 4000}, Transparent: path})
	p.Swap(table)
	return p.Serve(ctx, l, &tls.Config{Certificates: []tls.Certificate{pair}})
}

func writeAllocs(path string) {
	f, err := os.Create(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = pprof.Lookup("allocs").WriteTo(f, 0)
}

// benchFleet is a large server: 10,000 routes under a document of 1,001 groups
// by address, one of which lets the load in. All lead to the one application.
func benchFleet(target netip.AddrPort) edge.Config {
	doc := &edge.Permissions{Groups: map[string]edge.Group{}, Cells: map[string]map[string]edge.Cell{}}
	allow := func(name string, p netip.Prefix) {
		doc.Groups[name] = edge.Group{Ranges: []netip.Prefix{p}}
		doc.Cells[name] = map[string]edge.Cell{"http": {All: true}}
	}
	for i := range 1000 {
		allow("group-"+strconv.Itoa(i), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	allow("load", netip.MustParsePrefix(worldClients))
	c := edge.Config{Zone: benchZone, Version: "0123456789abcdef"}
	for i := range benchRoutes {
		name := fmt.Sprintf("bench/app-%d", i)
		c.Containers = append(c.Containers, edge.Container{
			ProjectID: strings.Repeat("b", 24), ID: fmt.Sprintf("%024x", i), Name: name,
			Catalogue: &edge.Catalogue{}, Addr: target.Addr(), Permissions: doc,
		})
		c.Aliases = append(c.Aliases, edge.Alias{
			Name:   strings.TrimSuffix(benchHost(i), "."+benchZone),
			Target: edge.Target{Container: name, Program: "http", Port: target.Port()}, AllowPathOverride: true,
		})
	}
	return c
}
