package reconcile

import "context"

// A container whose server was changed is kept where it is (see
// Limits.Elsewhere). Here, on the server that it was changed to, nothing shows
// that there is one already: only the last applied commit tells.

// holdMoved holds what the last applied commit has on another server.
func (a *Agent) holdMoved(ctx context.Context, limits Limits) {
	a.recallDone(ctx)
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
				limits.Unready[ref] = "its server cannot change from " + old + "; put the server back, or give the new container another name and id"
			}
		}
	}
}

// finished notes that nothing is left to do of the accepted commit.
func (a *Agent) finished() {
	if a.done == a.fleet {
		return
	}
	a.done = a.fleet
	if a.Applied == nil {
		return
	}
	if err := a.Applied.Save(a.fleet.Commit); err != nil {
		a.Log.Error("the applied commit cannot be remembered", "err", err)
	}
}

// recallDone takes up the commit that an earlier process finished.
func (a *Agent) recallDone(ctx context.Context) {
	if a.done != nil || a.Applied == nil {
		return
	}
	commit, err := a.Applied.Load()
	if err != nil || commit == "" {
		return
	}
	if commit == a.fleet.Commit {
		a.done = a.fleet
		return
	}
	s, err := a.Source.At(ctx, commit)
	if err == nil {
		a.done, err = a.load(ctx, &a.Loader, s)
	}
	if err != nil {
		a.done = nil
		a.Log.Error("the last applied commit cannot be read", "commit", commit, "err", err)
	}
}
