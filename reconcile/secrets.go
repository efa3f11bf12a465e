package reconcile

import (
	"crypto/rand"
	"errors"
	"maps"
	"slices"

	"swage/schema"
)

// revealed is the fleet with the environments that keys can read. A value that
// they cannot stays as it is, with the reason: its container is then Unready.
func revealed(f *schema.Fleet, keys schema.Keys) *schema.Fleet {
	return eachSecret(f, func(s schema.Secret) schema.Secret {
		value, err := s.Reveal(keys)
		if err != nil {
			return s.Unreadable(err)
		}
		return s.Resolved(value)
	})
}

// opaque is the fleet with values that can be compared and nothing else, where
// no key is at hand.
func opaque(f *schema.Fleet) *schema.Fleet {
	return eachSecret(f, func(s schema.Secret) schema.Secret { return schema.Plain(s.Opaque()) })
}

// unresolved is a fleet for a plan: no secret of it is resolved. A variable
// that is declared as the fleet in force declares it has the value that it has
// there. Any other has one that nothing has, so that a plan says that it
// changes and confirms nobody's guess of what is stored.
func unresolved(f, inForce *schema.Fleet, server string) *schema.Fleet {
	known := map[string]map[string]schema.Secret{} // by id and by project/name
	if inForce != nil {
		for _, p := range inForce.Projects {
			for _, c := range p.Containers {
				if c.Server != server {
					continue
				}
				known[p.Name+"/"+c.Name] = c.Env
				if c.ID != "" {
					known[c.ID] = c.Env
				}
			}
		}
	}
	other := schema.Plain("unknown " + rand.Text())
	return eachContainer(f, func(p schema.Project, c schema.Container) map[string]schema.Secret {
		was, ok := known[c.ID]
		if !ok || c.ID == "" {
			was = known[p.Name+"/"+c.Name]
		}
		env := make(map[string]schema.Secret, len(c.Env))
		for name, s := range c.Env {
			env[name] = other
			if old, ok := was[name]; ok && old.Opaque() == s.Opaque() {
				env[name] = old
			}
		}
		return env
	})
}

// eachSecret replaces the values of environments in a copy: a Fleet is never
// written after Load.
func eachSecret(f *schema.Fleet, replace func(schema.Secret) schema.Secret) *schema.Fleet {
	return eachContainer(f, func(_ schema.Project, c schema.Container) map[string]schema.Secret {
		env := make(map[string]schema.Secret, len(c.Env))
		for name, s := range c.Env {
			env[name] = replace(s)
		}
		return env
	})
}

// eachContainer replaces environments in a copy.
func eachContainer(f *schema.Fleet, env func(schema.Project, schema.Container) map[string]schema.Secret) *schema.Fleet {
	out := *f
	out.Projects = slices.Clone(f.Projects)
	for i := range out.Projects {
		p := &out.Projects[i]
		p.Containers = slices.Clone(p.Containers)
		for j := range p.Containers {
			p.Containers[j].Env = env(*p, p.Containers[j])
		}
	}
	return &out
}

// revealGroups replaces the secrets of permissions by what keys read, in a
// copy, and calls lost with each that they cannot. Containers that shared a
// document share its copy.
func revealGroups(f *schema.Fleet, keys schema.Keys, lost func(at schema.Pos, group string, err error)) *schema.Fleet {
	out := *f
	out.Projects = slices.Clone(f.Projects)
	done := map[*schema.Permissions]*schema.Permissions{nil: nil}
	copied := func(p *schema.Permissions) *schema.Permissions {
		if c, ok := done[p]; ok {
			return c
		}
		c := *p
		c.Groups = make(map[string]schema.Group, len(p.Groups))
		for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
			g, err := revealGroup(p.Groups[name], keys)
			if err != nil {
				lost(g.Pos, name, err)
			}
			c.Groups[name] = g
		}
		done[p] = &c
		return &c
	}
	for i := range out.Projects {
		p := &out.Projects[i]
		p.Permissions = copied(p.Permissions)
		p.Containers = slices.Clone(p.Containers)
		for j := range p.Containers {
			p.Containers[j].Permissions = copied(p.Containers[j].Permissions)
		}
	}
	return &out
}

// revealGroup returns a group with its secrets revealed. One that cannot be is
// lost: the group then matches nobody.
func revealGroup(g schema.Group, keys schema.Keys) (schema.Group, error) {
	var failed error
	reveal := func(s schema.Secret, check func(string) error) schema.Secret {
		if s.IsZero() {
			return s
		}
		value, err := s.Reveal(keys)
		if err == nil {
			err = check(value)
		}
		if err != nil {
			failed = err
			return s.Lost()
		}
		return s.Resolved(value)
	}
	known := func(value string) error {
		if value == "" {
			return errors.New("the secret is empty, so that nobody would need to know it")
		}
		return nil
	}
	switch {
	case g.Password != nil:
		p := *g.Password
		p.Hash = reveal(p.Hash, schema.CheckHash)
		g.Password = &p
	case g.Token != nil:
		t := *g.Token
		t.Value = reveal(t.Value, known)
		g.Token = &t
	case g.JWT != nil:
		j := *g.JWT
		j.Secret = reveal(j.Secret, known)
		g.JWT = &j
	}
	if len(g.All) > 0 {
		g.All = slices.Clone(g.All)
		for i := range g.All {
			member, err := revealGroup(g.All[i], keys)
			g.All[i] = member
			if err != nil {
				failed = err
			}
		}
	}
	return g, failed
}
