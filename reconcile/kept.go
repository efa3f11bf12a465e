package reconcile

import (
	"context"
	"fmt"
	"slices"

	"swage/runtime"
	"swage/schema"
)

// What runs and is no longer declared, because its deletion is held or waits,
// goes on under the document of the last commit that declared it. That commit
// stands on the container; if it cannot be read there is no route to it.

// Declaration is what a commit says of a container.
type Declaration struct {
	Project   schema.Project
	Container schema.Container
}

// declared is what a fleet says of a container of this server: by ID, else by
// name.
func (a *Agent) declared(f *schema.Fleet, h runtime.Container) (Declaration, bool) {
	if f == nil {
		return Declaration{}, false
	}
	c := declaration(f, a.Server, h)
	if c == nil {
		return Declaration{}, false
	}
	for _, p := range f.Projects {
		for i := range p.Containers {
			if &p.Containers[i] == c {
				return Declaration{p, *c}, true
			}
		}
	}
	return Declaration{}, false
}

// keep finds the documents of what is there and not declared.
func (a *Agent) keep(ctx context.Context) {
	a.kept = map[runtime.ID]Declaration{}
	for _, h := range a.seen.Containers {
		if _, ok := a.declared(a.fleet, h); ok {
			continue
		}
		if d, ok := declaredAway(a.fleet, a.Server, h); ok { // only its server is held
			a.kept[h.ID] = d
			continue
		}
		of := a.before
		if h.Declared != "" {
			of = a.at(ctx, h.Declared)
		}
		if d, ok := a.declared(of, h); ok {
			a.kept[h.ID] = d
		}
	}
}

// at is the fleet of an earlier commit; nil if it cannot be read.
func (a *Agent) at(ctx context.Context, commit string) *schema.Fleet {
	for _, f := range []*schema.Fleet{a.newest, a.fleet, a.before, a.done} {
		if f != nil && f.Commit == commit && (a.rolled == nil || f != a.rolled.fleet) {
			return f
		}
	}
	if f, ok := a.earlier[commit]; ok {
		return f
	}
	s, err := a.Source.At(ctx, commit)
	var f *schema.Fleet
	if err == nil {
		f, err = a.load(ctx, &schema.Loader{Limits: a.Loader.Limits}, s)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		// It is tried again at the next pass, and told once.
		if !slices.Contains(a.unreadable, commit) {
			a.Log.Error("an earlier commit cannot be read; what only it declares has no route until it can", "commit", commit, "err", err)
			a.unreadable = append(a.unreadable, commit)
		}
		return nil
	}
	a.unreadable = slices.DeleteFunc(a.unreadable, func(c string) bool { return c == commit })
	if a.earlier == nil {
		a.earlier = map[string]*schema.Fleet{}
	}
	a.earlier[commit] = f
	return f
}

// Keys of notes.
const (
	noteAccepted = "accepted" // commit whose removals are marked on the containers
	noteApplied  = "applied"  // commit of which nothing was left to do
	noteApproved = "approved" // ids of containers whose deletion a person approved
	noteStanding = "standing" // see Standing
	noteHistory  = "history"  // see HistoryEntry
	noteLeads    = "leads"    // see leadNote
	noteGone     = "gone"     // see goneElsewhere
	noteTrusted  = "trusted"  // commit accepted last, with its signers, where commits must be signed
	noteLetIn    = "let-in"   // commit that may be accepted without being on top of that
)

// recallBefore takes up the fleet that was accepted before this one.
func (a *Agent) recallBefore(ctx context.Context) {
	if commit := a.seen.Notes[noteAccepted]; a.before == nil && commit != "" {
		a.before = a.at(ctx, commit)
	}
}

// marked notes, at the end of a pass, that what its commit no longer declares is
// marked. Until then the commit before it is asked again.
func (a *Agent) marked(ctx context.Context) {
	if a.before == nil || a.seen == nil {
		return
	}
	if err := a.note(ctx, noteAccepted, a.before.Commit); err != nil {
		a.Log.Error("the accepted commit cannot be noted", "err", err)
	}
}

// mark writes the last commit that declared it on each container whose
// deletion is held, or that an alias does not leave yet, before anything else
// is done for the commit that does not declare it any more, and takes it away
// from those that are declared again.
func (a *Agent) mark(ctx context.Context, plan Plan) error {
	if a.before == a.fleet {
		return nil
	}
	stays := map[string]bool{} // by ref
	stay, _ := a.followAliases()
	for _, x := range stay {
		stays[x.Container] = true
	}
	for i, c := range a.seen.Containers {
		held := slices.ContainsFunc(plan.Held, func(h Held) bool { return h.Container == c.ID })
		to := c
		to.Replaced = slices.ContainsFunc(plan.Held, func(h Held) bool { return h.Container == c.ID && (c.Replaced || h.replaced) })
		if _, again := a.declared(a.fleet, c); again {
			to.Declared = "" // when it goes again, another commit will have declared it last
		} else if _, ok := a.declared(a.before, c); ok && c.Declared == "" && (held || stays[c.Ref()]) {
			to.Declared = a.before.Commit
		}
		if to.Declared == c.Declared && to.Replaced == c.Replaced {
			continue
		}
		if _, err := a.rt.Do(ctx, runtime.UpdateContainer{From: c, To: to}); err != nil {
			return fmt.Errorf("note the last commit that declares %s: %w", c.Ref(), err)
		}
		a.seen.Containers[i] = to
	}
	a.before = a.fleet
	return nil
}

// note keeps a value on the server.
func (a *Agent) note(ctx context.Context, key, value string) error {
	if a.seen.Notes[key] == value {
		return nil
	}
	if err := a.rt.Note(ctx, key, value); err != nil {
		return fmt.Errorf("note %s: %w", key, err)
	}
	if a.seen.Notes == nil {
		a.seen.Notes = map[string]string{}
	}
	a.seen.Notes[key] = value
	return nil
}
