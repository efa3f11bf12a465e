package reconcile

import "context"

// A container whose server was changed is kept where it is (see
// Terms.Elsewhere). Here, on the server that it was changed to, nothing shows
// that there is one already: only the last applied commit tells.

// holdMoved holds what the last applied commit has on another server.
func (a *Agent) holdMoved(terms Terms) {
	if a.done == nil || a.done == a.fleet {
		return
	}
	was := map[string]string{} // server by id and by project/name
	for _, p := range a.done.Projects {
		for _, c := range p.Containers {
			was[p.Name+"/"+c.Name] = c.Server
			if c.ID != "" {
				was[c.ID] = c.Server
			}
		}
	}
	for _, p := range a.fleet.Projects {
		for _, c := range p.Containers {
			ref := p.Name + "/" + c.Name
			key := ref
			if c.ID != "" {
				key = c.ID
			}
			if old := was[key]; c.Server == a.Server && old != "" && old != a.Server {
				terms.Unready[ref] = "its server cannot change from " + old + "; put the server back, or give the new container another name and id"
			}
		}
	}
}

// finished notes that nothing is left to do of the accepted commit.
func (a *Agent) finished(ctx context.Context) {
	a.done = a.fleet
	if err := a.note(ctx, noteApplied, a.fleet.Commit); err != nil {
		a.Log.Error("the applied commit cannot be noted", "err", err)
	}
}

// recallDone takes up the commit that an earlier process finished.
func (a *Agent) recallDone(ctx context.Context) {
	if commit := a.seen.Notes[noteApplied]; a.done == nil && commit != "" {
		a.done = a.at(ctx, commit)
	}
}
