package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"swage/runtime"
)

// Approve has the held deletions of a plan id done, or a commit accepted: see
// ApproveCommit. Any goroutine may call it
// while Run runs.
func (a *Agent) Approve(ctx context.Context, id string) error {
	if wholeHash.MatchString(id) {
		return a.ApproveCommit(ctx, id)
	}
	return a.ask(ctx, func(ctx context.Context) error {
		var ids, plans []string
		for _, h := range a.report.Load().Held {
			if h.Plan == "" {
				continue
			}
			if h.Plan == id {
				ids = append(ids, string(h.Container))
			}
			if !slices.Contains(plans, h.Plan) {
				plans = append(plans, h.Plan)
			}
		}
		switch {
		case len(ids) > 0:
			if err := a.note(ctx, noteApproved, strings.Join(ids, ",")); err != nil {
				return err
			}
			a.Log.Warn("deletions approved", "plan", id, "containers", len(ids))
			a.hint()
			return nil
		case len(plans) > 0:
			return fmt.Errorf("no plan %s is held; %s is", id, strings.Join(plans, ", "))
		}
		return errors.New("no deletion is held")
	})
}

// DeleteSnapshot removes a snapshot of a container or an archive, or, with an
// empty name, a whole archive. It takes the id, or project/container where only
// one has that name. Any goroutine may call it while Run runs.
func (a *Agent) DeleteSnapshot(ctx context.Context, of, name string) error {
	return a.ask(ctx, func(ctx context.Context) error {
		step, err := a.snapshotToDelete(of, name)
		if err != nil {
			return err
		}
		if a.lost() != nil {
			return a.lost()
		}
		_, err = a.rt.Do(ctx, step)
		a.hint()
		return err
	})
}

func (a *Agent) snapshotToDelete(of, name string) (runtime.Step, error) {
	var found []runtime.Step
	for _, s := range a.snapshots() {
		if string(s.ID) == of || s.Container == of {
			switch {
			case s.Name == "" && name == "":
				i := slices.IndexFunc(a.seen.Archives, func(x runtime.Archive) bool { return x.ID == s.ID })
				found = append(found, runtime.DeleteArchive{Archive: a.seen.Archives[i]})
			case s.Name != "" && s.Name == name:
				found = append(found, runtime.DeleteSnapshot{Of: s.ID, Ref: s.Container, Snapshot: name})
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("several are called %s; name one by its id, as swage snapshots lists it", of)
	case name == "":
		return nil, fmt.Errorf("there is no archive of %s; name a snapshot too, to remove that; swage snapshots lists both", of)
	}
	return nil, fmt.Errorf("%s has no snapshot %s; swage snapshots lists them", of, name)
}

// approved reads the approvals, and drops those of containers that are gone or
// declared again: they must not count for another commit.
func (a *Agent) approved(ctx context.Context) (map[runtime.ID]bool, error) {
	out := map[runtime.ID]bool{}
	var still []string
	for id := range strings.SplitSeq(a.seen.Notes[noteApproved], ",") {
		for _, h := range a.seen.Containers {
			if _, declared := a.declared(a.fleet, h); string(h.ID) == id && !declared {
				out[h.ID] = true
				still = append(still, id)
			}
		}
	}
	if !a.acting {
		return out, nil
	}
	return out, a.note(ctx, noteApproved, strings.Join(still, ","))
}

// ask has the goroutine that owns everything do something.
func (a *Agent) ask(ctx context.Context, do func(context.Context) error) error {
	if a.asks == nil {
		return ErrNotObserved
	}
	answer := make(chan error, 1)
	select {
	case a.asks <- func(ctx context.Context) {
		if a.seen == nil || a.rt == nil {
			answer <- ErrNotObserved
			return
		}
		answer <- do(ctx)
	}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
