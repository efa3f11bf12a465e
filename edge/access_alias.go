package edge

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// way is what an alias does with a part of its paths.
type way struct {
	target  target
	alias   *alias
	part    string // of alias that serves it; "": the alias itself
	expires time.Time
}

// wayOf is what an alias does with the paths that start with part, but for
// those of longer parts; with part "" what none of its parts has.
func (x *comparison) wayOf(a *alias, part string) (way, bool) {
	if a == nil || !a.expires.IsZero() && !x.at.Before(a.expires) {
		return way{}, false
	}
	to, of := a.lead(part)
	return way{*to, a, of, a.expires}, to.container != nil
}

// served says which paths a way serves, and as what. One that serves all as
// they come is plain.
type served struct {
	path     string
	override bool
	part     bool // a part of an alias: no path that climbs
}

func (w way) served() served {
	switch w.part {
	case "":
		return served{w.alias.path, w.alias.override, false}
	case "/":
		return served{override: true}
	}
	return served{override: true, part: true}
}

// within reports whether s serves no path that o does not serve as the same.
func (s served) within(o served) bool {
	switch {
	case s == o:
		return true
	case s.path != o.path || !o.override:
		return false
	}
	return s.part == o.part || s.part
}

// eachWay calls f with every part of every host that an alias of one of the
// tables has.
func (x *comparison) eachWay(f func(host, part string, before, now *alias)) {
	hosts := func(t *Table) map[string]*alias {
		out := map[string]*alias{}
		if t == nil {
			return out
		}
		for name, a := range t.alias {
			out[name+t.suffix] = a
		}
		for name, a := range t.domain {
			out[name] = a
		}
		return out
	}
	was, is := hosts(x.before), hosts(x.now)
	all := map[string]bool{}
	for h := range was {
		all[h] = true
	}
	for h := range is {
		all[h] = true
	}
	for _, host := range names(all) {
		parts := []string{""}
		for _, a := range []*alias{was[host], is[host]} {
			if a != nil {
				for _, p := range a.paths {
					parts = append(parts, p.path)
				}
			}
		}
		slices.Sort(parts)
		parts = slices.Compact(parts)
		for _, part := range parts {
			if part == "" && slices.Contains(parts, "/") {
				continue // which has all that others have not
			}
			f(host, part, was[host], is[host])
		}
	}
}

// findUses collects the ways that lead to the same before and now: what changes
// there for a caller is felt through them as well.
func (x *comparison) findUses() {
	x.uses = map[*container][]use{}
	x.eachWay(func(host, part string, before, now *alias) {
		b, okBefore := x.wayOf(before, part)
		n, okNow := x.wayOf(now, part)
		if !okBefore || !okNow || !x.sameTarget(b.target, n.target) {
			return
		}
		u := use{host, n.target.endpoint.program, n.target.endpoint.number}
		x.uses[n.target.container] = append(x.uses[n.target.container], u)
	})
}

// sameTarget reports whether targets of the two tables are the same.
func (x *comparison) sameTarget(b, n target) bool {
	if b.endpoint.program != n.endpoint.program || b.endpoint.number != n.endpoint.number {
		return false
	}
	return x.twin(b.container, x.before, x.now) == n.container
}

// aliases puts out what hosts of aliases lead to and did not, and the reverse:
// for each who has access there.
func (x *comparison) aliases() {
	known := map[string]int{} // index in out, of changes that differ in hosts only
	x.eachWay(func(host, part string, before, now *alias) {
		b, okBefore := x.wayOf(before, part)
		n, okNow := x.wayOf(now, part)
		same := okBefore && okNow && x.sameTarget(b.target, n.target)
		if okNow && (!same || !n.served().within(b.served()) || later(n.expires, b.expires)) {
			x.through(known, host, part, n, b, same, true)
		}
		if okBefore && (!same || !b.served().within(n.served()) || later(b.expires, n.expires)) {
			x.through(known, host, part, b, n, same, false)
		}
	})
}

