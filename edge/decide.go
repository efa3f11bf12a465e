package edge

import (
	"bytes"
	"net/netip"
)

// Decide answers a request from the table alone; the same request has the same
// answer for ever. It does not allocate. A nil Table denies.
//
// The caller's permissions come first, so that somebody who is refused learns
// neither which paths an alias serves nor whether its container runs.
func (t *Table) Decide(r Request) Decision {
	if t == nil {
		return Decision{Why: "no table"}
	}
	var buf [maxHost]byte
	label, ok := t.label(&buf, r.Host)
	if !ok {
		return Decision{Verdict: NotFound, Why: "host outside the zone"}
	}
	if t.api && string(label) == labelAPI {
		return Decision{Verdict: Allow, Why: "the API asks for a token itself", Route: Route{API: true}}
	}
	if looksGenerated(label) {
		return t.decideGenerated(label, r)
	}
	return t.decideAlias(label, r)
}

func (t *Table) decideGenerated(label []byte, r Request) Decision {
	d := Decision{Verdict: NotFound, Generated: true}
	g, ok := parseGenerated(label)
	if !ok || string(g.program) != programHTTP {
		d.Why = "no such program"
		return d
	}
	c, ok := t.byKey[string(g.key)]
	if !ok {
		d.Why = "no such container"
		return d
	}
	port := g.n
	if port == 0 {
		port = portHTTP
	}
	d.judge(c, port, r)
	return d
}

func (t *Table) decideAlias(label []byte, r Request) Decision {
	d := Decision{Verdict: NotFound}
	a, ok := t.alias[string(label)]
	if !ok {
		d.Why = "no such alias"
		return d
	}
	if !a.expires.IsZero() && !r.Time.Before(a.expires) {
		d.Why = "the alias has expired"
		return d
	}
	d.judge(a.container, a.port, r)
	if d.Verdict == Deny {
		return d
	}
	path, prefix, ok := a.route(r.Path)
	if !ok {
		return Decision{Verdict: NotFound, Why: "the alias does not serve this path", Container: d.Container}
	}
	if d.Verdict == Allow {
		d.Route.Path, d.Route.Prefix = path, prefix
		d.Until = a.expires
	}
	return d
}

// judge completes a decision about a container that is known to exist.
func (d *Decision) judge(c *container, port uint16, r Request) {
	d.Container = c.name
	client := r.Client.Unmap()
	d.Verdict, d.Why = c.document.decide(client, programHTTP, port)
	if d.Verdict == Allow {
		if ok, why := c.ingress.decide(client, port); !ok {
			d.Verdict, d.Why = Deny, why
		}
	}
	switch {
	case d.Verdict != Allow:
	case !c.addr.IsValid():
		d.Verdict, d.Why = Unavailable, "the container is not running"
	default:
		d.Route = Route{ContainerID: c.id, Addr: netip.AddrPortFrom(c.addr, port)}
	}
}

// label returns what stands before the zone in a host: one label, in lower
// case. It reports false when the host is not exactly one label below the zone.
func (t *Table) label(buf *[maxHost]byte, host string) ([]byte, bool) {
	name, ok := normalise(buf, host)
	if !ok || len(name) <= len(t.suffix) {
		return nil, false
	}
	cut := len(name) - len(t.suffix)
	if string(name[cut:]) != t.suffix {
		return nil, false
	}
	label := name[:cut]
	return label, len(label) <= maxLabel && bytes.IndexByte(label, '.') < 0
}

// covers says that a certificate for the zone and "*."+zone holds for the
// host.
func (t *Table) covers(host string) bool {
	var buf [maxHost]byte
	if _, ok := t.label(&buf, host); ok {
		return true
	}
	name, ok := normalise(&buf, host)
	return ok && string(name) == t.zone
}
