// Package api is the agent's HTTP API: on a unix socket for commands on the
// same machine, and behind tokens for everybody else.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"

	"swage/edge/limit"
	"swage/reconcile"
)

// API is what the agent answers with.
type API struct {
	// Report is the newest report.
	Report func() *reconcile.Report
	// Plan is what a fleet repository would change on this server.
	Plan func(context.Context, fs.FS) (reconcile.Proposal, error)
	// Events are those after an ID, and a channel closed when there is more.
	Events func(after int) ([]reconcile.Event, <-chan struct{})
	// Approve has the held deletions of a plan id done.
	Approve func(ctx context.Context, plan string) error
	// DeleteSnapshot removes a snapshot, or with an empty name an archive.
	DeleteSnapshot func(ctx context.Context, id, name string) error
	// Rollback pins a commit, Suspend leaves all as it is, Resume ends both.
	Rollback func(ctx context.Context, commit, reason string) error
	Suspend  func(ctx context.Context, reason string) error
	Resume   func(ctx context.Context) error
	// Retry does at once what waits to be tried again.
	Retry func(ctx context.Context) error
	// Explain is what would become of a request, and why.
	Explain func(context.Context, reconcile.Question) (reconcile.Answer, error)
	// CheckPush judges what is pushed to the agent's own repository, and
	// FollowPush tells what becomes of it. Nil: there is no such repository.
	CheckPush, FollowPush func(ctx context.Context, p Push, tell func(string)) error
	// Tokens are those that are good now.
	Tokens func() []Token
	// Guesses counts tokens that are not. Nil: nobody has to wait.
	Guesses *limit.Guesses
}

// Local is for whoever may open the socket. It answers
//
//	GET  /api/v1/status   the newest report
//	GET  /api/v1/events   server-sent events: after=ID, follow=false ends them
//	POST /api/v1/plan     the plan for the repository in the body, a zip archive
//	POST /api/v1/explain  what becomes of the request that a Question describes
//	POST /api/v1/approve  {"plan": ID}: do the held deletions of that plan
//	POST /api/v1/rollback {"commit": ID, "reason": TEXT}: pin a commit
//	POST /api/v1/suspend  {"reason": TEXT}: leave all as it is
//	POST /api/v1/resume   end what rollback and suspend began
//	POST /api/v1/retry    try again at once what waits for that
//	DELETE /api/v1/snapshots/{id}/{name}  a snapshot; an archive without a name
//	POST /api/v1/push/check and push/follow  for the hooks of the repository
//	GET  /healthz         200 while the process runs
//	GET  /readyz          200 once a pass has ended, else 503
//
// A repository with mistakes gets 422 and application/problem+json (RFC 9457)
// whose detail holds them, a line each.
func (a API) Local() http.Handler {
	mux := a.mux(func(_ string, h http.HandlerFunc) http.Handler { return h })
	mux.HandleFunc("POST /api/v1/explain", a.explain)
	mux.HandleFunc("POST /api/v1/approve", a.approve)
	mux.HandleFunc("POST /api/v1/rollback", a.rollback)
	mux.HandleFunc("POST /api/v1/suspend", a.suspend)
	mux.HandleFunc("POST /api/v1/retry", func(w http.ResponseWriter, r *http.Request) { acted(w, a.Retry(r.Context())) })
	mux.HandleFunc("POST /api/v1/resume", func(w http.ResponseWriter, r *http.Request) { acted(w, a.Resume(r.Context())) })
	mux.HandleFunc("POST /api/v1/push/check", push(a.CheckPush))
	mux.HandleFunc("POST /api/v1/push/follow", push(a.FollowPush))
	mux.HandleFunc("DELETE /api/v1/snapshots/{id}/{name...}", a.deleteSnapshot)
	return mux
}

// Remote answers what changes nothing to holders of a token that allows it:
// "read" the status and events, "plan" the plans. Health is open.
func (a API) Remote() http.Handler {
	return a.mux(func(right string, h http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if right == "" {
				h(w, r)
				return
			}
			ok, wait := a.allowed(r, right)
			switch {
			case ok && right == "read": // events have no end of their own
				ctx, cancel := a.whileHeld(r, right)
				defer cancel()
				h(w, r.WithContext(ctx))
				return
			case ok:
				h(w, r)
				return
			case wait > 0:
				w.Header().Set("Retry-After", limit.RetryAfter(wait))
				problem(w, http.StatusTooManyRequests, "there were too many wrong tokens from here; wait a moment")
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="swage"`)
			problem(w, http.StatusUnauthorized, "a token that allows "+right+" is needed, as Authorization: Bearer")
		})
	})
}

func (a API) mux(guard func(right string, h http.HandlerFunc) http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /api/v1/status", guard("read", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Report()) }))
	mux.Handle("GET /api/v1/events", guard("read", a.events))
	mux.Handle("POST /api/v1/plan", guard("plan", newPlans(a.Plan).ServeHTTP))
	mux.Handle("GET /healthz", guard("", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	mux.Handle("GET /readyz", guard("", func(w http.ResponseWriter, _ *http.Request) {
		if r := a.Report(); r.Commit == "" || r.Finished.IsZero() {
			problem(w, http.StatusServiceUnavailable, "no commit was applied yet")
			return
		}
		fmt.Fprintln(w, "ok")
	}))
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the caller went away
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
