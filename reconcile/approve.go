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
// empty name, a whole archive. Any goroutine may call it while Run runs.
func (a *Agent) DeleteSnapshot(ctx context.Context, id, name string) error {
	return a.ask(ctx, func(ctx context.Context) error {
		var step runtime.Step
		for _, s := range a.snapshots() {
			if string(s.ID) == id && s.Name == name {
				step = runtime.DeleteSnapshot{Of: s.ID, Ref: s.Container, Snapshot: name}
			}
		}
		for _, x := range a.seen.Archives {
			if string(x.ID) == id && name == "" {
				step = runtime.DeleteArchive{Archive: x}
			}
		}
		if step == nil {
			return fmt.Errorf("there is no snapshot %q of %q here; swage snapshots lists them", name, id)
		}
		if a.lost() != nil {
			return a.lost()
		}
		_, err := a.rt.Do(ctx, step)
		a.hint()
		return err
	})
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
