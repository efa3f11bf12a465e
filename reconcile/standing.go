package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"swage/schema"
)

// Standing is why another commit than the newest is in force. It stands on the
// server itself, so that whoever runs next heeds it.
type Standing struct {
	Mode Mode `json:"mode"`
	// Commit that is in force.
	Commit string `json:"commit"`
	// Failed is the commit that was rolled back; it ends with the next one.
	Failed string    `json:"failed,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Fall says in a line where a commit that failed was put back to, and why.
func (s Standing) Fall() string {
	return fmt.Sprintf("rolled back to %.12s: %s", s.Commit, s.Reason)
}

// Mode is a kind of Standing.
type Mode string

// The modes. Pinned and Suspended last until Resume.
const (
	ModePinned     Mode = "pinned"      // a person chose a commit
	ModeRolledBack Mode = "rolled-back" // the newest commit failed
	ModeSuspended  Mode = "suspended"   // nothing is changed
)

// standing reads the note; nil: the newest commit is in force.
func (a *Agent) standing() *Standing {
	if a.seen == nil || a.seen.Notes[noteStanding] == "" || a.newest == nil || a.newest.Commit == Folder {
		return nil
	}
	var s Standing
	if err := json.Unmarshal([]byte(a.seen.Notes[noteStanding]), &s); err != nil {
		// It was written by hand. What it was to say is not known, so nothing
		// is changed.
		return &Standing{Mode: ModeSuspended, Reason: "the note about it cannot be read; swage resume removes it"}
	}
	if s.Mode == ModeRolledBack && s.Failed != a.newest.Commit {
		return nil
	}
	return &s
}

func (a *Agent) stand(ctx context.Context, s *Standing) error {
	if s == nil {
		return a.note(ctx, noteStanding, "")
	}
	s.Since, s.Reason = time.Now().UTC().Truncate(time.Second), firstLine(s.Reason)
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return a.note(ctx, noteStanding, string(b))
}

// settle takes the commit that is in force.
func (a *Agent) settle(ctx context.Context, r *Report) error {
	s := a.standing()
	a.moved = false
	f, err := a.chosen(ctx, s)
	if err != nil && a.fleet == nil {
		return err
	}
	if err == nil {
		a.fleet = f
		a.current.Store(f)
	}
	r.Commit, r.Zone = a.fleet.Commit, a.fleet.Zone(a.Server)
	if r.Standing, r.Newest = s, ""; s != nil {
		r.Newest = a.newest.Commit
	}
	return err
}

// chosen is the fleet that a Standing puts in force.
func (a *Agent) chosen(ctx context.Context, s *Standing) (*schema.Fleet, error) {
	switch {
	case s == nil:
		return a.newest, nil
	case s.Commit == "":
		return cmp.Or(a.fleet, a.newest), nil // as it is
	}
	read := func(commit string) (*schema.Fleet, error) {
		f := a.at(ctx, commit)
		if f == nil {
			delete(a.earlier, commit) // it may be back later
			return nil, fmt.Errorf("commit %s cannot be read; it is %s, and swage resume takes the newest one", commit, s.Mode)
		}
		return f, nil
	}
	to, err := read(s.Commit)
	if err != nil || s.Failed == "" {
		return to, err
	}
	of, err := read(s.Failed)
	if err != nil {
		return nil, err
	}
	if a.rolled == nil || a.rolled.of != of || a.rolled.to != to {
		a.rolled = &rolled{of, to, rolledBack(to, of, a.Server, a.seen.State)}
	}
	return a.rolled.fleet, nil
}

// rolled is a fleet made of two, kept while they are the same: what is there
// when it is made decides about it.
type rolled struct{ of, to, fleet *schema.Fleet }

// Rollback pins the fleet to a commit: a whole hash, or the beginning of one of
// the history. It stays until Resume, whatever is pushed. Any goroutine may
// call it while Run runs.
func (a *Agent) Rollback(ctx context.Context, commit, reason string) error {
	return a.ask(ctx, func(ctx context.Context) error {
		full, err := a.resolve(commit)
		if err != nil {
			return err
		}
		s, err := a.Source.At(ctx, full)
		if err != nil {
			return err
		}
		// Not as at does: the reason is for the person who asks.
		if _, err := a.load(ctx, &schema.Loader{Limits: a.Loader.Limits}, s); err != nil {
			return fmt.Errorf("commit %s cannot be applied:\n%w", full, err)
		}
		delete(a.earlier, full)
		return a.turn(ctx, &Standing{Mode: ModePinned, Commit: full, Reason: reason})
	})
}

// Suspend leaves everything as it is until Resume: no commit is applied, and
// what changes behind swage's back is not put back. The edge goes on. Any
// goroutine may call it while Run runs.
func (a *Agent) Suspend(ctx context.Context, reason string) error {
	return a.ask(ctx, func(ctx context.Context) error {
		s := &Standing{Mode: ModeSuspended, Commit: a.fleet.Commit, Reason: reason}
		if old := a.standing(); old != nil {
			s.Commit, s.Failed = old.Commit, old.Failed
		}
		return a.turn(ctx, s)
	})
}

// Resume ends what Rollback and Suspend began, and a rollback that the agent
// made by itself: the newest commit is applied. Any goroutine may call it while
// Run runs.
func (a *Agent) Resume(ctx context.Context) error {
	return a.ask(ctx, func(ctx context.Context) error {
		if a.seen.Notes[noteStanding] == "" {
			return errors.New("nothing is pinned, suspended or rolled back")
		}
		clear(a.attempts) // a commit that failed is tried anew
		return a.turn(ctx, nil)
	})
}

// turn ends the pass that runs, if one does, so that the next heeds s.
func (a *Agent) turn(ctx context.Context, s *Standing) error {
	if a.lost() != nil {
		return a.lost()
	}
	if err := a.stand(ctx, s); err != nil {
		return err
	}
	what := "resumed"
	if s != nil {
		what = string(s.Mode)
	}
	a.journal.add(Event{Type: StandingChanged, Commit: a.fleet.Commit, Text: what})
	a.Log.Warn(what, "commit", a.fleet.Commit)
	a.moved = true
	a.hint()
	return nil
}

// tries is how often a step may fail before its commit has failed.
const tries = 3

// gaveUp reports whether what failed will not mend itself: a health deadline
// has passed, or a step failed or did not last often.
func (a *Agent) gaveUp() bool {
	for _, v := range a.vitals {
		select {
		case <-v.late:
			if !v.ok() {
				return true
			}
		default:
		}
	}
	for _, s := range a.starts {
		if s.failures >= tries {
			return true
		}
	}
	for _, t := range a.attempts {
		if t.err != nil && t.times >= tries {
			return true
		}
	}
	return false
}

// canRollBack reports whether the commit in force is put back if it fails.
func (a *Agent) canRollBack() bool {
	good := a.seen.Notes[noteApplied]
	return a.fleet.AutoRollback && a.standing() == nil && good != "" && good != a.fleet.Commit
}

// rollBack puts a commit that failed back to the one applied last, where the
// fleet asks for it and trying goes on no longer. It reports whether that is
// how failing ends.
func (a *Agent) rollBack(ctx context.Context, failed error) bool {
	good := a.seen.Notes[noteApplied]
	if !a.canRollBack() || a.at(ctx, good) == nil {
		return false
	}
	if !a.gaveUp() {
		return a.attempts != nil // somebody tries again
	}
	s := &Standing{Mode: ModeRolledBack, Commit: good, Failed: a.fleet.Commit, Reason: failed.Error()}
	if err := a.stand(ctx, s); err != nil {
		a.Log.Error("the commit cannot be rolled back", "err", err)
		return false
	}
	a.Log.Error("commit failed and is rolled back", "commit", a.fleet.Commit, "to", good, "err", failed)
	a.rest() // its health checks are another's now
	clear(a.attempts)
	a.again = true
	return true
}
