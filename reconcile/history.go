package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"swage/runtime"
)

// HistoryEntry is what became of a commit on this server.
type HistoryEntry struct {
	Commit string      `json:"commit"`
	State  CommitState `json:"state"`
	At     time.Time   `json:"at"`
	// Error is the first line of why it failed.
	Error string `json:"error,omitempty"`
	// Deleted are the containers that went with it, as project/container.
	Deleted []string `json:"deleted,omitempty"`
}

// remembered is how many entries are kept, and deletions in each.
const remembered = 30

// History is what became of the commits of this server, the newest first.
func (a *Agent) history() []HistoryEntry {
	var out []HistoryEntry
	if a.seen == nil || json.Unmarshal([]byte(a.seen.Notes[noteHistory]), &out) != nil {
		return nil // lost, or written by hand; nothing depends on it
	}
	return out
}

// record notes the end of a pass, if it is news.
func (a *Agent) record(ctx context.Context, r *Report) {
	switch r.State {
	case Interrupted, Applying, Pending:
		return
	}
	entry := HistoryEntry{Commit: r.Commit, State: r.State, At: time.Now().UTC().Truncate(time.Second), Error: firstLine(r.why())}
	for _, s := range r.Steps {
		if s.Effect == runtime.Destroy && s.State == Done && s.Container != "" && len(entry.Deleted) < remembered {
			entry.Deleted = append(entry.Deleted, s.Container)
		}
	}
	all := a.history()
	if len(all) > 0 && all[0].Commit == entry.Commit {
		last := &all[0]
		news := slices.DeleteFunc(entry.Deleted, func(ref string) bool { return slices.Contains(last.Deleted, ref) })
		same := last.State == entry.State
		if same && len(news) == 0 {
			return
		}
		entry.Deleted = news
		if same || last.State == Failed || last.State == Incomplete || last.State == Superseded { // it goes on
			entry.Deleted = append(slices.Clone(last.Deleted), news...)
			all = all[1:]
		}
	}
	all = append([]HistoryEntry{entry}, all...)
	b, err := json.Marshal(all[:min(len(all), remembered)])
	if err == nil {
		err = a.note(ctx, noteHistory, string(b))
	}
	if err != nil {
		a.Log.Error("the history cannot be noted", "err", err)
	}
}

var isHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// resolve makes a whole hash of the beginning of one of the history.
func (a *Agent) resolve(commit string) (string, error) {
	if isHash.MatchString(commit) {
		return commit, nil
	}
	var found []string
	for _, e := range a.history() {
		if strings.HasPrefix(e.Commit, commit) && !slices.Contains(found, e.Commit) {
			found = append(found, e.Commit)
		}
	}
	switch {
	case len(commit) < 4:
		return "", errors.New("want at least 4 digits of a commit")
	case len(found) == 0:
		return "", fmt.Errorf("no commit of the history begins with %s; see swage history, or write the whole hash", commit)
	case len(found) > 1:
		return "", fmt.Errorf("%d commits of the history begin with %s; write more of it", len(found), commit)
	}
	return found[0], nil
}

// firstLine bounds what is kept of an error.
func firstLine(text string) string {
	const most = 300
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