// through puts out who has access through a way of a host: w, which the other
// table has not, or has as other.
func (x *comparison) through(known map[string]int, host, part string, w, other way, same, gained bool) {
	c := w.target.container
	to := sideOf(c)
	e := &w.target.endpoint
	r := reach{true, e.program, e.number, e.of}
	g := &gaining{from: side{shut, to.catalogue}, to: to, left: &x.left, known: map[string]int{}, like: map[Digest][]*group{}, likeTo: map[Digest][]*group{}}
	g.class(&class{name: e.program, lo: e.number, hi: e.number, from: r, to: r})
	cause := x.causeOf(host, part, w, other, same)
	for _, f := range g.result() {
		f := f.gained()
		change := f.change
		change.Gains, change.Opens = gained, gained && change.Opens
		if !gained {
			change.Level = ""
		}
		change.Numbers = fmt.Sprint(e.number)
		change.Containers = []string{c.name}
		change.Path = part
		if w.part == "" {
			change.TargetPath, change.Exact = w.alias.path, !w.alias.override
		}
		if same && w.part == "" && other.part == "" && w.alias.path == other.alias.path {
			change.Rest = w.alias.override && !other.alias.override
		}
		if !w.expires.IsZero() {
			change.Until = &w.expires
		}
		if same && w.served().within(other.served()) { // the time alone differs
			change.From = &other.expires
		}
		change.Field, change.At = x.where(cause)
		key := fmt.Sprint(gained, c.name, change.Subject.Group, change.Subject.Kind, change.Subject.Who, change.Level, change.Program, change.Numbers,
			change.Path, change.TargetPath, change.Exact, change.Rest, w.expires, other.expires, cause)
		if i, ok := known[key]; ok {
			x.out[i].Hosts = append(x.out[i].Hosts, host)
			continue
		}
		known[key] = len(x.out)
		change.Hosts = []string{host}
		x.out = append(x.out, change)
	}
}

// causeOf finds what of an alias asks for a change of a way.
func (x *comparison) causeOf(host, part string, w, other way, same bool) Cause {
	c := Cause{Kind: CauseAlias, Alias: w.alias.name}
	domain := !strings.HasSuffix(host, x.suffix())
	switch {
	case other.alias == nil && domain && x.aliasInBoth(w.alias.name):
		c.Kind, c.Detail = CauseDomain, host
	case other.alias == nil:
	case other.alias.name != w.alias.name:
		c.Kind, c.Detail = CauseDomain, host
	case !same && w.part != "":
		c.Kind, c.Detail = CausePath, w.part
	case !same && other.part != "":
		c.Kind, c.Detail = CausePath, other.part
	case !same:
	case w.part != other.part:
		c.Kind, c.Detail = CausePath, part
	case w.alias.path != other.alias.path:
		c.Kind = CauseTargetPath
	case w.alias.override != other.alias.override:
		c.Kind = CauseOverride
	default:
		c.Kind = CauseExpiry
	}
	return c
}

func (x *comparison) suffix() string {
	if x.now != nil {
		return x.now.suffix
	}
	return x.before.suffix
}

func (x *comparison) aliasInBoth(name string) bool {
	return x.before != nil && x.now != nil && x.before.alias[name] != nil && x.now.alias[name] != nil
}

// digest stands for an alias and for those before it.
func (a *alias) digest(before Digest, domains []string) Digest {
	h := sha256.New()
	h.Write(before[:])
	fmt.Fprintf(h, "%q %q %q %t %s", a.name, domains, a.path, a.override, a.expires.UTC().Format(time.RFC3339Nano))
	a.target.write(h)
	for i := range a.paths {
		fmt.Fprintf(h, "%q", a.paths[i].path)
		a.paths[i].target.write(h)
	}
	return Digest(h.Sum(nil))
}

func (t *target) write(h io.Writer) {
	if c := t.container; c != nil {
		fmt.Fprintf(h, "%q %s %s %d", c.name, c.key[:], t.endpoint.program, t.endpoint.number)
	}
	fmt.Fprintln(h)
}
