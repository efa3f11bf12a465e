package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"swage/reconcile"
)

// explain is for the socket only: its questions hold credentials, and its
// answers say what strangers must not know.
func (a API) explain(w http.ResponseWriter, r *http.Request) {
	var q reconcile.Question
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 256<<10)).Decode(&q); err != nil {
		problem(w, http.StatusBadRequest, "want a question as JSON")
		return
	}
	found, err := a.Explain(r.Context(), q)
	switch {
	case err == nil:
		answer(w, found)
	case errors.Is(err, reconcile.ErrNotObserved):
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		problem(w, http.StatusBadRequest, err.Error())
	}
}

// Explain asks what would become of a request.
func (s Socket) Explain(ctx context.Context, q reconcile.Question) (reconcile.Answer, error) {
	var out reconcile.Answer
	b, err := json.Marshal(q)
	if err != nil {
		return out, err
	}
	resp, err := s.do(ctx, http.MethodPost, "/api/v1/explain", bytes.NewReader(b))
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(resp.Body).Decode(&out)
}
