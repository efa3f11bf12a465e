package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"swage/schema"
)

// Where commits must be signed, a commit counts only if it was made on top of
// the last accepted one: an old commit has a good signature for ever, and what
// it opened, and whom it named as a signer, would be in force again.
//
// What was accepted last is remembered in the agent's folder, which is known
// before Incus is asked, and on Incus, where it outlives that folder.

// trusted is the note of the last accepted commit, where commits must be signed.
type trusted struct {
	Commit  string         `json:"commit"`
	Signers schema.Signers `json:"signers"`
}

func empty(s schema.Signers) bool { return len(s.SSH)+len(s.OpenPGP) == 0 }

// LastAccepted is the commit that was accepted last, also across restarts;
// empty: none. Any goroutine may ask.
func (a *Agent) LastAccepted() (string, error) {
	if last := a.last.Load(); last != nil {
		return *last, nil
	}
	if a.Accepted == nil {
		return "", nil
	}
	last, err := a.Accepted.Load()
	if err != nil {
		return "", fmt.Errorf("the last accepted commit cannot be read: %w", err)
	}
	return last, nil
}

// MayReplace says why a signed commit of a push may not follow the branch as it
// was, or what was accepted last: follows says why it was not made on top of
// another one. Any goroutine may ask.
func (a *Agent) MayReplace(commit, branch string, follows func(last string) error) error {
	last, err := a.LastAccepted()
	if err != nil {
		return err
	}
	if err := a.mayFollow(commit, last, follows); err != nil {
		return err
	}
	return a.mayFollow(commit, branch, follows)
}

func (a *Agent) mayFollow(commit, last string, follows func(last string) error) error {
	if last == "" || last == Folder || last == commit {
		return nil
	}
	if approved := a.letIn.Load(); approved != nil && *approved == commit {
		return nil
	}
	if err := follows(last); err != nil {
		return fmt.Errorf("%w. Only what is on top of the last accepted commit is applied. To run an earlier commit: swage rollback %s on the server. If history was rewritten on purpose: swage approve %s on the server, then push again", err, commit, commit)
	}
	return nil
}

// descends refuses a commit of the source that was not made on top of another.
func (a *Agent) descends(ctx context.Context, commit, last string) error {
	v, ok := a.Source.(Verifier)
	if !ok {
		return errors.New("commits must be signed, and this source cannot tell who signed")
	}
	return a.mayFollow(commit, last, func(last string) error { return v.Follows(ctx, commit, last) })
}

// confirm compares the accepted commit with the one that stands on Incus, once
// that is known, and puts that one back in force if the accepted one would not
// have been accepted after it: the agent's folder was lost, or is an old copy.
func (a *Agent) confirm(ctx context.Context) (rejected error, err error) {
	if a.newest.Commit == Folder {
		return nil, nil
	}
	if text := a.seen.Notes[noteLetIn]; text != "" && a.letIn.Load() == nil {
		a.letIn.Store(&text)
		a.again = true // it may have been refused a moment ago
	}
	var noted trusted
	if text := a.seen.Notes[noteTrusted]; text != "" {
		if err := json.Unmarshal([]byte(text), &noted); err != nil {
			return nil, fmt.Errorf("the note of the last accepted commit cannot be read: %w", err)
		}
	}
	if noted.Commit != "" && noted.Commit != a.newest.Commit {
		why := a.signedBy(ctx, a.newest.Commit, a.effective(noted.Signers), noted.Commit)
		if why != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if why != nil {
			return a.restore(ctx, noted, why)
		}
	}
	if !a.acting {
		return nil, nil
	}
	text := ""
	if !empty(a.effective(a.newest.Signers)) {
		b, err := json.Marshal(trusted{a.newest.Commit, a.newest.Signers})
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	if err := a.note(ctx, noteTrusted, text); err != nil {
		return nil, err
	}
	if a.seen.Notes[noteLetIn] == a.newest.Commit { // it counts once
		a.letIn.Store(nil)
		return nil, a.note(ctx, noteLetIn, "")
	}
	return nil, nil
}

// restore puts the commit that is noted in the place of the one that was
// accepted without it being known.
func (a *Agent) restore(ctx context.Context, noted trusted, why error) (rejected error, err error) {
	refused := a.newest.Commit
	if err := a.trust(&schema.Fleet{Signers: noted.Signers}); err != nil {
		return nil, err
	}
	a.remember(noted.Commit)
	fleet := a.at(ctx, noted.Commit)
	if fleet == nil {
		delete(a.earlier, noted.Commit) // it may be back later
		a.newest, a.fleet = nil, nil
		a.current.Store(nil)
		return nil, fmt.Errorf("commit %s is rejected, and the last accepted one, %s, cannot be read:\n%w", refused, noted.Commit, why)
	}
	a.newest = fleet
	return fmt.Errorf("commit %s is rejected:\n%w", refused, why), nil
}

// remember notes in the agent's folder what was accepted last.
func (a *Agent) remember(commit string) {
	a.last.Store(&commit)
	if a.Accepted != nil {
		if err := a.Accepted.Save(commit); err != nil {
			a.Log.Error("the accepted commit cannot be remembered", "err", err)
		}
	}
}

// effective are the signers that count after a commit that names these.
func (a *Agent) effective(named schema.Signers) schema.Signers {
	if empty(named) {
		return a.Signers
	}
	return named
}

var wholeHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// ApproveCommit lets one signed commit be accepted that was not made on top of
// the last accepted one. It counts once, for this commit only. Any goroutine
// may call it while Run runs.
func (a *Agent) ApproveCommit(ctx context.Context, commit string) error {
	return a.ask(ctx, func(ctx context.Context) error {
		if a.lost() != nil {
			return a.lost()
		}
		if err := a.note(ctx, noteLetIn, commit); err != nil {
			return err
		}
		a.letIn.Store(&commit)
		a.Log.Warn("a commit is approved that is not on top of the last accepted one", "commit", commit)
		a.hint()
		return nil
	})
}
