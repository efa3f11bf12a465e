package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is a permissions document on its way: what it came to, and where
// its parts were written, for the warnings.
type document struct {
	at    spot
	raw   *rawPermissions
	doc   *Permissions
	scope scope
	used  map[string]bool // groups that some cell or all names
}

// scope is what a document may speak of.
type scope struct {
	programs *programs
	plain    bool // a container without the kit, whose only program is ssh
	page     bool // the status page, whose only program is http
}

// projectPermissions is the document of a project; nil when it has none.
func (r *resolver) projectPermissions(d *declared[rawPermissions]) *document {
	if d == nil || d.broken {
		return nil
	}
	if d.raw.Inherit {
		r.warn(d.in("inherit"), "means nothing here: a project's permissions have nothing to inherit")
	}
	return r.document(d, nil, scope{programs: r.fleetPrograms})
}

// containerPermissions is the document that applies to a container [P1].
func (r *resolver) containerPermissions(p *Project, shared *document, c *Container, d declared[rawContainer]) *Permissions {
	raw := d.raw.Permissions
	if raw == nil {
		return p.Permissions
	}
	own := &declared[rawPermissions]{spot: d.in("permissions"), raw: *raw}
	if !raw.Inherit {
		shared = nil
	}
	doc := r.document(own, shared, scope{programs: c.programs(r), plain: !c.Kit})
	r.judge(doc)
	return doc.doc
}

// mergedWeight is about what a group or a cell takes that inherit copies.
const mergedWeight = 400

// maxMerged bounds those copies, in the whole fleet, by what is left of the
// memory for it, and by a quarter of that where little is.
func maxMerged(limit, loaded int64) int {
	return int(max(limit-loaded, limit/4) / mergedWeight)
}

// document reads one document. With a base it is merged into that one: groups
// by name, cells by group and program, its own winning.
func (r *resolver) document(d *declared[rawPermissions], base *document, s scope) *document {
	out := &document{at: d.spot, raw: &d.raw, scope: s, used: map[string]bool{}, doc: &Permissions{
		Pos:          d.in("default").pos,
		DefaultAllow: d.raw.Default == "allow",
		Groups:       map[string]Group{},
		Cells:        map[string]map[string]Cell{},
	}}
	if base != nil {
		told := r.merged > r.maxMerged
		r.merged += base.size()
		if r.merged > r.maxMerged {
			if !told {
				r.add(d.in("inherit"), "the documents that containers inherit come to more than %d groups and cells in all; inherit less, or raise loaded_bytes in the node file", r.maxMerged)
			}
			return out
		}
		maps.Copy(out.doc.Groups, base.doc.Groups)
		for group, cells := range base.doc.Cells {
			out.doc.Cells[group] = maps.Clone(cells)
		}
		if d.raw.Default == "" {
			out.doc.DefaultAllow = base.doc.DefaultAllow
		}
	}
	r.groups(out)
	known := slices.Sorted(maps.Keys(out.doc.Groups))
	for _, group := range slices.Sorted(maps.Keys(d.raw.Permissions)) {
		at := d.in("permissions", group)
		if _, ok := out.doc.Groups[group]; !ok && d.raw.Inherit && r.baseBroken {
			continue
		} else if !ok {
			r.add(d.in("permissions").label(group), "there is no group %q%s", group, r.suggest(group, slices.Values(known)))
			continue
		}
		out.used[group] = true
		if base != nil {
			base.used[group] = true
		}
		r.cells(out, group, at)
	}
	return out
}

// size is how many groups and cells a document has.
func (d *document) size() int {
	n := len(d.doc.Groups)
	for _, cells := range d.doc.Cells {
		n += len(cells)
	}
	return n
}

func (r *resolver) groups(d *document) {
	names := slices.Sorted(maps.Keys(d.raw.Groups))
	for _, name := range names {
		if raw := d.raw.Groups[name]; raw.Type != "" {
			g := r.group(d.at.in("groups", name), raw)
			g.Pos = d.at.in("groups").label(name).pos
			d.doc.Groups[name] = g
		} else {
			d.doc.Groups[name] = Group{} // an all, which follows
		}
	}
	for _, name := range names {
		raw := d.raw.Groups[name]
		if raw.Type != "" {
			continue
		}
		at := d.at.in("groups", name, "all")
		if len(raw.All) == 0 {
			r.add(at, "is empty; want two groups or more")
		}
		g := Group{Pos: d.at.in("groups").label(name).pos}
		for i, m := range raw.All {
			at := at.in(i)
			if m.name == "" {
				g.All = append(g.All, r.group(at, m.group))
				continue
			}
			d.used[m.name] = true
			member, ok := d.doc.Groups[m.name]
			other, here := d.raw.Groups[m.name]
			switch {
			case !ok && d.raw.Inherit && r.baseBroken:
			case !ok:
				r.add(at, "there is no group %q%s", m.name, r.suggest(m.name, maps.Keys(d.doc.Groups)))
			case here && other.Type == "", len(member.All) > 0:
				r.add(at, "group %q is an all itself; name its groups here", m.name)
			}
			g.All = append(g.All, member)
		}
		d.doc.Groups[name] = g
	}
}

func (r *resolver) group(at spot, raw rawGroup) Group {
	switch raw.Type {
	case "ip":
		var g Group
		if raw.Range != "" {
			g.Ranges = append(g.Ranges, r.prefix(at.in("range"), raw.Range))
		}
		for i, s := range raw.Ranges {
			g.Ranges = append(g.Ranges, r.prefix(at.in("ranges", i), s))
		}
		if len(g.Ranges) == 0 {
			r.add(at, "names no network; want range or ranges")
		}
		return g
	case "password":
		r.hash(at.in("hash"), raw.Hash)
		return Group{Password: &Password{raw.Username, raw.Hash}}
	case "token":
		r.exactlyOne(at, "header", "cookie", "param")
		r.oneValue(at, raw.Value, "value", "value_sha256")
		return Group{Token: &TokenGroup{raw.Header, raw.Cookie, raw.Param, raw.Value, raw.ValueSHA256}}
	}
	return Group{JWT: r.jwt(at, raw)}
}

