package main

import (
	"log/slog"

	"swage/reconcile"
	"swage/reconcile/git"
	"swage/schema"
)

// sourceOf is where the node file says that commits come from.
func sourceOf(node schema.Node, keys schema.Keys, log *slog.Logger) (reconcile.Source, error) {
	s := node.Source
	if s.Path != "" {
		return git.Follow(s.Path, s.Branch, s.Folder), nil
	}
	o := git.RemoteOptions{
		URL: s.URL, Branch: s.Branch, Folder: s.Folder, Username: s.Username, CA: s.CA,
		SSHKey: s.SSHKey, KnownHosts: s.KnownHosts, Every: s.Poll, State: node.StateDir, Log: log,
	}
	if !s.Token.IsZero() { // read anew each time: tokens are exchanged under a running agent
		o.Password = func() (string, error) { return s.Token.Reveal(keys) }
	}
	return git.NewRemote(o)
}
