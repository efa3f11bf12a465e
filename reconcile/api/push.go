package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Push is one update that the hooks of the agent's own repository ask about.
type Push struct {
	Ref        string    `json:"ref"`
	Old        string    `json:"old"` // commits
	New        string    `json:"new"`
	Others     []string  `json:"others,omitempty"`     // what refs are to be that were pushed with it, and are not taken
	Quarantine string    `json:"quarantine,omitempty"` // folder of objects that are not accepted yet
	Since      time.Time `json:"since"`                // just before the ref moved
	By         string    `json:"by,omitempty"`         // token or key; empty: somebody on the node
	Realm      string    `json:"realm,omitempty"`      // that it is held to; empty: none
}

// spoken is a line of the answer to a Push. Only one with End says how it
// ended: an answer that breaks off is a refusal.
type spoken struct {
	Text  string `json:"text,omitempty"`
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

// push answers with what is told, line by line as it comes.
func push(do func(context.Context, Push, func(string)) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var p Push
		if do == nil {
			problem(w, http.StatusNotFound, "this agent takes no pushes")
			return
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 256<<10)).Decode(&p); err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := json.NewEncoder(w)
		flush := http.NewResponseController(w).Flush
		err := do(r.Context(), p, func(text string) {
			_ = out.Encode(spoken{Text: text}) // the pusher may have gone
			_ = flush()
		})
		end := spoken{End: true}
		if err != nil {
			end.Error = err.Error()
		}
		_ = out.Encode(end)
	}
}

// CheckPush asks whether a push may be accepted. The error says why not.
func (s Socket) CheckPush(ctx context.Context, p Push, tell func(string)) error {
	return s.push(ctx, "/api/v1/push/check", p, tell)
}

// FollowPush tells of the deploy of what was pushed until it ends. The error
// says why it failed.
func (s Socket) FollowPush(ctx context.Context, p Push, tell func(string)) error {
	return s.push(ctx, "/api/v1/push/follow", p, tell)
}

func (s Socket) push(ctx context.Context, path string, p Push, tell func(string)) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	resp, err := s.do(ctx, http.MethodPost, path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var x spoken
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			return err
		}
		switch {
		case x.End && x.Error != "":
			return errors.New(x.Error)
		case x.End:
			return nil
		}
		tell(x.Text)
	}
	return errors.Join(errors.New("the agent ended before it said how this ends"), lines.Err())
}
