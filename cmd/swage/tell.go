package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"swage/reconcile"
	"swage/reconcile/git"
	"swage/schema"
)

// Waits after a delivery that failed. Nothing but deliveries waits.
const (
	firstRetell = 5 * time.Second
	lastRetell  = 5 * time.Minute
)

// deliver hands every event of the agent to tell, in order, until ctx ends.
// What fails is tried again; what the agent has forgotten by then is lost.
func deliver(ctx context.Context, agent *reconcile.Agent, what string, log *slog.Logger, tell func(context.Context, []reconcile.Event) error) error {
	wait := firstRetell
	for last := 0; ; {
		events, more := agent.Events(last)
		// The fleet says whom to tell; what came before it is told then.
		if len(events) > 0 && agent.Fleet() != nil {
			if err := tell(ctx, events); err != nil && ctx.Err() == nil {
				log.Warn(what+" cannot be told; it is tried again", "err", err, "retry_in", wait)
				select {
				case <-time.After(wait):
				case <-ctx.Done():
				}
				wait = min(2*wait, lastRetell)
			} else {
				last, wait = events[len(events)-1].ID, firstRetell
				continue
			}
		} else {
			select {
			case <-more:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// tellForge sets the status of commits on the forge that the server's file
// names: of each commit the last only.
func tellForge(agent *reconcile.Agent, keys schema.Keys) func(context.Context, []reconcile.Event) error {
	return func(ctx context.Context, events []reconcile.Event) error {
		f := agent.Fleet()
		forge := f.Servers[agent.Server].Forge
		if forge.Type == "" {
			return nil
		}
		token, err := forge.Token.Reveal(keys)
		if err != nil {
			return err
		}
		to := git.Forge{Type: forge.Type, URL: forge.URL, Repository: forge.Repository, Token: token}
		told := map[string]bool{}
		for _, e := range slices.Backward(events) {
			s, ok := statusOf(e, agent.Server)
			if !ok || told[s.Commit] {
				continue
			}
			told[s.Commit] = true
			if err := to.Tell(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// statusOf is what an event means to those who look at a commit on a forge.
func statusOf(e reconcile.Event, server string) (git.Status, bool) {
	s := git.Status{Commit: e.Commit, Name: "swage/" + server, State: "pending", Text: e.Text}
	switch {
	case e.Commit == "":
		return s, false
	case e.Type == reconcile.CommitAccepted:
		s.Text = "accepted; it is being applied"
	case e.Type == reconcile.CommitRejected:
		s.State, s.Text = "failure", "rejected: "+firstLine(e.Error)
	case e.Type == reconcile.CommitWaits:
		s.Text = "accepted, and not applied while this server is " + e.Text
	case e.Type == reconcile.CommitEnded:
		switch reconcile.CommitState(e.Text) {
		case reconcile.Applied:
			s.State = "success"
		case reconcile.Failed:
			s.State, s.Text = "failure", "failed: "+firstLine(e.Error)
		case reconcile.RolledBack:
			s.State, s.Text = "failure", firstLine(e.Error)
		case reconcile.Incomplete:
			s.Text = "applied, but some of it is held; see swage status"
		case reconcile.Superseded:
			s.State, s.Text = "failure", "superseded by a newer commit"
		default:
			return s, false
		}
	default:
		return s, false
	}
	return s, true
}

func firstLine(text string) string {
	line, _, _ := bytes.Cut([]byte(text), []byte("\n"))
	return string(line)
}

// tellEvents posts events as JSON lines to where swage.cue says, signed where
// it names a secret.
func tellEvents(agent *reconcile.Agent, keys schema.Keys) func(context.Context, []reconcile.Event) error {
	return func(ctx context.Context, events []reconcile.Event) error {
		f := agent.Fleet()
		if f.Events.URL == "" {
			return nil
		}
		var body bytes.Buffer
		lines := json.NewEncoder(&body)
		for _, e := range events {
			if err := lines.Encode(e); err != nil {
				return err
			}
		}
		header := http.Header{"Content-Type": {"application/x-ndjson"}, "User-Agent": {"swage"}, "Swage-Server": {agent.Server}}
		if !f.Events.Secret.IsZero() {
			secret, err := f.Events.Secret.Reveal(keys)
			if err != nil {
				return err
			}
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write(body.Bytes())
			header.Set("Swage-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		}
		_, err := git.Post(ctx, f.Events.URL, header, body.Bytes())
		return err
	}
}

// webhooks are the secrets of forges that may wake the agent, read once a
// fleet.
type webhooks struct {
	server string
	keys   schema.Keys
	fleet  func() *schema.Fleet
	log    *slog.Logger

	mu      sync.Mutex
	of      *schema.Fleet
	secrets map[string]string
}

func (w *webhooks) list() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fleet()
	if f == w.of || f == nil {
		return w.secrets
	}
	w.of, w.secrets = f, map[string]string{}
	for forge, secret := range f.Servers[w.server].Webhooks {
		value, err := secret.Reveal(w.keys)
		if err != nil {
			w.log.Warn("the secret of webhooks cannot be read; they are refused", "forge", forge, "err", err)
		}
		w.secrets[forge] = value // an empty one lets nobody in
	}
	return w.secrets
}
