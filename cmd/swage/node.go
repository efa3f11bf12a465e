package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/schema"
)

// node is an agent that is asked over HTTPS.
type node struct{ url, tokenFile, caFile string }

// plan checks the repository here first: mistakes then stand with their places
// whatever the node would say.
func (n node) plan(ctx context.Context, args []string) (reconcile.Proposal, error) {
	tree, err := folder(args)
	if err != nil {
		return reconcile.Proposal{}, err
	}
	if _, err := schema.Load(ctx, tree); err != nil {
		return reconcile.Proposal{}, err
	}
	to := api.Node{URL: n.url, Token: os.Getenv("SWAGE_TOKEN")}
	if n.tokenFile != "" {
		b, err := os.ReadFile(n.tokenFile)
		if err != nil {
			return reconcile.Proposal{}, err
		}
		to.Token = strings.TrimSpace(string(b))
	}
	if to.Token == "" {
		return reconcile.Proposal{}, errors.New("--node needs a token that allows plans, in SWAGE_TOKEN or --token-file; the server's file declares it under tokens")
	}
	if n.caFile != "" {
		if to.CA, err = os.ReadFile(n.caFile); err != nil {
			return reconcile.Proposal{}, err
		}
	}
	return to.Plan(ctx, tree)
}
