package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"swage/edge"
	"swage/edge/certs"
	"swage/edge/transparent"
	"swage/reconcile"
	"swage/reconcile/hostfile"
	"swage/schema"
)

// front is the edge with its listeners. Only the reconciler's goroutine calls
// publish.
type front struct {
	ctx   context.Context
	group *errgroup.Group
	log   *slog.Logger
	proxy *edge.Proxy
	certs *certs.Source
	keys  schema.Keys // of what the fleet names

	services     []string         // of this machine that the fleet may have called
	certificates hostfile.Folders // of the files that the fleet may name

	programs map[string]schema.NodeProgram // that the fleet may name
	nodeKeys schema.Keys                   // of their environment

	path transparent.Path // of clients' addresses

	balancers atomic.Pointer[[]netip.Prefix] // nil: none
	bridge    string                         // of the last publish

	inherited bool // the sockets for HTTPS were passed in
	open      map[endpoint]context.CancelFunc
	port      atomic.Int32 // of HTTPS
	tlsAddr   string       // of the first socket passed in
}

// endpoint is an address that is served, over TLS unless it is plain.
type endpoint struct {
	addr  string
	plain bool
}

// publish takes a new table, and follows the addresses and the zone that the
// fleet names now. The table is in force before anything new listens.
func (f *front) publish(e reconcile.Edge) error {
	var failed []error
	f.followClients(e.Bridge)
	f.balancers.Store(&e.Balancers)
	// First what visitors may do: certificates may have to be read.
	f.proxy.Swap(e.Table)
	f.certs.Follow(certs.Names{Zone: e.Zone, Domains: e.Table.Domains()})
	settings, err := f.settings(e)
	if err == nil {
		err = f.certs.Use(settings)
	}
	if err != nil {
		failed = append(failed, fmt.Errorf("tls: %w; certificates come from where they came from before", err))
	}
	wanted := map[endpoint]bool{}
	for _, addr := range e.HTTP {
		wanted[endpoint{addr, true}] = true
	}
	if !f.inherited {
		for _, addr := range e.Listen {
			wanted[endpoint{addr, false}] = true
		}
		if len(e.Listen) > 0 {
			f.setPort(e.Listen[0])
		}
	}
	for at := range wanted {
		if f.open[at] == nil {
			failed = append(failed, f.listen(at))
		}
	}
	for at, cancel := range f.open {
		if !wanted[at] {
			cancel()
			delete(f.open, at)
		}
	}
	return errors.Join(failed...)
}

// listen opens one of the addresses that the server's file names.
func (f *front) listen(at endpoint) error {
	l, err := net.Listen("tcp", at.addr)
	if err != nil {
		return fmt.Errorf("the edge cannot serve: %w", err)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	f.open[at] = cancel
	if at.plain {
		f.log.Info("listening for plain HTTP", "address", l.Addr().String())
		f.group.Go(func() error {
			return f.proxy.ServePlain(ctx, f.behindBalancers(l), func() int { return int(f.port.Load()) })
		})
		return nil
	}
	f.serve(ctx, l)
	// HTTP/3 is at the same port, and nobody depends on it.
	conn, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return fmt.Errorf("the edge serves without HTTP/3: %w", err)
	}
	f.serveQUIC(ctx, conn)
	return nil
}

// setPort notes where plain HTTP is redirected to.
func (f *front) setPort(addr string) {
	if _, port, err := net.SplitHostPort(addr); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			f.port.Store(int32(n))
		}
	}
}

