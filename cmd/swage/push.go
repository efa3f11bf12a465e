package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/reconcile/git"
	"swage/runtime"
	"swage/schema"
)

// pushes judges and follows what is pushed to the agent's own repository. Its
// functions are asked by the hooks of that repository, each in a goroutine.
type pushes struct {
	agent  *reconcile.Agent
	repo   git.Local
	branch string
	tokens *tokens
	log    *slog.Logger
}

// check is what a push must pass to be accepted: the author's mistakes come
// back as the error, and the plan is told.
func (p pushes) check(ctx context.Context, u api.Push, tell func(string)) error {
	err := p.judge(ctx, u, tell)
	by := cmp.Or(u.By, "somebody on this machine")
	if err != nil {
		p.log.Info("a push is refused", "commit", u.New, "by", by, "err", err)
	} else {
		p.log.Info("pushed", "commit", u.New, "by", by)
	}
	return err
}

func (p pushes) judge(ctx context.Context, u api.Push, tell func(string)) error {
	update := git.Update{Old: u.Old, New: u.New, Ref: u.Ref}
	switch {
	case u.Ref != "refs/heads/"+p.branch:
		return fmt.Errorf("this remote takes branch %s only, not %s", p.branch, u.Ref)
	case update.Deletes():
		return fmt.Errorf("branch %s is what runs; it cannot be deleted", p.branch)
	}
	s, raw, err := p.repo.Incoming(u.Quarantine, u.New, u.Others...)
	if err != nil {
		return err
	}
	signers, err := p.agent.CommitSigners()
	if err != nil {
		return err
	}
	if len(signers.SSH)+len(signers.OpenPGP) > 0 {
		if _, err := git.Signer(raw, signers.SSH, signers.OpenPGP, time.Now()); err != nil {
			return fmt.Errorf("the commit must be signed by a signer of the last accepted one (git commit -S): %w", err)
		}
		// The branch may be ahead of what a pass has accepted.
		branch := u.Old
		if strings.Trim(branch, "0") == "" { // there is none yet
			branch = ""
		}
		err := p.agent.MayReplace(u.New, branch, func(last string) error {
			return p.repo.FollowsIncoming(ctx, u.Quarantine, u.New, last)
		})
		if err != nil {
			return err
		}
	}
	var own func(ref string) bool // nil: all is
	if u.Realm != "" {
		if own, err = p.keepTo(ctx, u, tell); err != nil {
			return err
		}
	}
	proposal, err := p.agent.PlanAfter(ctx, s.Tree, func(applied string) ([]reconcile.Allowance, error) {
		return p.repo.AllowancesIncoming(ctx, u.Quarantine, applied, u.New)
	}, func(f *schema.Fleet) error {
		err := p.tokens.lockout(f, time.Now())
		if err != nil && u.By == "" { // who is on this machine needs no token
			if p.tokens.pushable(p.tokens.list(), time.Now()) {
				tellLines("warning: "+err.Error(), tell)
			}
			return nil
		}
		return err
	})
	if errors.Is(err, reconcile.ErrNotObserved) {
		tell("the first commit; its plan is made when it is applied")
		return nil
	}
	if schema.IsProblems(err) {
		tellLines(problems(err).Error(), tell)
		return errors.New("refused: mend this, amend the commit, and push again; nothing has changed")
	}
	if err != nil {
		return err
	}
	if len(proposal.Refused) > 0 {
		tellLines(problems(proposal.Refused).Error(), tell)
		return errors.New("refused: mend this, amend the commit, and push again; nothing has changed")
	}
	if own != nil {
		proposal = proposal.Within(own)
	}
	tellLines(proposal.Text(false), tell)
	return nil
}

// keepTo refuses what a push of a realm's token changes beside that realm, and
// says which containers are the realm's.
func (p pushes) keepTo(ctx context.Context, u api.Push, tell func(string)) (own func(ref string) bool, err error) {
	if strings.Trim(u.Old, "0") == "" {
		return nil, errors.New("this push is held to a realm, and the first commit belongs to none; somebody must push it who is not held to one")
	}
	change, err := p.repo.Change(ctx, u.Quarantine, u.Old, u.New)
	if err != nil {
		return nil, err
	}
	if !change.Forward {
		return nil, errors.New("this push is held to a realm and takes back commits of the branch, which may be others'; fetch, and rebase onto them")
	}
	// What is held may be anybody's.
	switch list, err := p.repo.AllowancesIncoming(ctx, u.Quarantine, u.Old, u.New); {
	case err != nil:
		return nil, err
	case len(list) > 0:
		return nil, errors.New("this push is held to a realm and cannot allow deletions; take the trailer Swage-Allow-Delete out of its commits")
	}
	own, err = p.agent.Trespass(ctx, u.Realm, change.Before.Tree, change.After.Tree, change.Files)
	if schema.IsProblems(err) {
		tellLines(problems(err).Error(), tell)
		return nil, errors.New("refused: mend this, amend the commit, and push again; nothing has changed")
	}
	return own, err
}

