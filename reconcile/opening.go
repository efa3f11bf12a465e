package reconcile

import "swage/schema"

// Opening is a container that a commit lets everyone reach who could not
// before.
type Opening struct {
	Container string `json:"container"` // project/container
	Why       string `json:"why"`
	At        string `json:"at"` // file:line:column of the container
}

// staysOpen lists what is open although its project is closed: each with its
// project/name as the field.
func staysOpen(f *schema.Fleet, server string) []Origin {
	if f == nil {
		return nil
	}
	var out []Origin
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			if c.Server == server && c.StaysOpen {
				out = append(out, Origin{p.Name + "/" + c.Name, c.At("enable_proxy").String()})
			}
		}
	}
	return out
}

// openings compares what two fleets let everyone reach on one server. A
// container that is new is no opening: its author says what it is.
func openings(before, after *schema.Fleet, server string) []Opening {
	if before == nil || after == nil {
		return nil
	}
	was := map[string]schema.Container{} // by id and by project/name
	for _, p := range before.Projects {
		for _, c := range p.Containers {
			was[p.Name+"/"+c.Name] = c
			if c.ID != "" {
				was[c.ID] = c
			}
		}
	}
	var out []Opening
	for _, p := range after.Projects {
		for _, c := range p.Containers {
			ref := p.Name + "/" + c.Name
			old, ok := was[c.ID]
			if !ok || c.ID == "" {
				old, ok = was[ref]
			}
			if !ok || c.Server != server || !c.ProxyOpen {
				continue
			}
			say := func(why string) { out = append(out, Opening{ref, why, c.Pos.String()}) }
			switch open := c.Permissions == nil; {
			case open && old.Permissions != nil:
				say("its permissions go away, so everyone may reach it")
			case open && !old.ProxyOpen:
				say("it is no longer closed and has no permissions, so everyone may reach it")
			case !open && c.Permissions.DefaultAllow && old.Permissions != nil && !old.Permissions.DefaultAllow:
				say(`its default turns to "allow", so everyone may reach what no rule denies`)
			}
		}
	}
	return out
}
