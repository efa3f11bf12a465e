package reconcile

import "swage/schema"

// secrets refuses values that the node has to read, unless the realm has them
// already: nothing tells whose they are, and a container shows its environment
// to those who may use it. Permissions only compare: of theirs, those of the
// project count as the realm's, too.
func (t *trespass) secrets() {
	known, compared := map[schema.Secret]bool{}, map[string]map[schema.Secret]bool{}
	for _, p := range t.before.Projects {
		compared[p.Name] = map[schema.Secret]bool{}
		note := func(s schema.Secret) { compared[p.Name][s] = true }
		eachOnNode(nil, p.Permissions, note)
		for _, c := range p.Containers {
			if t.before.container(p, c) {
				eachOnNode(c.Env, nil, func(s schema.Secret) { known[s] = true })
				eachOnNode(nil, c.Permissions, note)
			}
		}
	}
	borrowed := func(at schema.Pos, path string) {
		t.say(at, path, "a secret that the server reads or decrypts cannot come with a push that is held to a realm, since nothing tells whose it is; write it plainly, or have somebody add it who is not held to one")
	}
	for _, p := range t.after.Projects {
		judge := func(doc *schema.Permissions, at schema.Pos, path string) {
			eachOnNode(nil, doc, func(s schema.Secret) {
				if !known[s] && !compared[p.Name][s] {
					borrowed(at, path)
				}
			})
		}
		if t.after.only(p.RealmIDs) {
			judge(p.Permissions, p.Pos, "project "+p.Name)
		}
		for _, c := range p.Containers {
			if !t.after.container(p, c) {
				continue
			}
			path := "container " + p.Name + "/" + c.Name
			eachOnNode(c.Env, nil, func(s schema.Secret) {
				if !known[s] {
					borrowed(c.At("environment_vars"), path)
				}
			})
			if c.Permissions != p.Permissions {
				judge(c.Permissions, c.At("permissions"), path)
			}
		}
	}
}

// eachOnNode calls do for every secret that only a node reads.
func eachOnNode(env map[string]schema.Secret, p *schema.Permissions, do func(schema.Secret)) {
	one := func(s schema.Secret) {
		if s.OnNode() {
			do(s)
		}
	}
	for _, s := range env {
		one(s)
	}
	if p == nil {
		return
	}
	var group func(schema.Group)
	group = func(g schema.Group) {
		if g.Password != nil {
			one(g.Password.Hash)
		}
		if g.Token != nil {
			one(g.Token.Value)
		}
		if g.JWT != nil {
			one(g.JWT.Secret)
		}
		for _, part := range g.All {
			group(part)
		}
	}
	for _, g := range p.Groups {
		group(g)
	}
}
