package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"swage/runtime"
	"swage/schema"
)

// Trespass judges a commit on top of another by Trespasses. Where there is none,
// own says which containers are the realm's, by project/name.
func (a *Agent) Trespass(ctx context.Context, realm string, before, after fs.FS, files []string) (own func(ref string) bool, err error) {
	state := a.state.Load()
	if state == nil {
		return nil, ErrNotObserved
	}
	turn := a.weighing.turn()
	defer turn.end()
	was, err := a.Loader.Trial(ctx, before, nil)
	if err != nil {
		return nil, fmt.Errorf("what the branch holds now cannot be read, and what is not known cannot be compared: %v", err) // no mistake of this push
	}
	is, err := a.Loader.Trial(ctx, after, turn.take)
	if err != nil {
		return nil, err
	}
	if found := Trespasses(realm, was, is, files, a.Server, state.State); len(found) > 0 {
		return nil, found
	}
	then, now := estate{was, realm}.containers(), estate{is, realm}.containers()
	return func(ref string) bool {
		_, ok := then[ref]
		if !ok {
			_, ok = now[ref]
		}
		return ok
	}, nil
}

// Trespasses are what a commit changes beside the objects of a realm, of all
// that lies between two fleets. Files are all paths that differ, below the
// fleet's folder; what lies outside of it begins with "../". The server is the
// one that is pushed to, and have is what runs there.
func Trespasses(realm string, before, after *schema.Fleet, files []string, server string, have runtime.State) schema.Problems {
	t := &trespass{
		realm: realm, server: server, have: have,
		before: estate{before, realm}, after: estate{after, realm},
	}
	t.was, t.is = t.before.containers(), t.after.containers()
	t.projects()
	t.quotas()
	t.containers()
	t.aliases()
	t.secrets()
	t.files(files)
	slices.SortStableFunc(t.found, func(a, b schema.Problem) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), a.Pos.Line-b.Pos.Line, a.Pos.Column-b.Pos.Column)
	})
	return slices.Compact(t.found)
}

type trespass struct {
	realm, server string
	before, after estate
	was, is       map[string]schema.Container // the realm's, by project/name
	have          runtime.State
	found         schema.Problems
}

func (t *trespass) say(at schema.Pos, path, format string, args ...any) {
	t.found = append(t.found, schema.Problem{Pos: at, Path: path, Message: fmt.Sprintf(format, args...)})
}

// foreign is said of what is not the realm's alone.
func (t *trespass) foreign(at schema.Pos, path string) {
	t.say(at, path, "does not belong to the realm %s alone, which this push is held to", t.realm)
}

// both lists two sets of declarations as pairs, by key in order. A nil is one
// that is not there.
func both[T any](before, after map[string]T, do func(key string, was, is *T)) {
	var keys []string
	for k := range before {
		keys = append(keys, k)
	}
	for k := range after {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		var was, is *T
		if x, ok := before[k]; ok {
			was = &x
		}
		if x, ok := after[k]; ok {
			is = &x
		}
		do(k, was, is)
	}
}

func projectsOf(f *schema.Fleet) map[string]schema.Project {
	out := map[string]schema.Project{}
	for _, p := range f.Projects {
		p.Containers, p.Aliases = nil, nil
		out[p.Name] = p
	}
	return out
}

func (t *trespass) projects() {
	both(projectsOf(t.before.Fleet), projectsOf(t.after.Fleet), func(name string, was, is *schema.Project) {
		path := "project " + name
		switch {
		case was != nil && is != nil && schema.Same(*was, *is):
		case was != nil && is != nil && !schema.Same(was.RealmIDs, is.RealmIDs):
			t.say(is.Pos, path, "its realm_ids cannot be changed by a push that is held to a realm")
		case was != nil && !t.before.only(was.RealmIDs):
			t.foreign(was.Pos, path)
		case is != nil && !t.after.only(is.RealmIDs):
			t.foreign(is.Pos, path)
		case is != nil && (was == nil || was.ID != is.ID):
			taken := func(p runtime.Project) bool {
				return p.Name == name && was == nil || is.ID != "" && string(p.ID) == is.ID && p.Name != name
			}
			if slices.ContainsFunc(t.have.Projects, taken) {
				t.say(is.Pos, path, "a project of this name or id is still on the server")
			}
		}
	})
}

// listed are containers with their projects.
type listed struct {
	schema.Container
	in schema.Project
}

func containersOf(f *schema.Fleet) map[string]listed {
	out := map[string]listed{}
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			out[p.Name+"/"+c.Name] = listed{c, p}
		}
	}
	return out
}

func (t *trespass) containers() {
	byID := map[string]string{} // before: key by id
	for key, c := range containersOf(t.before.Fleet) {
		byID[c.ID] = key
	}
	both(containersOf(t.before.Fleet), containersOf(t.after.Fleet), func(key string, was, is *listed) {
		path := "container " + key
		if was != nil && is != nil && schema.Same(was.Container, is.Container) {
			return
		}
		if was != nil {
			if _, ok := t.was[key]; !ok {
				t.foreign(cmp.Or(is, was).Pos, path)
				return
			}
		}
		if is == nil {
			return
		}
		if _, ok := t.is[key]; !ok {
			t.foreign(is.Pos, path)
			return
		}
		old := schema.Container{}
		if was != nil {
			old = was.Container
			if old.Server != is.Server {
				t.say(is.At("server"), path, "server cannot be changed")
			}
			if !schema.Same(old.RealmIDs, is.RealmIDs) {
				t.say(is.At("realm_ids"), path, "realm_ids cannot be changed by a push that is held to a realm")
			}
		} else {
			t.added(key, path, *is)
		}
		if is.ID != old.ID {
			t.takes(path, is.Container, byID)
		}
		if is.Adopt != "" && is.Adopt != old.Adopt {
			t.say(is.At("adopt"), path, "adopt takes over what belongs to nobody's realm")
		}
		if len(is.Publish) > 0 && !schema.Same(old.Publish, is.Publish) {
			t.say(is.At("publish"), path, "publish opens ports of the server, which belong to nobody's realm")
		}
		if from := is.CopyFrom; from != nil && !schema.Same(old.CopyFrom, from) {
			t.copies(path, *is, from)
		}
	})
}

