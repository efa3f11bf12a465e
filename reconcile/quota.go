package reconcile

import (
	"swage/schema"
)

// quotas refuses what would give a realm more of the server than whoever runs
// the fleet gave it: no project of the realm may have more containers or more
// instances of the warm pool than before, and neither may all of them together,
// so that a new project takes from the others. A project without max_containers
// has no limit; a realm that has one may make others like it.
func (t *trespass) quotas() {
	was, is := t.before.quotas(), t.after.quotas()
	both(was.of, is.of, func(name string, was, is *quota) {
		if was == nil || is == nil {
			return
		}
		path := "project " + name
		if was.less(*is) {
			t.say(is.at, path, "max_containers cannot be raised or left out by a push that is held to a realm; it is %d", was.containers)
		}
		if is.spares > was.spares {
			t.say(is.at, path, "prespawn cannot be raised by a push that is held to a realm; the counts add up to %d", was.spares)
		}
	})
	if len(t.found) > 0 {
		return
	}
	for name, q := range is.of {
		if _, known := was.of[name]; known {
			continue
		}
		if was.all.less(is.all) {
			t.say(q.at, "project "+name, "the projects of the realm may have %d containers by their max_containers, and a push that is held to a realm cannot give it more", was.all.containers)
		}
		if is.all.spares > was.all.spares {
			t.say(q.at, "project "+name, "the prespawn of the realm's projects adds up to %d, and a push that is held to a realm cannot give it more", was.all.spares)
		}
	}
}

// quota is what projects may have. The zero quota has nothing.
type quota struct {
	at         schema.Pos
	unlimited  bool
	containers int // unless unlimited
	spares     int
}

// less reports whether other may have more containers.
func (q quota) less(other quota) bool {
	return !q.unlimited && (other.unlimited || other.containers > q.containers)
}

// quotas are those of the projects that are a realm's alone.
type quotas struct {
	of  map[string]quota
	all quota
}

func (e estate) quotas() quotas {
	out := quotas{of: map[string]quota{}}
	for _, p := range e.Projects {
		if !e.only(p.RealmIDs) {
			continue
		}
		q := quota{at: p.Pos, unlimited: p.MaxContainers < 0, containers: max(0, p.MaxContainers)}
		for _, s := range p.Prespawn {
			q.spares += s.Count
		}
		out.of[p.Name] = q
		out.all.unlimited = out.all.unlimited || q.unlimited
		out.all.containers += q.containers
		out.all.spares += q.spares
	}
	return out
}
