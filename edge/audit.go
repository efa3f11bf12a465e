package edge

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// maxChanges bounds the changes that one line of the log names; it counts all.
const maxChanges = 50

// Changes are what one table allows and another does not, in words.
type Changes struct {
	Granted, Revoked           []string // at most 50 each
	GrantedCount, RevokedCount int      // of a change for each container
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
	at := s.of(c.name)
	allowed, offers, rules := c.judges().digest(), c.catalogue.digest(), c.ingress.digest()
	closed := []byte{0}
	if c.closed {
		closed[0] = 1
	}
	at.digest = sha256.Sum256(slices.Concat(at.digest[:], allowed[:], offers[:], rules[:], c.key[:], closed, []byte(c.name)))
	at.containers = append(at.containers, c)
}

// of is the section of a container's name.
func (s *sections) of(name string) *section {
	return &s[crc32.ChecksumIEEE([]byte(name))%uint32(len(s))]
}

func (t *Table) allSections() *sections {
	if t == nil {
		return &sections{}
	}
	return &t.sections
}

// Changes compares what t allows with what before allowed, at a time. A nil
// Table allows nothing.
func (t *Table) Changes(before *Table, at time.Time) Changes {
	var out Changes
	for _, c := range CompareAccess(before, t, at) {
		list, count := &out.Revoked, &out.RevokedCount
		if c.Gains {
			list, count = &out.Granted, &out.GrantedCount
		}
		*count += len(c.Containers) + c.More
		if len(*list) < maxChanges {
			*list = append(*list, c.String())
		}
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
	var lines []string
	for _, g := range d.groups {
		if g.who().nobody() {
			continue
		}
		for _, c := range g.cells {
			if d.fallback == Allow || c.all || len(c.ports) > 0 {
				lines = append(lines, fmt.Sprintf("%x %s %s", g.like, c.program, c))
			}
		}
	}
	slices.Sort(lines)
	h := sha256.New()
	fmt.Fprintf(h, "%v\n%s", d.fallback, strings.Join(lines, "\n"))
	d.allows = Digest(h.Sum(nil))
	return d
}

func (d *document) digest() Digest {
	if d == nil {
		return Digest{}
	}
	return d.allows
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

// audit writes what a new table changes. One that follows an address, and
// changes nothing that anybody may, has no line.
func (p *Proxy) audit(t, before *Table) {
	if t == nil {
		if before != nil {
			p.log.Info("table", "revoked_count", before.Changes(nil, time.Time{}).GrantedCount, "why", "there is no table any more")
		}
		return
	}
	c := t.Changes(before, time.Now())
	if before != nil && before.version == t.version && c.GrantedCount == 0 && c.RevokedCount == 0 {
		return
	}
	p.log.Info("table", "commit", t.version,
		slog.Int("granted_count", c.GrantedCount), slog.Int("revoked_count", c.RevokedCount),
		slog.Any("granted", c.Granted), slog.Any("revoked", c.Revoked))
}