// added judges the place that a new container takes.
func (t *trespass) added(key, path string, c listed) {
	if !slices.Contains(c.in.RealmIDs, t.realm) {
		t.say(c.Pos, path, "the project %s is not in the realm %s", c.in.Name, t.realm)
	}
	if c.Server != t.server { // what runs elsewhere is not known here
		t.say(c.At("server"), path, "a push that is held to a realm adds containers to the server %s only, which it goes to", t.server)
	}
	for _, h := range t.have.Containers {
		if h.Ref() == key && !t.before.only(h.Realms) {
			t.say(c.Pos, path, "a container of this name is still on the server")
		}
	}
}

// takes judges an id that a container did not have: it must be nobody's, or
// the realm's.
func (t *trespass) takes(path string, c schema.Container, byID map[string]string) {
	taken := false
	if key, ok := byID[c.ID]; ok && c.ID != "" {
		_, own := t.was[key]
		taken = !own
	}
	for _, h := range t.have.Containers {
		if _, own := t.was[h.Ref()]; string(h.ID) == c.ID && !own && !t.before.only(h.Realms) {
			taken = true
		}
	}
	taken = taken ||
		slices.ContainsFunc(t.have.Archives, func(a runtime.Archive) bool { return string(a.ID) == c.ID && !t.archive(a) }) ||
		slices.ContainsFunc(t.have.Spares, func(s runtime.Spare) bool { return string(s.ID) == c.ID && c.ID != "" })
	switch {
	case taken:
		t.say(c.At("id"), path, "the id %s is that of something else on the server", c.ID)
	case c.ID != "" && c.Server != t.server:
		t.say(c.At("id"), path, "a push that is held to a realm gives ids on the server %s only, which it goes to", t.server)
	}
}

// archive reports whether an archive of this server is the realm's, as its
// container was, or would be today.
func (t *trespass) archive(a runtime.Archive) bool {
	if len(a.Realms) > 0 {
		return t.before.only(a.Realms)
	}
	return slices.ContainsFunc(t.before.Projects, func(p schema.Project) bool { return p.Name == a.Project && t.before.only(p.RealmIDs) })
}

// copies judges where a copy comes from.
func (t *trespass) copies(path string, c listed, from *schema.CopyFrom) {
	key := cmp.Or(from.Project, c.in.Name) + "/" + from.Container
	source, ok := t.was[key]
	if !ok {
		source, ok = t.is[key]
	}
	if from.Archive != "" {
		ok = slices.ContainsFunc(t.have.Archives, func(a runtime.Archive) bool { return string(a.ID) == from.Archive && t.archive(a) })
		source.Server = t.server
	}
	if !ok || from.Server != "" && from.Server != source.Server {
		t.say(c.At("copy_from"), path, "its source is not a container of the realm %s", t.realm)
	}
}

func (t *trespass) aliases() {
	type listed struct {
		schema.Alias
		own bool
	}
	list := func(e estate, own map[string]schema.Container) map[string]listed {
		out := map[string]listed{}
		for _, p := range e.Projects {
			for _, a := range p.Aliases {
				out[p.Name+"/"+a.Name] = listed{a, e.alias(p, a, own)}
			}
		}
		return out
	}
	both(list(t.before, t.was), list(t.after, t.is), func(key string, was, is *listed) {
		if was != nil && is != nil && schema.Same(was.Alias, is.Alias) {
			return
		}
		if was != nil && !was.own || is != nil && !is.own {
			t.foreign(cmp.Or(is, was).Pos, "alias "+key)
		}
	})
}

// files refuses those in which nothing of the realm stands. What else stands
// in the others was compared.
func (t *trespass) files(changed []string) {
	own := map[string]bool{}
	for _, f := range []estate{t.before, t.after} {
		containers := f.containers()
		for _, p := range f.Projects {
			for _, c := range p.Containers {
				own[c.Pos.File] = own[c.Pos.File] || f.container(p, c)
			}
			for _, a := range p.Aliases {
				own[a.Pos.File] = own[a.Pos.File] || f.alias(p, a, containers)
			}
		}
	}
	was, is := projectsOf(t.before.Fleet), projectsOf(t.after.Fleet)
	for _, name := range changed {
		rest, inProjects := strings.CutPrefix(name, "projects/")
		project, _, inside := strings.Cut(rest, "/")
		old, had := was[project]
		now, has := is[project]
		whole := inProjects && inside && (had || has) &&
			(!had || t.before.only(old.RealmIDs)) && (!has || t.after.only(now.RealmIDs))
		hidden := strings.HasPrefix(rest, ".") || strings.Contains(rest, "/.")
		said := slices.ContainsFunc(t.found, func(p schema.Problem) bool { return p.Pos.File == name })
		if !said && (!inProjects || hidden || !whole && !own[name]) {
			t.say(schema.Pos{File: path.Clean(name)}, "", "holds nothing of the realm %s, which this push is held to", t.realm)
		}
	}
}
