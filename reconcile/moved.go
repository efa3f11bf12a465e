package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"swage/schema"
)

// A container whose server was changed is kept where it is (see
// Terms.Elsewhere). Here, on the server that it was changed to, nothing shows
// that there is one already: only earlier commits tell. What one of them placed
// on another server is never made here, since two servers might run it under one
// id: the other may be away, or be behind.

// earlierFleets are the fleets that a new one is compared with, for other goroutines.
type earlierFleets struct {
	accepted *schema.Fleet // newest
	applied  *schema.Fleet // last, with nothing left to do; nil: none, or not known
}

// refusals are the changes of a commit that nobody can make, compared with the
// commit accepted last and with the one applied last: what was never applied can
// be put back.
func (e *earlierFleets) refusals(f *schema.Fleet) schema.Problems {
	if e == nil || e.accepted == nil {
		return nil
	}
	found := schema.Immutable(e.accepted, f)
	if e.applied == nil || len(found) == 0 {
		return found
	}
	still := schema.Immutable(e.applied, f)
	return slices.DeleteFunc(found, func(p schema.Problem) bool {
		return !slices.ContainsFunc(still, func(q schema.Problem) bool { return p.Pos == q.Pos && p.Path == q.Path })
	})
}

// holdMoved holds, in the terms for a fleet, the containers of this server that
// the commit applied last, or one that is noted, has on another.
func holdMoved(t Terms, f, applied *schema.Fleet, gone map[string]string) {
	was := map[string]string{} // server by id and by project/name
	if applied != nil && applied != f {
		for _, p := range applied.Projects {
			for _, c := range p.Containers {
				was[p.Name+"/"+c.Name] = c.Server
				if c.ID != "" {
					was[c.ID] = c.Server
				}
			}
		}
	}
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			ref := p.Name + "/" + c.Name
			if c.Server != t.Server {
				continue
			}
			if old := was[cmp.Or(c.ID, ref)]; old != "" && old != t.Server {
				t.Unready[ref] = "its server cannot change from " + old + "; put the server back, or give the new container another name and id"
			} else if old := gone[c.ID]; c.ID != "" && old != "" {
				t.Unready[ref] = fmt.Sprintf("an earlier commit had a container of the id %s on %s, and nothing here tells that it is gone there; give this one another id", c.ID, old)
			}
		}
	}
}

// mostGone is how many containers that were on other servers are remembered.
const mostGone = 500

// goneElsewhere are containers that commits took from other servers, by id: the
// server. Whether they are gone there is not known here.
func goneElsewhere(notes map[string]string) map[string]string {
	out := map[string]string{}
	for _, pair := range goneList(notes) {
		if id, server, ok := strings.Cut(pair, " "); ok {
			out[id] = server
		}
	}
	return out
}

func goneList(notes map[string]string) []string {
	var list []string
	if text := notes[noteGone]; text != "" && json.Unmarshal([]byte(text), &list) != nil {
		return nil // written by hand; nobody else reads it
	}
	return list
}

// goneAfter is the list once a fleet was applied after another: "id server", the
// oldest first.
func goneAfter(list []string, server string, before, after *schema.Fleet) []string {
	declared := map[string]bool{} // on other servers
	for _, p := range after.Projects {
		for _, c := range p.Containers {
			if c.Server != server {
				declared[c.ID] = true
			}
		}
	}
	list = slices.DeleteFunc(slices.Clone(list), func(pair string) bool {
		id, _, _ := strings.Cut(pair, " ")
		return declared[id]
	})
	if before == nil {
		return list
	}
	for _, p := range before.Projects {
		for _, c := range p.Containers {
			if pair := c.ID + " " + c.Server; c.ID != "" && c.Server != server && !declared[c.ID] && !slices.Contains(list, pair) {
				list = append(list, pair)
			}
		}
	}
	return list[max(0, len(list)-mostGone):]
}

// finished notes that nothing is left to do of the accepted commit.
func (a *Agent) finished(ctx context.Context) {
	err := a.noteGoneElsewhere(ctx)
	if err == nil {
		a.done = a.fleet
		a.compared.Store(&earlierFleets{a.newest, a.done})
		err = a.note(ctx, noteApplied, a.fleet.Commit)
	}
	if err != nil {
		a.Log.Error("the applied commit cannot be noted", "err", err)
	}
}

func (a *Agent) noteGoneElsewhere(ctx context.Context) error {
	list := goneAfter(goneList(a.seen.Notes), a.Server, a.done, a.fleet)
	if len(list) == 0 {
		return a.note(ctx, noteGone, "")
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return a.note(ctx, noteGone, string(b))
}

// recallDone takes up the commit that an earlier process finished.
func (a *Agent) recallDone(ctx context.Context) {
	if commit := a.seen.Notes[noteApplied]; a.done == nil && commit != "" {
		a.done = a.at(ctx, commit)
	}
	a.compared.Store(&earlierFleets{a.newest, a.done})
}
