package edge

import (
	"bytes"
	"net/netip"
	"time"
)

// Decide answers a request from the table alone; the same request has the same
// answer for ever. It does not allocate. A nil Table denies.
//
// The caller's permissions come first, so that somebody who is refused learns
// neither which paths an alias serves nor whether its container runs.
func (t *Table) Decide(r Request) (d Decision) {
	if t == nil {
		d.Why = "no table"
		return d
	}
	var at spot
	if !t.locate(&r, &at, &d) {
		return d
	}
	if at.alias == nil {
		d.judge(at.container, &at.endpoint, &r)
		return d
	}
	d.judgeAlias(t, &at, &r)
	return d
}

// spot is where a request leads to.
type spot struct {
	container *container
	endpoint  endpoint
	alias     *alias // nil: by a host of the container's own
	part      string // of the alias
}

// locate finds where a request leads to, whoever makes it. If it leads nowhere
// that permissions are about, d is the answer.
func (t *Table) locate(r *Request, at *spot, d *Decision) bool {
	name, _ := cutHost(r.Host)
	// Hosts mostly come as they were generated: one that the table holds needs
	// no reading of its letters.
	if label, below := cutZone(t, name); below && len(label) <= maxLabel && locateGenerated(t, label, at, d) {
		return true
	}
	return t.locateName(r, at, d)
}

// locateName is locate for any spelling of a host.
func (t *Table) locateName(r *Request, at *spot, d *Decision) bool {
	*d = Decision{Verdict: NotFound, Why: "no host name"}
	var buf [maxHost]byte
	name, ok := normalise(&buf, r.Host)
	if !ok {
		return false
	}
	label, ok := t.label(name)
	switch {
	case !ok:
		return t.locateAlias(t.domain[string(name)], "host outside the zone", r, at, d)
	case looksGenerated(label):
		return locateGenerated(t, label, at, d)
	case reserved(label):
		*d = t.decideReserved(label)
		return false
	default:
		return t.locateAlias(t.alias[string(label)], "no such alias", r, at, d)
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

func locateGenerated[T string | []byte](t *Table, label T, at *spot, d *Decision) bool {
	d.Verdict, d.Generated = NotFound, true
	program, n, ok := cutGenerated(label)
	if !ok {
		d.Why = "not a container's host"
		return false
	}
	var k key
	copy(k[:], label)
	c := t.byKey.find(&k)
	if c == nil {
		d.Why = "no such container"
		return false
	}
	if !find(c.catalogue, program, n, &at.endpoint) {
		d.Why = "the container has no such program or instance"
		return false
	}
	at.container = c
	return true
}

func (t *Table) locateAlias(a *alias, otherwise string, r *Request, at *spot, d *Decision) bool {
	d.Verdict = NotFound
	if a == nil {
		d.Why = otherwise
		return false
	}
	if !a.expires.IsZero() && !r.Time.Before(a.expires) {
		d.Why = "the alias has expired"
		return false
	}
	to, part := a.lead(r.Path)
	if to.container == nil {
		d.Why = "the alias leads to nothing that its container has"
		return false
	}
	at.container, at.endpoint, at.alias, at.part = to.container, to.endpoint, a, part
	return true
}

func (d *Decision) judgeAlias(t *Table, at *spot, r *Request) {
	a := at.alias
	d.judge(at.container, &at.endpoint, r)
	if d.Verdict == Deny {
		return
	}
	path, prefix, ok := "", "", true
	if at.part == "" {
		path, prefix, ok = a.route(r.Path)
	} else if at.part != "/" {
		ok = !climbs(r.Path)
	}
	if !ok {
		*d = Decision{Verdict: NotFound, Why: "the alias does not serve this path", Container: d.Container, Program: d.Program, Number: d.Number}
		return
	}
	if d.Verdict == Allow {
		d.Route.Path, d.Route.Prefix = path, prefix
		if later(d.Until, a.expires) {
			d.Until = a.expires
		}
		d.judgeTargets(t, at, r)
	}
}

// judge completes a decision about a container that is known to exist.
func (d *Decision) judge(c *container, e *endpoint, r *Request) {
	d.Container, d.Program, d.Number = c.name, e.program, e.number
	if c.closed {
		d.Verdict, d.Closed, d.Why = Unavailable, true, "the container is closed to the edge"
		return
	}
	client := r.Client.Unmap()
	rank := c.document.decide(client, e, r, d)
	if d.Verdict == Allow || d.Ask != 0 { // no credential helps against the firewall
		if ok, why := c.ingress.decide(client, e.port); !ok {
			d.Verdict, d.Why, d.Ask = Deny, why, 0
		}
	}
	switch {
	case d.Verdict != Allow:
		d.Until = time.Time{}
	case !c.addr.IsValid():
		d.Verdict, d.Why, d.Until = Unavailable, "the container is not running", time.Time{}
	default:
		to := &d.Route
		to.ContainerID, to.Addr, to.Addr6, to.TLS = c.id, netip.AddrPortFrom(c.addr, e.port), c.addr6, e.tls
		to.Instance, to.Level = e.instance, e.of.level(rank)
	}
}

// label returns what stands before the zone in a name: one label. It reports
// false when the name is not exactly one label below the zone.
func (t *Table) label(name []byte) ([]byte, bool) {
	label, ok := cutZone(t, name)
	return label, ok && len(label) <= maxLabel && bytes.IndexByte(label, '.') < 0
}

// cutZone returns what stands before the zone in a name, which may be several
// labels. It reports false when nothing does.
func cutZone[T string | []byte](t *Table, name T) (T, bool) {
	cut := len(name) - len(t.suffix)
	if cut <= 0 || string(name[cut:]) != t.suffix {
		return name, false
	}
	return name[:cut], true
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
