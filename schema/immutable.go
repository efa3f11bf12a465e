package schema

import "fmt"

// Immutable finds what the author changed between two states of a fleet and
// cannot be changed [F7]. Nothing is ever destroyed and made anew for such a
// change, so each problem says the way round.
func Immutable(before, after *Fleet) Problems {
	type place struct {
		project string
		c       *Container
	}
	byID, byName := map[string]place{}, map[string]place{}
	stays := map[string]bool{} // ids that are still declared, somewhere
	for _, p := range before.Projects {
		for i := range p.Containers {
			c := &p.Containers[i]
			byName[p.Name+"/"+c.Name] = place{p.Name, c}
			if c.ID != "" {
				byID[c.ID] = place{p.Name, c}
			}
		}
	}
	for _, p := range after.Projects {
		for _, c := range p.Containers {
			if c.ID != "" {
				stays[c.ID] = true
			}
		}
	}
	var out Problems
	add := func(at spot, format string, args ...any) {
		out = append(out, Problem{at.pos, at.path, fmt.Sprintf(format, args...)})
	}
	for _, p := range after.Projects {
		for i := range p.Containers {
			c := &p.Containers[i]
			old, ok := byID[c.ID]
			if !ok || c.ID == "" {
				old, ok = byName[p.Name+"/"+c.Name]
				if ok && old.c.ID != "" && c.ID != "" && !stays[old.c.ID] {
					add(c.own.in("id"), "cannot change from %s to %s: the id is the container's identity; put it back, or give the new container another name and delete this one", old.c.ID, c.ID)
					continue
				}
				if ok && old.c.ID != "" && (c.ID != "" || stays[old.c.ID]) {
					continue // another container took the name
				}
			}
			if !ok {
				continue
			}
			if old.c.Server != c.Server {
				add(c.own.in("server"), "cannot change from %q to %q; put it back, or make a new container on %s with copy_from: {container: %q, server: %q} and delete this one later",
					old.c.Server, c.Server, c.Server, c.Name, old.c.Server)
			}
			if old.c.Image != c.Image {
				add(c.own.in("container_image"), "cannot change from %q to %q; put it back, or make a new container of %s and delete this one later", old.c.Image, c.Image, c.Image)
			}
			if old.c.Kit != c.Kit {
				add(c.own.in("kit"), "cannot change from %t to %t; put it back, or make a new container and delete this one later", old.c.Kit, c.Kit)
			}
		}
	}
	for _, p := range before.Projects {
		for _, q := range after.Projects {
			if p.Name == q.Name && p.ID != "" && q.ID != "" && p.ID != q.ID {
				add(spot{pos: q.Pos, path: "project.id"}, "cannot change from %s to %s: it stands in every address of the project; put it back", p.ID, q.ID)
			}
		}
	}
	return append(out, OtherFleet(before, after)...).sorted()
}

// OtherFleet is the problem of a repository that was one fleet and is another
// now [F3].
func OtherFleet(before, after *Fleet) Problems {
	if before.ID == after.ID {
		return nil
	}
	at := after.own.in("id")
	return Problems{{at.pos, at.path, fmt.Sprintf("cannot change from %s to %s: it marks all that the fleet owns; put it back, or see \"Another fleet\" in docs/guide.md", before.ID, after.ID)}}
}
