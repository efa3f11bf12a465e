package edge

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
)

// maxChanges bounds the changes that one line of the log names; it counts all.
const maxChanges = 50

// Changes are what one table allows and another does not.
type Changes struct {
	Granted, Revoked           []string // at most 50 each, sorted
	GrantedCount, RevokedCount int
}

// section is a part of a table's containers, always the same ones by name. Equal
// digests say that two tables allow the same in it, so that comparing large
// tables takes no longer than what differs between them.
type section struct {
	digest     Digest
	containers []*container
}

type sections [256]section

// add counts a container in, in the order of the Config.
func (s *sections) add(c *container) {
	at := &s[crc32.ChecksumIEEE([]byte(c.name))%uint32(len(s))]
	allowed := c.judges().digest()
	at.digest = sha256.Sum256(slices.Concat(at.digest[:], allowed[:], []byte(c.name)))
	at.containers = append(at.containers, c)
}

func (t *Table) allSections() *sections {
	if t == nil {
		return &sections{}
	}
	return &t.sections
}

// Changes compares what t allows with what before allowed, container by
// container. What a group may do and who is in it counts, not where a container
// runs. A nil Table allows nothing.
func (t *Table) Changes(before *Table) Changes {
	type pair struct{ before, now *document }
	type difference struct{ granted, revoked []string }
	differ := map[string]pair{} // by the container's name
	was, is := before.allSections(), t.allSections()
	for i := range was {
		if was[i].digest == is[i].digest {
			continue
		}
		for _, c := range was[i].containers {
			differ[c.name] = pair{c.judges(), shut}
		}
		for _, c := range is[i].containers {
			p, there := differ[c.name]
			switch p.now = c.judges(); {
			case !there:
				p.before = shut
			case p.before.digest() == p.now.digest():
				delete(differ, c.name)
				continue
			}
			differ[c.name] = p
		}
	}
	known := map[pair]difference{} // most containers share a document
	var out Changes
	tell := func(list *[]string, count *int, name string, grants []string) {
		*count += len(grants)
		for _, g := range grants {
			if len(*list) < maxChanges {
				*list = append(*list, name+": "+g)
			}
		}
	}
	for _, name := range names(differ) {
		p := differ[name]
		d, done := known[p]
		if !done {
			had, has := p.before.grants(), p.now.grants()
			d.granted, d.revoked = without(has, had), without(had, has)
			known[p] = d
		}
		tell(&out.Granted, &out.GrantedCount, name, d.granted)
		tell(&out.Revoked, &out.RevokedCount, name, d.revoked)
	}
	return out
}

// shut is the document of what nobody reaches.
var shut = (&document{fallback: Deny}).sealed()

// judges is the document by which a container is judged.
func (c *container) judges() *document {
	if c.closed {
		return shut
	}
	return c.document
}

// sealed notes what stands for the grants of a document that is complete.
func (d *document) sealed() *document {
	h := sha256.New()
	for _, g := range names(d.grants()) {
		fmt.Fprintf(h, "%q\n", g)
	}
	d.allows = Digest(h.Sum(nil))
	return d
}

func (d *document) digest() Digest {
	if d == nil {
		return Digest{}
	}
	return d.allows
}

// grants lists what a document allows: text for people, and after a NUL what
// tells equal texts apart.
func (d *document) grants() map[string]bool {
	out := map[string]bool{}
	if d == nil {
		return map[string]bool{"everyone, everything (no permissions document)": true}
	}
	var less []string // cells that take away from an open default
	for name, g := range d.groups {
		for _, c := range g.cells {
			if c.String() != "*" {
				less = append(less, fmt.Sprintf("%s %s %s %x", name, c.program, c, g.like))
			}
			if c.all || len(c.ports) > 0 {
				out[fmt.Sprintf("group %s, %s %s\x00%x", name, c.program, c, g.like)] = true
			}
		}
	}
	switch {
	case d.fallback != Allow:
	case len(less) == 0:
		out["everyone, by default"] = true
	default:
		slices.Sort(less)
		out["everyone, by default, but for what groups have less of\x00"+strings.Join(less, "\n")] = true
	}
	return out
}

// String is the cell as people write it.
func (c cell) String() string {
	var parts []string
	for _, r := range c.ports {
		if r.First == r.Last {
			parts = append(parts, fmt.Sprint(r.First))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
	}
	text := strings.Join(parts, ",")
	if c.all || text == "1-65535" {
		text = "*"
	}
	if c.level != "" {
		text += " up to " + c.level
	}
	return text
}

// without are the texts of a that b does not have, sorted.
func without(a, b map[string]bool) (out []string) {
	for g := range a {
		if !b[g] {
			text, _, _ := strings.Cut(g, "\x00")
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// audit writes what a new table changes. One that follows an address, and
// changes nothing that anybody may, has no line.
func (p *Proxy) audit(t, before *Table) {
	if t == nil {
		if before != nil {
			p.log.Info("table", "revoked_count", before.Changes(nil).GrantedCount, "why", "there is no table any more")
		}
		return
	}
	c := t.Changes(before)
	if before != nil && before.version == t.version && c.GrantedCount == 0 && c.RevokedCount == 0 {
		return
	}
	p.log.Info("table", "commit", t.version,
		slog.Int("granted_count", c.GrantedCount), slog.Int("revoked_count", c.RevokedCount),
		slog.Any("granted", c.Granted), slog.Any("revoked", c.Revoked))
}
