package reconcile

import (
	"slices"

	"swage/schema"
)

// revealed is the fleet with the environments that keys can read. A value that
// they cannot stays as it is: its container is then Unready.
func revealed(f *schema.Fleet, keys schema.Keys) *schema.Fleet {
	return eachSecret(f, func(s schema.Secret) schema.Secret {
		if value, err := s.Reveal(keys); err == nil {
			return schema.Plain(value)
		}
		return s
	})
}

// opaque is the fleet with values that can be compared and nothing else, where
// no key is at hand.
func opaque(f *schema.Fleet) *schema.Fleet {
	return eachSecret(f, func(s schema.Secret) schema.Secret { return schema.Plain(s.Opaque()) })
}

// eachSecret replaces the values of environments in a copy: a Fleet is never
// written after Load.
func eachSecret(f *schema.Fleet, replace func(schema.Secret) schema.Secret) *schema.Fleet {
	out := *f
	out.Projects = slices.Clone(f.Projects)
	for i := range out.Projects {
		p := &out.Projects[i]
		p.Containers = slices.Clone(p.Containers)
		for j := range p.Containers {
			env := make(map[string]schema.Secret, len(p.Containers[j].Env))
			for name, s := range p.Containers[j].Env {
				env[name] = replace(s)
			}
			p.Containers[j].Env = env
		}
	}
	return &out
}
