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
	name, ok := normalise(&buf, r.Host)
	if !ok {
		return Decision{Verdict: NotFound, Why: "no host name"}
	}
	label, ok := t.label(name)
	switch {
	case !ok:
		return t.decideAlias(t.domain[string(name)], "host outside the zone", &r)
	case looksGenerated(label):
		return t.decideGenerated(label, &r)
	case reserved(label):
		return t.decideReserved(label)
	default:
		return t.decideAlias(t.alias[string(label)], "no such alias", &r)
	}
}

// decideReserved answers for the agent's own hosts.
func (t *Table) decideReserved(label []byte) Decision {
	if t.api && string(label) == labelAPI {
		return Decision{Verdict: Allow, Why: "the API asks for a token itself", Route: Route{API: true}}
	}
	if t.git && string(label) == labelGit {
		return Decision{Verdict: Allow, Why: "the repository asks for a token itself", Route: Route{Git: true}}
	}
	return Decision{Verdict: NotFound, Why: "a reserved host that is not served"}
}

func (t *Table) decideGenerated(label []byte, r *Request) Decision {
	d := Decision{Verdict: NotFound, Generated: true}
	g, ok := parseGenerated(label)
	if !ok {
		d.Why = "not a container's host"
		return d
	}
	c, ok := t.byKey[string(g.key)]
	if !ok {
		d.Why = "no such container"
		return d
	}
	e, ok := c.catalogue.find(g.program, g.n)
	if !ok {
		d.Why = "the container has no such program or instance"
		return d
	}
	d.judge(c, &e, r)
	return d
}

func (t *Table) decideAlias(a *alias, otherwise string, r *Request) Decision {
	d := Decision{Verdict: NotFound}
	if a == nil {
		d.Why = otherwise
		return d
	}
	if !a.expires.IsZero() && !r.Time.Before(a.expires) {
		d.Why = "the alias has expired"
		return d
	}
	to, part := a.lead(r.Path)
	if to.container == nil {
		d.Why = "the alias leads to nothing that its container has"
		return d
	}
	d.judge(to.container, &to.endpoint, r)
	if d.Verdict == Deny {
		return d
	}
	path, prefix, ok := "", "", true
	if part == "" {
		path, prefix, ok = a.route(r.Path)
	} else if part != "/" {
		ok = !climbs(r.Path)
	}
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
func (d *Decision) judge(c *container, e *endpoint, r *Request) {
	d.Container = c.name
	if c.closed {
		d.Verdict, d.Closed, d.Why = Unavailable, true, "the container is closed to the edge"
		return
	}
	client := r.Client.Unmap()
	d.Verdict, d.Why = c.document.decide(client, e.program, e.number)
	if d.Verdict == Allow {
		if ok, why := c.ingress.decide(client, e.port); !ok {
			d.Verdict, d.Why = Deny, why
		}
	}
	switch {
	case d.Verdict != Allow:
	case !c.addr.IsValid():
		d.Verdict, d.Why = Unavailable, "the container is not running"
	default:
		d.Route = Route{ContainerID: c.id, Addr: netip.AddrPortFrom(c.addr, e.port), TLS: e.tls, Instance: e.instance}
	}
}

// label returns what stands before the zone in a name: one label. It reports
// false when the name is not exactly one label below the zone.
func (t *Table) label(name []byte) ([]byte, bool) {
	if len(name) <= len(t.suffix) {
		return nil, false
	}
	cut := len(name) - len(t.suffix)
	if string(name[cut:]) != t.suffix {
		return nil, false
	}
	label := name[:cut]
	return label, len(label) <= maxLabel && bytes.IndexByte(label, '.') < 0
}

// covers says that the certificates of a table hold for the host: those of the
// zone, of "*."+zone and of the custom domains.
func (t *Table) covers(host string) bool {
	var buf [maxHost]byte
	name, ok := normalise(&buf, host)
	if !ok {
		return false
	}
	if _, ok := t.label(name); ok {
		return true
	}
	return string(name) == t.zone || t.domain[string(name)] != nil
}
