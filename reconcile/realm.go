package reconcile

import (
	"slices"

	"swage/schema"
)

// InRealm reports whether a container belongs to a realm and to no other: by
// its own realm_ids, or where it has none by those of its project. Of two
// realms neither may change what is the other's, too.
func InRealm(f *schema.Fleet, realm, project, name string) bool {
	if f == nil {
		return false
	}
	_, ok := estate{f, realm}.containers()[project+"/"+name]
	return ok
}

// estate is what of a fleet belongs to one realm alone.
type estate struct {
	*schema.Fleet
	realm string
}

func (e estate) only(realms []string) bool {
	return len(realms) > 0 && !slices.ContainsFunc(realms, func(r string) bool { return r != e.realm })
}

func (e estate) container(p schema.Project, c schema.Container) bool {
	if len(c.RealmIDs) > 0 {
		return e.only(c.RealmIDs)
	}
	return e.only(p.RealmIDs)
}

// containers are those of the realm, by project/name.
func (e estate) containers() map[string]schema.Container {
	out := map[string]schema.Container{}
	for _, p := range e.Projects {
		for _, c := range p.Containers {
			if e.container(p, c) {
				out[p.Name+"/"+c.Name] = c
			}
		}
	}
	return out
}

// alias reports whether all that an alias leads to is the realm's.
func (e estate) alias(p schema.Project, a schema.Alias, own map[string]schema.Container) bool {
	targets := slices.Clone(a.Containers)
	for _, to := range a.Paths {
		targets = append(targets, to.Container)
	}
	return len(targets) > 0 && !slices.ContainsFunc(targets, func(name string) bool {
		_, ok := own[p.Name+"/"+name]
		return !ok
	})
}
