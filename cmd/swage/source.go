package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"swage/edge/limit"
	"swage/reconcile"
	"swage/reconcile/api"
	"swage/reconcile/git"
	"swage/schema"
)

// sourceOf is where the node file says that commits come from.
func sourceOf(ctx context.Context, node schema.Node, keys schema.Keys, log *slog.Logger) (reconcile.Source, error) {
	s := node.Source
	if s.Path == "" { // else it is somebody else's
		last, err := memory(filepath.Join(node.StateDir, "accepted")).Load()
		if err != nil {
			return nil, err
		}
		for _, dir := range git.Repositories(node.StateDir) {
			done, err := git.Recover(ctx, dir, s.Branch, last)
			for _, what := range done {
				log.Warn("recovered after a crash", "repository", dir, "what", what)
			}
			if err != nil { // what uses it says what it lacks
				log.Error("the repository cannot be recovered", "err", err)
			}
		}
	}
	if s.Push {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if err := git.Prepare(ctx, fleetRepository(node), s.Branch, self, "hook", "--socket", node.Socket); err != nil {
			return nil, err
		}
		return named(git.Follow(fleetRepository(node), s.Branch, s.Folder), node), nil
	}
	if s.Path != "" {
		return named(git.Follow(s.Path, s.Branch, s.Folder), node), nil
	}
	o := git.RemoteOptions{
		URL: s.URL, Branch: s.Branch, Folder: s.Folder, Username: s.Username, CA: s.CA,
		SSHKey: s.SSHKey, KnownHosts: s.KnownHosts, Every: s.Poll, State: node.StateDir, Log: log,
		Certificate: s.ClientCertificate, Key: s.ClientKey,
	}
	if !s.Token.IsZero() { // read anew each time: tokens are exchanged under a running agent
		o.Password = func() (string, error) { return s.Token.Reveal(keys) }
	}
	r, err := git.NewRemote(o)
	if err == nil {
		r.Local = named(r.Local, node)
	}
	return r, err
}

// named holds a repository to as many files as the node file allows.
func named(l git.Local, node schema.Node) git.Local {
	l.Names = node.Limits.Files
	return l
}

// fleetRepository is where pushes go.
func fleetRepository(node schema.Node) string { return filepath.Join(node.StateDir, "fleet.git") }

// gitHost answers at the host "git": to forges, and where there is a repository
// of the agent's own, to those who push to it.
func gitHost(own *git.Server, source reconcile.Source, secrets func() map[string]string, guesses *limit.Guesses) http.Handler {
	mux := http.NewServeMux()
	wake := func() {} // a repository here is watched
	if r, ok := source.(*git.Remote); ok {
		wake = r.Wake
	}
	mux.Handle("POST /hooks/git", git.Webhook(secrets, wake, guesses))
	if own != nil {
		mux.Handle("/", own)
	}
	return mux
}

// pushSSH takes pushes over SSH, where the node file says so.
type pushSSH struct {
	*git.SSH
	listener net.Listener
}

func listenSSH(node schema.Node, own *git.Server, answers api.API, log *slog.Logger) (*pushSSH, error) {
	if own == nil || node.Source.SSH.Listen == "" {
		return nil, nil
	}
	host, err := git.HostKey(filepath.Join(node.StateDir, "ssh_host_ed25519_key"))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", node.Source.SSH.Listen)
	if err != nil {
		return nil, fmt.Errorf("source.ssh: %w", err)
	}
	s := &git.SSH{Server: own, Host: host, Log: log, Allow: func(key []byte, right string) (git.Visitor, bool) {
		return visitor(answers.HoldsKey(key, right))
	}}
	log.Info("listening for git over ssh", "address", l.Addr().String(), "host_key", s.Fingerprint())
	return &pushSSH{s, l}, nil
}

// report is what "swage status" shows of it.
func (p *pushSSH) report() *reconcile.SSH {
	if p == nil {
		return nil
	}
	return &reconcile.SSH{Address: p.listener.Addr().String(), HostKey: p.Fingerprint()}
}