func tellLines(text string, tell func(string)) {
	for line := range strings.Lines(text) {
		tell(strings.TrimSuffix(line, "\n"))
	}
}

// follow tells of each step until the commit is applied, or something else
// becomes of it.
func (p pushes) follow(ctx context.Context, u api.Push, tell func(string)) error {
	before, begun := p.agent.Report().Commit, time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := 0; ; {
		r := p.agent.Report() // before the events: all that led to it are told
		events, more := p.agent.Events(last)
		for _, e := range events {
			last = e.ID
			if e.Commit != u.New || e.Time.Before(u.Since) {
				continue
			}
			switch e.Type {
			case reconcile.StepDone:
				tell(fmt.Sprintf("done: %s, after %s", e.Text, since(u, e.Time)))
			case reconcile.StepFailed:
				tell("failed: " + e.Text + ": " + e.Error)
			}
		}
		if over, err := p.ended(r, before, begun, u, tell); over {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		case <-tick.C:
		}
	}
}

// ended says what became of a push, once that is known. The branch had moved
// when following began: what could not be read earlier was the branch before.
func (p pushes) ended(r *reconcile.Report, before string, begun time.Time, u api.Push, tell func(string)) (over bool, err error) {
	if r.Rejected != nil && r.Rejected.Commit == u.New {
		tellLines(r.Rejected.Error, tell)
		return true, errors.New("the commit is rejected; what runs is left as it is")
	}
	if s := r.Standing; s != nil && r.Newest == u.New {
		switch {
		case s.Mode != reconcile.ModeRolledBack:
			tell(fmt.Sprintf("accepted, and not applied while this server is %s; swage resume applies it", s.Mode))
			if s.Reason != "" {
				tell("reason: " + s.Reason)
			}
			return true, nil
		case r.State == reconcile.RolledBack:
			tell(s.Fall())
			return true, fmt.Errorf("accepted, but the deploy failed and was rolled back to %s; push a mended commit", short(s.Commit))
		case r.State != reconcile.Failed:
			return false, nil
		}
		tell(s.Fall())
		tellLines(r.Error, tell)
		return true, fmt.Errorf("accepted, but the deploy failed, and so does rolling it back to %s; push a mended commit", short(s.Commit))
	}
	if r.Commit != u.New {
		if r.Commit == before || r.Commit == "" {
			return r.State == reconcile.Failed && before == "" && r.Started.After(begun), errors.New(r.Error)
		}
		tell("a newer push came, which is applied instead")
		return true, nil
	}
	switch r.State {
	case reconcile.Superseded:
		tell("a newer push came, which is applied instead")
		return true, nil
	case reconcile.Failed:
		if r.RollsBack {
			return false, nil
		}
		tellLines(r.Error, tell)
		return true, errors.New("accepted, but the deploy failed; push a mended commit")
	case reconcile.Applied, reconcile.Incomplete:
		held := 0
		for _, h := range r.Held {
			project, name, _ := strings.Cut(h.Ref, "/")
			if u.Realm != "" && !reconcile.InRealm(p.agent.Fleet(), u.Realm, project, name) {
				continue
			}
			held++
			tell(fmt.Sprintf("held: %s: %s", h.What, h.Why))
		}
		p.tellURLs(r, u.Realm, tell)
		if held > 0 {
			tell(fmt.Sprintf("applied, %d held, after %s", held, since(u, r.Finished)))
		} else {
			tell("applied after " + since(u, r.Finished))
		}
		return true, nil
	}
	return false, nil
}

// since is the time from a push until then.
func since(u api.Push, then time.Time) string {
	return fmt.Sprintf("%.2f s", max(0, then.Sub(u.Since).Seconds()))
}

// mostURLs are shown to a pusher.
const mostURLs = 20

// tellURLs shows what is live, to one who is held to a realm that realm's: a
// host name may be all that guards what it leads to.
func (p pushes) tellURLs(r *reconcile.Report, realm string, tell func(string)) {
	fleet := p.agent.Fleet()
	var list []reconcile.ContainerReport
	for _, c := range r.Containers {
		if c.Status == runtime.Running && len(c.URLs) > 0 && (realm == "" || reconcile.InRealm(fleet, realm, c.Project, c.Name)) {
			list = append(list, c)
		}
	}
	more := len(list) > mostURLs
	for _, line := range live(context.Background(), r, list[:min(len(list), mostURLs)]) {
		tell(line)
	}
	if more {
		tell("live: and more; swage get containers lists all")
	}
}
