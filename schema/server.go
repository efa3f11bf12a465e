package schema

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// demand is what the containers of one server add up to.
type demand struct {
	containers int
	memory     int64
	unlimited  []spot              // containers without a limit of memory
	listens    map[string][]listen // by protocol and port
}

// listen is a taken port of a host.
type listen struct{ host, what string }

func (r *resolver) server(f *Fleet, d *declared[rawServer]) Server {
	raw := d.raw
	if len(raw.Listen) == 0 {
		raw.Listen = []string{":443"}
	}
	s := Server{
		Pos: d.label, own: d.spot, Listen: raw.Listen, HTTP: raw.HTTP, SSH: raw.SSH,
		Bridge: raw.Network.Bridge, StoragePool: raw.StoragePool,
		MaxContainers: -1, MaxMemory: size(raw.Limits.Memory),
		IncusSocket: raw.Incus.Socket, IncusRemote: raw.Incus.Remote, IncusCertificate: raw.Incus.Certificate,
		ProjectPrefix: raw.Incus.ProjectPrefix, ImageServer: raw.Incus.ImageServer,
		Member: raw.Placement.Member, Group: raw.Placement.Group,
		AgeRecipients: raw.AgeRecipients, Webhooks: raw.Webhooks, Forge: Forge(raw.Forge),
		Maintenance: raw.Maintenance,
		TLS: TLS{
			Type: raw.TLS.Type, Email: raw.TLS.Email, Directory: raw.TLS.Directory,
			DNSProvider: raw.TLS.DNS.Provider, DNSOptions: raw.TLS.DNS.Options, Certificates: raw.TLS.Certificates,
		},
	}
	if raw.Limits.Containers != nil {
		s.MaxContainers = *raw.Limits.Containers
	}
	if d.broken {
		return s
	}
	if zone := f.Zone(d.name); len(zone) > 253-64 {
		r.add(d.at(), "the zone %s has %d characters; only %d are left for it in a host name", cut(zone), len(zone), 253-64)
	}
	l := &demand{listens: map[string][]listen{}}
	r.perServer[d.name] = l
	for _, group := range []struct {
		name  string
		addrs []string
	}{{"listen", raw.Listen}, {"http", raw.HTTP}, {"ssh", raw.SSH}} {
		for i, addr := range group.addrs {
			r.listen(l, d.in(group.name, i), addr, "tcp", "the edge")
		}
	}
	for i, a := range raw.PublicAddresses {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			r.add(d.in("public_addresses", i), "found %q, want an IP address, as in \"203.0.113.7\" or \"2001:db8::7\"", a)
		}
		s.PublicAddrs = append(s.PublicAddrs, addr)
	}
	for i, balancer := range raw.ProxyProtocol {
		s.Balancers = append(s.Balancers, r.prefix(d.in("proxy_protocol", i), balancer))
	}
	for i, subnet := range raw.Network.Subnets {
		s.Subnets = append(s.Subnets, r.prefix(d.in("network", "subnets", i), subnet))
	}
	r.dns(d)
	if raw.TLS.Type == "files" && len(raw.TLS.Certificates) == 0 {
		r.add(d.in("tls", "certificates"), "is empty; want one certificate at least")
	}
	if raw.Incus.Certificate != "" && raw.Incus.Remote == "" {
		r.add(d.in("incus", "certificate"), "is that of remote, which is missing")
	}
	s.Tokens = r.tokens(d)
	if doc := raw.Status.Permissions; doc != nil {
		p := r.document(&declared[rawPermissions]{spot: d.in("status", "permissions"), raw: *doc}, nil, scope{page: true, programs: r.fleetPrograms})
		s.StatusPage = p.doc
		r.judge(p)
	}
	return s
}

