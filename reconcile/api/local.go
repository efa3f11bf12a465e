package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"swage/reconcile"
)

// Socket is the path of the unix socket of an agent on this machine.
type Socket string

// Status is the agent's newest report.
func (s Socket) Status(ctx context.Context) (*reconcile.Report, error) {
	var r reconcile.Report
	resp, err := s.do(ctx, http.MethodGet, "/api/v1/status", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return &r, json.NewDecoder(resp.Body).Decode(&r)
}

// Approve has the held deletions of a plan id done.
func (s Socket) Approve(ctx context.Context, plan string) error {
	return s.act(ctx, http.MethodPost, "/api/v1/approve", map[string]string{"plan": plan})
}

// Rollback pins a commit until Resume.
func (s Socket) Rollback(ctx context.Context, commit, reason string) error {
	return s.act(ctx, http.MethodPost, "/api/v1/rollback", standing{commit, reason})
}

// Suspend leaves all as it is until Resume.
func (s Socket) Suspend(ctx context.Context, reason string) error {
	return s.act(ctx, http.MethodPost, "/api/v1/suspend", standing{Reason: reason})
}

// Resume has the newest commit applied again.
func (s Socket) Resume(ctx context.Context) error {
	return s.act(ctx, http.MethodPost, "/api/v1/resume", struct{}{})
}

// Retry does at once what waits to be tried again.
func (s Socket) Retry(ctx context.Context) error {
	return s.act(ctx, http.MethodPost, "/api/v1/retry", struct{}{})
}

// DeleteSnapshot removes a snapshot of a container or an archive, or, with an
// empty name, a whole archive.
func (s Socket) DeleteSnapshot(ctx context.Context, id, name string) error {
	return s.act(ctx, http.MethodDelete, "/api/v1/snapshots/"+url.PathEscape(id)+"/"+url.PathEscape(name), nil)
}

// Events calls tell with each event after the one with that ID: those that are
// remembered, then, if follow, those that come until ctx ends.
func (s Socket) Events(ctx context.Context, after int, follow bool, tell func(reconcile.Event) error) error {
	resp, err := s.do(ctx, http.MethodGet, fmt.Sprintf("/api/v1/events?after=%d&follow=%t", after, follow), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e reconcile.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return err
		}
		if err := tell(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := lines.Err(); err != nil || !follow {
		return err
	}
	return errors.New("the agent ended")
}

func (s Socket) act(ctx context.Context, method, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := s.do(ctx, method, path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// do asks the agent. Its answer is good, or an error that says what it said.
func (s Socket) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", string(s))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("permission denied opening the agent socket %s; run as root", s)
	}
	if err != nil {
		return nil, fmt.Errorf("no agent answers at %s (start one with `swage agent`, or name its socket with --socket): %w", s, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return nil, refusal(resp.Status, text)
}

// events answers with server-sent events: those after the query's "after" or
// the header Last-Event-ID, and with follow=true those that come.
func (a API) events(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	if id, err := strconv.Atoi(r.Header.Get("Last-Event-ID")); err == nil {
		after = id
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for r.Context().Err() == nil {
		events, more := a.Events(after)
		for _, e := range events {
			b, err := json.Marshal(e)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, b); err != nil {
				return
			}
			after = e.ID
		}
		if err := http.NewResponseController(w).Flush(); err != nil || r.URL.Query().Get("follow") == "false" {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

func (a API) approve(w http.ResponseWriter, r *http.Request) {
	var ask struct{ Plan string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&ask); err != nil || ask.Plan == "" {
		problem(w, http.StatusBadRequest, `want {"plan": "<id>"}`)
		return
	}
	acted(w, a.Approve(r.Context(), ask.Plan))
}

// standing is the body of rollback and suspend.
type standing struct {
	Commit string `json:"commit,omitempty"`
	Reason string `json:"reason"`
}

func (a API) rollback(w http.ResponseWriter, r *http.Request) {
	if ask, ok := readStanding(w, r); !ok || ask.Commit == "" {
		problem(w, http.StatusBadRequest, `want {"commit": "<id>", "reason": "<text>"}`)
	} else {
		acted(w, a.Rollback(r.Context(), ask.Commit, ask.Reason))
	}
}

func (a API) suspend(w http.ResponseWriter, r *http.Request) {
	if ask, ok := readStanding(w, r); !ok || ask.Reason == "" {
		problem(w, http.StatusBadRequest, `want {"reason": "<text>"}`)
	} else {
		acted(w, a.Suspend(r.Context(), ask.Reason))
	}
}

func readStanding(w http.ResponseWriter, r *http.Request) (ask standing, ok bool) {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<10)).Decode(&ask)
	return ask, err == nil
}

func (a API) deleteSnapshot(w http.ResponseWriter, r *http.Request) {
	acted(w, a.DeleteSnapshot(r.Context(), r.PathValue("id"), r.PathValue("name")))
}

func acted(w http.ResponseWriter, err error) {
	if err != nil {
		problem(w, http.StatusConflict, err.Error())
		return
	}
	answer(w, struct{}{})
}