// exactlyOne says which of some fields are there when it is not one of them.
func (r *resolver) exactlyOne(at spot, names ...string) {
	var there []string
	for _, name := range names {
		if at.v.get(name) != nil {
			there = append(there, name)
		}
	}
	switch len(there) {
	case 0:
		r.add(at, "is incomplete; want exactly one of %s", strings.Join(names, ", "))
	case 1:
	default:
		r.add(at.in(there[1]), "stands beside %s; want exactly one of %s", there[0], strings.Join(names, ", "))
	}
}

func (r *resolver) oneValue(at spot, value Secret, names ...string) {
	r.exactlyOne(at, names...)
	if value.form == plainSecret && value.text == "" && at.v.get("value") != nil {
		r.add(at.in("value"), "is empty, so that nobody would need to know it")
	}
}

func (r *resolver) jwt(at spot, raw rawGroup) *JWT {
	j := &JWT{
		Algorithm: raw.Algorithm, Secret: raw.Secret, PublicKey: raw.PublicKey, JWKSURL: raw.JWKSURL,
		Sources: raw.Sources, Issuer: raw.Issuer, Audience: raw.Audience, Claims: map[string][]any{},
	}
	r.exactlyOne(at, "secret", "public_key", "jwks_url")
	switch shared := strings.HasPrefix(raw.Algorithm, "HS"); {
	case shared && raw.Secret.IsZero() && (raw.PublicKey != "" || raw.JWKSURL != ""):
		r.add(at.in("algorithm"), "%s signs with a secret; want secret instead of a public key", raw.Algorithm)
	case !shared && !raw.Secret.IsZero():
		r.add(at.in("secret"), "%s signs with a private key; want public_key or jwks_url instead of secret", raw.Algorithm)
	}
	if len(j.Sources) == 0 {
		j.Sources = []JWTSource{{Header: "Authorization"}}
	}
	for name, v := range raw.Claims {
		if list, ok := v.([]any); ok {
			j.Claims[name] = list
			if len(list) == 0 {
				r.add(at.in("claims", name), "is an empty list, which no token can meet; want a value")
			}
			continue
		}
		j.Claims[name] = []any{v}
	}
	return j
}

func (r *resolver) cells(d *document, group string, at spot) {
	cells := d.doc.Cells[group]
	if cells == nil {
		cells = map[string]Cell{}
		d.doc.Cells[group] = cells
	}
	named := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d.raw.Permissions[group])) {
		label := at.label(name)
		label.v = nil
		key, e, ok := d.scope.programs.find(name)
		switch {
		case slices.Contains(notInCatalogue, name):
			key, ok = name, true
		case !ok && r.programsUnread():
			continue
		case !ok:
			r.add(label, "there is no program %q%s", name, r.suggest(name, slices.Values(d.scope.programs.known(notInCatalogue...))))
			continue
		}
		switch {
		case d.scope.plain && key != "ssh":
			r.add(label, "the container has kit: false, so its only program is ssh; take %s away", name)
		case d.scope.page && key != "http":
			r.add(label, "the program of the status page is http")
		}
		if other, ok := named[key]; ok {
			r.add(label, "%s and %s are names of the same program; keep one", other, name)
		}
		named[key] = name
		c := r.cell(at.in(name), key, e, d.raw.Permissions[group][name])
		c.Pos = label.pos
		cells[key] = c
	}
}

var everyPort = PortRange{1, 65535}

// cell reads a cell that the schema let pass.
func (r *resolver) cell(at spot, program string, e Program, v any) Cell {
	m, ok := v.(map[string]any)
	if !ok {
		return Cell{Ports: r.numbers(at, v)}
	}
	c := Cell{Ports: r.numbers(at.in("instances"), m["instances"])}
	c.Level, _ = m["level"].(string)
	switch {
	case len(e.Levels) == 0:
		r.add(at.in("level"), "%s has no levels; want true, false, \"*\", numbers or a range", program)
	case !slices.Contains(e.Levels, c.Level):
		near := ""
		if name, ok := nearest(c.Level, e.Levels); ok {
			near = fmt.Sprintf("; did you mean %q?", name)
		}
		r.add(at.in("level"), "found %q, want %s, from the least to the full one%s", c.Level, quoted(e.Levels), near)
	case c.Level == e.Levels[len(e.Levels)-1]:
		c.Level = "" // the full one, however it is said
	}
	return c
}

func (r *resolver) numbers(at spot, v any) []PortRange {
	switch v := v.(type) {
	case bool:
		if v {
			return []PortRange{everyPort}
		}
	case float64:
		return []PortRange{{uint16(v), uint16(v)}}
	case string:
		if v == "*" {
			return []PortRange{everyPort}
		}
		p, ok := portRange(v)
		if !ok {
			r.add(at, "found %q, want a range from low to high within 1 to 65535, as in \"8000-8100\"", v)
		}
		return []PortRange{p}
	case []any:
		var all []PortRange
		for i, item := range v {
			all = append(all, r.numbers(at.in(i), item)...)
		}
		return all
	}
	return nil
}

// UnmarshalJSON reads the name of a group, or a group in place.
func (m *rawMember) UnmarshalJSON(src []byte) error {
	if json.Unmarshal(src, &m.name) == nil {
		return nil
	}
	return json.Unmarshal(src, &m.group)
}