// dnsProgram holds the options of the provider exec to a name that the node
// file gives: what runs on a server, and in what environment, is not the
// repository's to say.
func (r *resolver) dnsProgram(d *declared[rawServer]) {
	dns := d.raw.TLS.DNS
	at := d.in("tls", "dns", "options")
	const form = `programs: "dns-hook": {command: ["/usr/local/bin/dns-hook"], environment: {…}}`
	if dns.Options["program"].IsZero() {
		r.add(at, "option \"program\" is missing; want the name of a program that the server's node file has, as in %s", form)
	}
	for _, name := range slices.Sorted(maps.Keys(dns.Options)) {
		switch text, err := dns.Options[name].Reveal(Keys{}); {
		case name == "program" && err != nil:
			r.add(at.in(name), "wants a name, not a secret of the node")
		case name == "program" && strings.Contains(text, "/"):
			r.add(at.in(name), "found a path; programs stand in the server's node file under a name, as in %s, and here stands the name: \"dns-hook\"", form)
		case name == "program" && !r.shapes["#Label"].accepts(&value{Kind: isText, Text: text}):
			r.add(at.in(name), "found %q, want the name of a program that the server's node file has: %s", cut(text), r.shapes["#Label"].wanted())
		case name != "program" && name != "wait":
			r.add(at.in(name), "is no option of exec, which has program and wait; the environment of a program stands in the server's node file, as in %s", form)
		}
	}
}

func (r *resolver) tokens(d *declared[rawServer]) map[string]Token {
	out := map[string]Token{}
	for _, name := range slices.Sorted(maps.Keys(d.raw.Tokens)) {
		raw, at := d.raw.Tokens[name], d.in("tokens", name)
		r.oneValue(at, raw.Value, "value", "value_sha256", "ssh_key")
		if len(raw.Allow) == 0 {
			r.add(at.in("allow"), "is empty; want a list of \"read\", \"plan\" and \"push\"")
		}
		t := Token{Value: raw.Value, SHA256: raw.ValueSHA256, Allow: raw.Allow, Realm: raw.Realm, ExpiresAt: r.time(at.in("expires_at"), raw.ExpiresAt)}
		if i := slices.Index(raw.Allow, "plan"); i >= 0 && raw.Realm != "" {
			r.add(at.in("allow", i), "found \"plan\" beside realm; a plan shows the whole server, so a realm's token may ask for none")
		}
		if raw.SSHKey != "" {
			var err error
			if t.SSHKey, err = wire(raw.SSHKey); err != nil {
				r.add(at.in("ssh_key"), "%v", err)
			}
			if i := slices.Index(raw.Allow, "plan"); i >= 0 {
				r.add(at.in("allow", i), "found \"plan\", which nobody asks for over SSH; want \"read\" and \"push\"")
			}
		}
		out[name] = t
	}
	return out
}

// listen takes a port of a server's host, unless something else has it.
func (r *resolver) listen(l *demand, at spot, addr, protocol, what string) {
	i := strings.LastIndexByte(addr, ':')
	host := strings.Trim(addr[:i], "[]")
	port, err := strconv.ParseUint(addr[i+1:], 10, 16)
	if err != nil || port == 0 {
		r.add(at, "found %q, want a port from 1 to 65535 after the colon", addr)
		return
	}
	if l == nil {
		return
	}
	mine := listen{host, fmt.Sprintf("%s at %s", what, at.pos)}
	key := fmt.Sprint(protocol, port)
	for _, other := range l.listens[key] {
		if other.host == host || other.host == "" || host == "" {
			r.add(at, "%s port %d is taken by %s; choose another", protocol, port, other.what)
			return
		}
	}
	l.listens[key] = append(l.listens[key], mine)
}

// capacity holds what the fleet asks of each server to the server's limits.
func (r *resolver) capacity(f *Fleet) {
	for _, name := range slices.Sorted(maps.Keys(f.Servers)) {
		l, s, d := r.perServer[name], f.Servers[name], r.servers[name]
		if l == nil {
			continue
		}
		if s.MaxContainers >= 0 && l.containers > s.MaxContainers {
			r.add(d.in("limits", "containers"), "the fleet has %d containers on this server and allows it %d", l.containers, s.MaxContainers)
		}
		if s.MaxMemory > 0 {
			for _, at := range l.unlimited {
				r.add(at, "is missing; server %s shares out %s (limits.memory), so each of its containers needs a limit", name, d.raw.Limits.Memory)
			}
		}
		if s.MaxMemory > 0 && l.memory > s.MaxMemory {
			r.add(d.in("limits", "memory"), "the memory limits of the containers on this server add up to %s, more than %s", bytesText(l.memory), d.raw.Limits.Memory)
		}
	}
}
