package schema

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (r *resolver) container(f *Fleet, p *Project, shared *document, d declared[rawContainer]) Container {
	raw := d.raw
	c := Container{
		Pos: d.label, own: d.spot, Name: d.name, ID: raw.ID, Image: raw.ContainerImage, Kit: raw.Kit,
		Env: raw.EnvironmentVars, PublicKey: raw.SSHPublicKey, AuthorizedKeys: raw.SSHAuthorizedKeys,
		Color: raw.Color, Comment: raw.Comment, Autostart: raw.Autostart, AI: raw.AI, Cache: raw.Cache,
		BypassPrespawn: raw.BypassPrespawn, Ramdisk: raw.Ramdisk, RealmIDs: raw.RealmIDs, State: raw.State,
		ProxyOpen: true, CPU: raw.Resources.CPU, Memory: size(raw.Resources.Memory), Disk: size(raw.Resources.Disk), Processes: raw.Resources.Processes,
		Publish: raw.Publish, DependsOn: raw.DependsOn, Protected: raw.Protected, Adopt: raw.Adopt,
		Snapshots: Snapshots{raw.Snapshots.Schedule, time.Duration(raw.Snapshots.Expiry) * 24 * time.Hour, raw.Snapshots.Keep},
		CopyFrom:  raw.CopyFrom,
	}
	for _, open := range []*bool{p.EnableProxy, raw.EnableProxy} {
		if open != nil {
			c.ProxyOpen = *open
		}
	}
	c.StaysOpen = c.ProxyOpen && p.EnableProxy != nil && !*p.EnableProxy
	if c.Image == "" && r.swage != nil {
		c.Image = r.swage.raw.ContainerImage
	}
	if d.broken {
		// Its name and server still count, so that others can refer to it.
		c.Kit, c.AI, c.broken = true, true, true
		if v := d.v.get("server"); v != nil && v.Kind == isText {
			c.Server = v.Text
		} else if len(f.Servers) == 1 {
			c.Server = slices.Collect(maps.Keys(f.Servers))[0]
		}
		return c
	}
	c.Server = r.placeOf(f, d)
	if c.ID != "" {
		r.unique("id", c.ID, d.in("id"), "the id %s is used twice", c.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		if e := c.Env[name]; e.form == plainSecret && len(e.text) > maxEnv {
			r.add(d.in("environment_vars", name), "has %d bytes; a value may have 32768", len(e.text))
		}
	}
	r.keys(d)
	r.checkRealms(p, d)
	if raw.Kit {
		c.Programs = r.containerPrograms(d.in("programs"), raw.Programs).entries
	} else {
		r.plainLinux(d)
	}
	c.Permissions = r.containerPermissions(p, shared, &c, d)
	c.Firewall = r.firewall(d)
	r.hostPorts(&c, d)
	r.snapshots(d)
	if c.CopyFrom != nil && c.Adopt != "" {
		r.add(d.in("adopt"), "stands beside copy_from; want one of the two")
	}
	if c.Adopt != "" {
		r.unique("adopted instance", c.Server+" "+c.Adopt, d.in("adopt"), "%s is adopted twice", c.Adopt)
	}
	c.Health = r.health(&c, d)
	if l := r.perServer[c.Server]; l != nil {
		l.containers++
		l.memory += c.Memory
		if c.Memory == 0 && !d.broken {
			l.unlimited = append(l.unlimited, spot{d.label, d.path + ".resources.memory", nil})
		}
	}
	return c
}

// programs is the catalogue of the container.
func (c *Container) programs(r *resolver) *programs {
	if c.Programs == nil {
		return r.fleetPrograms
	}
	return &programs{c.Programs, r.fleetPrograms.names}
}

// placeOf resolves the server of a container; a fleet of one needs no name.
func (r *resolver) placeOf(f *Fleet, d declared[rawContainer]) string {
	name := d.raw.Server
	if _, ok := f.Servers[name]; ok {
		return name
	}
	known := slices.Sorted(maps.Keys(f.Servers))
	switch {
	case name == "" && len(known) == 1:
		return known[0]
	case r.unread || len(known) == 0:
	case name == "":
		r.add(d.in("server"), "is missing; this fleet has %s", strings.Join(known, ", "))
	default:
		r.add(d.in("server"), "there is no server %q%s", name, r.suggest(name, slices.Values(known)))
	}
	return name
}

// keys holds SSH keys to their format, and a container's own to being its own.
func (r *resolver) keys(d declared[rawContainer]) {
	if key := d.raw.SSHPublicKey; key != "" {
		at := d.in("ssh_public_key")
		if print, err := fingerprint(key); err != nil {
			r.add(at, "%v", err)
		} else {
			r.unique("key", print, at, "the key %s is used twice; a container's own key is its alone, keys of people go to ssh_authorized_keys", print)
		}
	}
	for i, key := range d.raw.SSHAuthorizedKeys {
		if _, err := fingerprint(key); err != nil {
			r.add(d.in("ssh_authorized_keys", i), "%v", err)
		}
	}
}

func (r *resolver) checkRealms(p *Project, d declared[rawContainer]) {
	if len(p.RealmIDs) == 0 {
		return
	}
	for i, id := range d.raw.RealmIDs {
		if !r.realms[id] {
			r.add(d.in("realm_ids", i), "the project is not in the realm %s; its realm_ids are %s", id, cut(strings.Join(p.RealmIDs, ", ")))
		}
	}
}

// plainLinux refuses what only the kit can do.
func (r *resolver) plainLinux(d declared[rawContainer]) {
	for _, name := range slices.Sorted(maps.Keys(d.raw.Programs)) {
		r.add(d.in("programs").label(name), "with kit: false the only program is ssh; take this entry away or set kit: true")
	}
	if d.raw.SSHPublicKey == "" && len(d.raw.SSHAuthorizedKeys) == 0 {
		r.warn(spot{d.label, d.path, nil}, "cannot be reached: it has kit: false, and neither ssh_public_key nor ssh_authorized_keys")
	}
}

// hostPorts takes the ports of the host that lead to the container.
func (r *resolver) hostPorts(c *Container, d declared[rawContainer]) {
	for i, p := range c.Publish {
		at := d.in("publish", i, "listen")
		host := strings.Trim(p.Listen[:strings.LastIndexByte(p.Listen, ':')], "[]")
		if addr, err := netip.ParseAddr(host); host == "localhost" || err == nil && addr.Unmap().IsLoopback() {
			r.add(at, "found %q, where nothing outside the host arrives; want an address of the host that others reach, or none for all of them", p.Listen)
			continue
		}
		r.listen(r.perServer[c.Server], at, p.Listen, p.Protocol, "container "+c.Name)
	}
}

// minInterval bounds how often one container can have the server check it.
const minInterval = 50 * time.Millisecond

func (r *resolver) health(c *Container, d declared[rawContainer]) *Health {
	raw := d.raw.Health
	if raw == nil {
		return nil
	}
	at := d.in("health")
	h := &Health{
		Path: raw.Path, HealthyAfter: raw.HealthyAfter,
		Interval: duration(raw.Interval), Timeout: duration(raw.Timeout), Deadline: duration(raw.Deadline),
	}
	h.Program, h.Port, h.Index = r.target(at, c, raw.Program, raw.Port, raw.Index)
	for name, span := range map[string]time.Duration{"interval": h.Interval, "timeout": h.Timeout, "deadline": h.Deadline} {
		if span <= 0 {
			r.add(at.in(name), noSpan)
		}
	}
	if h.Interval > 0 && h.Interval < minInterval {
		r.add(at.in("interval"), "found %q, want at least %s: the server makes all checks of all containers itself", raw.Interval, minInterval)
	}
	if need := h.Interval * time.Duration(h.HealthyAfter-1); h.Deadline > 0 && h.Deadline < need {
		r.add(at.in("deadline"), "is over before %d checks every %s can pass; want more than %s", h.HealthyAfter, raw.Interval, need)
	}
	return h
}

// dependencies resolves depends_on and refuses circles.
func (r *resolver) dependencies(p *Project, byName map[string]*Container) {
	next := map[string][]string{}
	for i := range p.Containers {
		c := &p.Containers[i]
		for j, name := range c.DependsOn {
			if r.full() {
				return
			}
			switch at := c.own.in("depends_on", j); {
			case name == c.Name:
				r.add(at, "a container cannot wait for itself")
			case byName[name] == nil && !r.unread:
				r.add(at, "project %s has no container %q%s", p.Name, name, r.suggest(name, maps.Keys(byName)))
			default:
				next[c.Name] = append(next[c.Name], name)
				if other := byName[name]; other != nil && c.State == "running" && other.State != "running" {
					r.add(at, "%s is kept %s, so %s could never start; change the state of one of them, or take this away", name, other.State, c.Name)
				}
			}
		}
	}
	for _, circle := range circles(next) {
		r.add(byName[circle[0]].own.in("depends_on"), "each of these waits for the next: %s; break the circle", strings.Join(append(circle, circle[0]), " → "))
	}
}

// copies refuses circles of copy_from. A source that is not there is none of
// its business: it is read at creation only.
func (r *resolver) copies(f *Fleet) {
	next, at := map[string][]string{}, map[string]spot{}
	for _, p := range f.Projects {
		for i := range p.Containers {
			c := &p.Containers[i]
			if c.CopyFrom == nil || c.CopyFrom.Container == "" {
				continue
			}
			from := c.CopyFrom.Project
			if from == "" {
				from = p.Name
			}
			key := p.Name + "/" + c.Name
			next[key] = []string{from + "/" + c.CopyFrom.Container}
			at[key] = c.own.in("copy_from")
		}
	}
	for _, circle := range circles(next) {
		r.add(at[circle[0]], "each of these is a copy of the next: %s; one of them needs an image", strings.Join(append(circle, circle[0]), " → "))
	}
}

// maxCircles are told of a graph, which may have more than anybody can count.
const maxCircles = 20

// circles finds the circles of a graph, each once, beginning at its first
// name.
func circles(next map[string][]string) [][]string {
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var found [][]string
	var visit func(string)
	visit = func(name string) {
		switch state[name] {
		case done:
			return
		case visiting:
			if len(found) < maxCircles {
				found = append(found, slices.Clone(path[slices.Index(path, name):]))
			}
			return
		}
		state[name] = visiting
		path = append(path, name)
		for _, n := range next[name] {
			visit(n)
		}
		path = path[:len(path)-1]
		state[name] = done
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		visit(name)
	}
	return found
}

// snapshots holds a schedule to what cron understands.
func (r *resolver) snapshots(d declared[rawContainer]) {
	schedule := d.raw.Snapshots.Schedule
	if schedule == "" || strings.HasPrefix(schedule, "@") {
		return
	}
	at := d.in("snapshots", "schedule")
	for i, field := range strings.Fields(schedule) {
		f := cronFields[i]
		for part := range strings.SplitSeq(field, ",") {
			if !f.accepts(part) {
				r.add(at, "found %q for the %s, want %d to %d, *, a range or a step, as in \"30 3 * * *\"", part, f.name, f.from, f.to)
			}
		}
	}
}

type cronField struct {
	name     string
	from, to int
	words    []string
}

var cronFields = []cronField{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 6, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

func (f cronField) accepts(part string) bool {
	rng, step, stepped := strings.Cut(part, "/")
	if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1) {
		return false
	}
	if rng == "*" {
		return true
	}
	from, to, isRange := strings.Cut(rng, "-")
	a, okA := f.number(from)
	b, okB := f.number(to)
	return okA && (!isRange || okB && a <= b)
}

func (f cronField) number(s string) (int, bool) {
	if i := slices.Index(f.words, strings.ToLower(s)); i >= 0 {
		return i + f.from, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= f.from && n <= f.to
}
