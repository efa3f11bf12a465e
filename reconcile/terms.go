package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"swage/runtime"
	"swage/schema"
)

// Terms are what a plan heeds beside the two states.
type Terms struct {
	Server string // that the plan is for
	// MaxDeletes is how many containers may go at once. A plan with more, or
	// one that would leave nothing of several, holds all of them.
	MaxDeletes int
	// Approved are containers whose deletion a person approved, ApprovedPlan
	// the id of a set of them, and Allowed those that the commits which take them
	// away allow to be deleted, by id or by project/name.
	Approved     map[runtime.ID]bool
	ApprovedPlan string
	Allowed      map[string]bool
	// ArchiveFor is how long what is deleted is kept as an archive; 0: not.
	ArchiveFor time.Duration
	// Now is the node's time. At the zero time no snapshot is due and nothing
	// expires.
	Now time.Time
	// Since is when a container was first seen with its schedule of snapshots;
	// those due before are not taken.
	Since map[runtime.ID]time.Time

	// Elsewhere holds the containers that the fleet declares on other
	// servers, by ID and by project/name: server. Such a one was not taken
	// away by its author; its server was changed, which cannot be.
	Elsewhere map[string]string
	// Unready holds the containers that lack something the fleet asks for,
	// by project/name: why. They are left as they are, or not made.
	Unready map[string]string
	// Making says how a container is made that is not plainly made from its
	// image, by project/name.
	Making map[string]Making
	// Quota is how many containers a project may have here; absent: any.
	Quota map[string]int
	// Maintenance makes nothing new.
	Maintenance bool
	// RolledBack are containers of a commit that was rolled back: they are not
	// deleted.
	RolledBack map[runtime.ID]bool
	// ReportDrift leaves alone what was changed behind swage's back.
	ReportDrift bool

	fleet *schema.Fleet // that the plan is for
	last  *schema.Fleet // applied last, with nothing left to do; nil: not known
}

// elsewhere is the server that the fleet declares a container on; empty: none,
// or this one.
func (t Terms) elsewhere(h runtime.Container) string {
	return cmp.Or(t.Elsewhere[string(h.ID)], t.Elsewhere[h.Ref()])
}

// declaredElsewhere is what the fleet asks of a container that it declares on
// another server.
func (t Terms) declaredElsewhere(h runtime.Container) (runtime.Container, bool) {
	if t.elsewhere(h) == "" || t.fleet == nil {
		return runtime.Container{}, false
	}
	d, ok := declaredAway(t.fleet, t.Server, h)
	if !ok {
		return runtime.Container{}, false
	}
	c := container(t.fleet, d.Project, d.Container)
	c.ID = h.ID
	return c, true
}

// declaredAway is what a fleet says of a container on another server than its
// own.
func declaredAway(f *schema.Fleet, server string, h runtime.Container) (Declaration, bool) {
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			if c.Server != server && (c.ID == string(h.ID) || c.ID == "" && p.Name == h.Project && c.Name == h.Name) {
				return Declaration{p, c}, true
			}
		}
	}
	return Declaration{}, false
}

// lastApplied is what was asked of a container when all of it was last done; not
// ok: that is not known.
func (t Terms) lastApplied(h runtime.Container) (runtime.Container, bool) {
	if t.last == nil || h.Applied == "" {
		return runtime.Container{}, false
	}
	d, ok := declaredIn(t.last, nil, t.Server, h)
	if !ok {
		return runtime.Container{}, false
	}
	was := container(t.last, d.Project, d.Container)
	was.ID = h.ID
	return was, was.Digest() == h.Applied
}

// Making is how a container comes to be.
type Making struct {
	Fresh   bool // ask the image server
	NoClaim bool // not from the warm pool
	Copy    *schema.CopyFrom
	// Adopt is the instance to take over; Found is what it is, or NotFound why
	// it cannot be told. A plan without a server at hand has neither.
	// Origin is the source of a copy on another server, and Found and NotFound
	// tell of it likewise.
	Origin   *runtime.Origin
	Adopt    string
	Found    *runtime.Container
	NotFound error
}

// TermsOf is what the fleet itself says of one server.
func TermsOf(f *schema.Fleet, server string) Terms {
	t := Terms{
		Server: server, fleet: f,
		MaxDeletes: f.MaxDeletes, ArchiveFor: time.Duration(f.ArchiveDays) * 24 * time.Hour, ReportDrift: f.ReportDrift,
		Maintenance: f.Servers[server].Maintenance,
		Elsewhere:   map[string]string{}, Unready: map[string]string{}, Making: map[string]Making{}, Quota: map[string]int{},
	}
	for _, p := range f.Projects {
		elsewhere := 0
		for _, c := range p.Containers {
			ref := p.Name + "/" + c.Name
			if c.Server != server {
				elsewhere++
				t.Elsewhere[ref] = c.Server
				if c.ID != "" {
					t.Elsewhere[c.ID] = c.Server
				}
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(c.Env)) {
				value, err := c.Env[name].Reveal(schema.Keys{})
				if err == nil {
					err = schema.CheckEnv(value)
				}
				if err != nil {
					t.Unready[ref] = fmt.Sprintf("environment_vars.%s: %v; it is read again when it changes, and by swage retry", name, err)
				}
			}
			m := Making{Fresh: !c.Cache, NoClaim: c.BypassPrespawn, Copy: c.CopyFrom, Adopt: c.Adopt}
			if from := c.CopyFrom; from != nil && from.Server != "" && from.Server != server {
				project := cmp.Or(from.Project, p.Name)
				m.Origin = &runtime.Origin{
					Peer:      runtime.Peer{Server: from.Server, Daemon: daemon(f.Servers[from.Server])},
					Container: project + "/" + from.Container, Archive: runtime.ID(from.Archive), Snapshot: from.Snapshot,
				}
			}
			if m != (Making{}) {
				t.Making[ref] = m
			}
		}
		if p.MaxContainers >= 0 {
			t.Quota[p.Name] = p.MaxContainers - elsewhere
		}
	}
	return t
}