// settings reads what the server's file says about certificates, with its
// secrets.
func (f *front) settings(e reconcile.Edge) (s certs.Settings, err error) {
	s = certs.Settings{Kind: e.TLS.Type, Directory: e.TLS.Directory, Email: e.TLS.Email, Provider: e.TLS.DNSProvider}
	if s.Kind == certs.ACME { // challenges come to where visitors come
		s.TLSAddr = f.tlsAddr
		if !f.inherited && len(e.Listen) > 0 {
			s.TLSAddr = e.Listen[0]
		}
		if len(e.HTTP) > 0 {
			s.HTTPAddr = e.HTTP[0]
		}
	}
	for _, c := range e.TLS.Certificates {
		for _, path := range []string{c.Certificate, c.Key} {
			if !f.certificates.Covers(path) {
				return s, fmt.Errorf("certificates: %s is outside of the folders that this server's node file lists: %s; add the one that it lies in to certificate_folders there, and start the agent again", path, f.certificates)
			}
		}
		s.Files = append(s.Files, certs.Pair{Certificate: c.Certificate, Key: c.Key})
	}
	for name, secret := range e.TLS.DNSOptions {
		value, err := secret.Reveal(f.keys)
		if err != nil {
			return s, fmt.Errorf("dns.options.%s: %w", name, err)
		}
		if s.Options == nil {
			s.Options = map[string]string{}
		}
		s.Options[name] = value
	}
	if s.Provider != "" {
		s.Node.Services = f.services
	}
	if s.Provider == "exec" {
		if s.Node.Program, err = f.program(s.Options["program"]); err != nil {
			return s, fmt.Errorf("dns.options.program: %w", err)
		}
		delete(s.Options, "program")
	}
	return s, nil
}

// program is one that the node file has. A commit chooses its name, the node
// file all the rest.
func (f *front) program(name string) (certs.Program, error) {
	p, ok := f.programs[name]
	if !ok {
		known := "it names none; add it there, as in programs: " + strconv.Quote(name) + `: command: ["/usr/local/bin/…"], and start the agent again`
		if len(f.programs) > 0 {
			known = "it names " + strings.Join(slices.Sorted(maps.Keys(f.programs)), ", ")
		}
		return certs.Program{}, fmt.Errorf("this server's node file names no program %q; %s", name, known)
	}
	out := certs.Program{Command: p.Command, Environment: map[string]string{}}
	for variable, secret := range p.Environment {
		value, err := secret.Reveal(f.nodeKeys)
		if err != nil {
			return out, fmt.Errorf("programs.%s.environment.%s of the node file: %w", name, variable, err)
		}
		out.Environment[variable] = value
	}
	return out, nil
}

func (f *front) serve(ctx context.Context, l net.Listener) {
	f.log.Info("listening", "address", l.Addr().String())
	f.group.Go(func() error { return f.proxy.Serve(ctx, f.behindBalancers(l), f.certs.TLSConfig()) })
}

func (f *front) serveQUIC(ctx context.Context, conn net.PacketConn) {
	f.log.Info("listening for HTTP/3", "address", conn.LocalAddr().String())
	f.group.Go(func() error { return f.proxy.ServeQUIC(ctx, conn, f.certs.TLSConfig()) })
}

// inheritedSockets takes the sockets that systemd or another parent passed in
// (sd_listen_fds(3)): descriptors from 3 on, LISTEN_FDS of them, meant for the
// process LISTEN_PID. Datagram sockets are for HTTP/3.
func inheritedSockets() (streams []net.Listener, datagrams []net.PacketConn, err error) {
	if pid := os.Getenv("LISTEN_PID"); pid == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 64 {
		return nil, nil, fmt.Errorf("LISTEN_FDS is %q, want a small number", os.Getenv("LISTEN_FDS"))
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name) // not for our children
	}
	for fd := 3; fd < 3+n; fd++ {
		kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
		if err != nil {
			return nil, nil, fmt.Errorf("inherited descriptor %d: %w", fd, err)
		}
		file := os.NewFile(uintptr(fd), "inherited")
		if kind == syscall.SOCK_DGRAM { // both are copies of their own, closed on exec
			var conn net.PacketConn
			conn, err = net.FilePacketConn(file)
			datagrams = append(datagrams, conn)
		} else {
			var l net.Listener
			l, err = net.FileListener(file)
			streams = append(streams, l)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, nil, fmt.Errorf("inherited descriptor %d: %w", fd, err)
		}
	}
	return streams, datagrams, nil
}

// withExtendedConnect starts the process again, as the same process, with what
// lets net/http take WebSockets over HTTP/2 (RFC 8441): it reads that from the
// environment alone, before any code of ours runs. Sockets that were passed in
// stay where they are. An environment that decides already is left alone; if
// the start fails, HTTP/2 is served without.
func withExtendedConnect() {
	debug := os.Getenv("GODEBUG")
	if strings.Contains(debug, "http2xconnect=") {
		return
	}
	if debug != "" {
		debug += ","
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	os.Setenv("GODEBUG", debug+"http2xconnect=1")
	_ = syscall.Exec(self, os.Args, os.Environ())
}
