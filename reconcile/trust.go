package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"swage/schema"
)

// Verifier is a Source that can tell who signed a commit.
type Verifier interface {
	// Signer is which of the signers signed the commit: lines of an OpenSSH
	// allowed_signers file, or armored OpenPGP keys. Its error says why none
	// did.
	Signer(ctx context.Context, commit string, ssh, openpgp []string) (string, error)
	// Follows says why a commit was not made on top of another one, by
	// whichever parent. A commit follows itself.
	Follows(ctx context.Context, commit, last string) error
}

// signed refuses a commit that no signer of the last accepted one signed, or
// that was not made on top of that. What the commit itself says of signers
// counts only for those after it.
func (a *Agent) signed(ctx context.Context, commit string) error {
	signers, err := a.CommitSigners()
	if err != nil {
		return err
	}
	last, err := a.LastAccepted()
	if err != nil {
		return err
	}
	return a.signedBy(ctx, commit, signers, last)
}

// signedBy is signed for the signers that count after the commit last.
func (a *Agent) signedBy(ctx context.Context, commit string, signers schema.Signers, last string) error {
	if empty(signers) {
		return nil
	}
	v, ok := a.Source.(Verifier)
	if !ok {
		return errors.New("commits must be signed, and this source cannot tell who signed")
	}
	who, err := v.Signer(ctx, commit, signers.SSH, signers.OpenPGP)
	if err != nil {
		return fmt.Errorf("the commit is ignored: %w. Only what a signer of the last accepted commit signed is applied: let one of them sign a commit on top of it (git commit -S)", err)
	}
	if err := a.descends(ctx, commit, last); err != nil {
		return fmt.Errorf("the commit is ignored: %w", err)
	}
	a.Log.Info("signed", "commit", commit, "by", who)
	return nil
}

// CommitSigners are those of the last accepted commit, also across restarts;
// where it names none, those of the node file. None: commits need not be
// signed. Any goroutine may ask.
func (a *Agent) CommitSigners() (schema.Signers, error) {
	s := a.Signers
	switch {
	case a.signing.Load() != nil:
		if f := *a.signing.Load(); len(f.SSH)+len(f.OpenPGP) > 0 {
			s = f
		}
	case a.Trusted != nil:
		text, err := a.Trusted.Load()
		if err == nil && text != "" {
			err = json.Unmarshal([]byte(text), &s)
		}
		if err != nil { // nobody knows whom to trust
			return s, fmt.Errorf("the signers of the last accepted commit cannot be read: %w; if you have made sure of the newest commit, remove that file", err)
		}
	}
	return s, nil
}

// trust remembers the signers of the commit that is about to be accepted.
func (a *Agent) trust(f *schema.Fleet) error {
	if a.Trusted == nil {
		a.signing.Store(&f.Signers)
		return nil
	}
	text := "" // those of the node file, whatever they are then
	if s := f.Signers; len(s.SSH)+len(s.OpenPGP) > 0 {
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		text = string(b)
	}
	if err := a.Trusted.Save(text); err != nil {
		return fmt.Errorf("the signers cannot be remembered: %w", err)
	}
	a.signing.Store(&f.Signers)
	return nil
}
