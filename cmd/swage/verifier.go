package main

import (
	"context"
	"time"

	"swage/edge"
	"swage/edge/credentials"
)

// verifier lets the edge ask the checker, of which it knows nothing.
type verifier struct{ *credentials.Checker }

func (v verifier) JWT(ctx context.Context, rules *edge.JWTRules, token string) (time.Time, bool, error) {
	return v.Checker.JWT(ctx, (*credentials.Rules)(rules), token)
}
