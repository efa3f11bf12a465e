package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/reconcile/git"
	"swage/schema"
)

// sourceOf is where the node file says that commits come from.
func sourceOf(ctx context.Context, node schema.Node, keys schema.Keys, log *slog.Logger) (reconcile.Source, error) {
	s := node.Source
	if s.Push {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if err := git.Prepare(ctx, fleetRepository(node), s.Branch, self, "hook", "--socket", node.Socket); err != nil {
			return nil, err
		}
		return git.Follow(fleetRepository(node), s.Branch, s.Folder), nil
	}
	if s.Path != "" {
		return git.Follow(s.Path, s.Branch, s.Folder), nil
	}
	o := git.RemoteOptions{
		URL: s.URL, Branch: s.Branch, Folder: s.Folder, Username: s.Username, CA: s.CA,
		SSHKey: s.SSHKey, KnownHosts: s.KnownHosts, Every: s.Poll, State: node.StateDir, Log: log,
		Certificate: s.ClientCertificate, Key: s.ClientKey,
	}
	if !s.Token.IsZero() { // read anew each time: tokens are exchanged under a running agent
		o.Password = func() (string, error) { return s.Token.Reveal(keys) }
	}
	return git.NewRemote(o)
}

// fleetRepository is where pushes go.
func fleetRepository(node schema.Node) string { return filepath.Join(node.StateDir, "fleet.git") }

// gitHost answers at the host "git".
func gitHost(node schema.Node, answers api.API, source reconcile.Source, secrets func() map[string]string, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	wake := func() {} // a repository here is watched
	if r, ok := source.(*git.Remote); ok {
		wake = r.Wake
	}
	mux.Handle("POST /hooks/git", git.Webhook(secrets, wake))
	if node.Source.Push {
		mux.Handle("/", git.NewServer(fleetRepository(node), answers.Holds, log))
	}
	return mux
}
