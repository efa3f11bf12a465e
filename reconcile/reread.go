package reconcile

import (
	"context"

	"swage/schema"
)

// SecretsChanged says that secrets of this node may have other values: they are
// read again. Any goroutine may call it while Run runs.
func (a *Agent) SecretsChanged() {
	a.stale.Store(true)
	a.hint()
}

// Retry does at once what waits to be tried again, and reads the secrets of this
// node again. Any goroutine may call it while Run runs.
func (a *Agent) Retry(ctx context.Context) error {
	return a.ask(ctx, func(context.Context) error {
		if a.lost() != nil {
			return a.lost()
		}
		clear(a.attempts)
		a.stale.Store(true)
		a.moved = true // a pass that waits begins anew
		a.journal.add(Event{Type: StandingChanged, Commit: a.fleet.Commit, Text: "retried"})
		a.hint()
		return nil
	})
}

// reread reads the fleets that are at hand again, with the secrets as they are
// now. What cannot be read stays as it is known.
func (a *Agent) reread(ctx context.Context) {
	if a.newest == nil || !a.stale.Swap(false) {
		return
	}
	again := map[*schema.Fleet]*schema.Fleet{nil: nil}
	read := func(f *schema.Fleet) *schema.Fleet {
		if known, ok := again[f]; ok {
			return known
		}
		again[f] = f
		s, err := a.Source.At(ctx, f.Commit)
		if f.Commit == Folder {
			s, err = a.Source.Latest(ctx)
		}
		var fresh *schema.Fleet
		if err == nil {
			fresh, err = a.load(ctx, &schema.Loader{Limits: a.Loader.Limits}, s)
		}
		if err != nil {
			a.Log.Error("a commit cannot be read again; its secrets stay as they were", "commit", f.Commit, "err", err)
			return f
		}
		again[f] = fresh
		return fresh
	}
	if a.rolled != nil { // it is made of two of the others
		a.rolled = nil
	}
	a.newest, a.before, a.done = read(a.newest), read(a.before), read(a.done)
	clear(a.earlier)
}
