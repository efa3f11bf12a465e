package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"swage/edge"
	"swage/edge/certs"
	"swage/edge/credentials"
	"swage/edge/limit"
	"swage/reconcile"
	"swage/reconcile/api"
	"swage/reconcile/git"
	"swage/runtime"
	"swage/schema"
)

func readNode(file string) (schema.Node, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return schema.Node{}, fmt.Errorf("node file: %w", err)
	}
	return schema.LoadNode(file, src)
}

func agentCommand(open opener) *cobra.Command {
	var config, format string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Follow the fleet repository and serve its containers, until stopped",
		Long: `Keep this server equal to the branch that the node file names, and serve its
containers over HTTPS. Sockets that are passed in (LISTEN_FDS, as systemd
does) are used for HTTPS instead of those the server's file names.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node, err := readNode(config)
			if err != nil {
				return err
			}
			log, flush, err := newLog(cmd.ErrOrStderr(), format)
			if err != nil {
				return err
			}
			defer flush()
			return serve(cmd.Context(), node, log, open)
		},
	}
	cmd.Flags().StringVar(&config, "config", "/etc/swage/agent.cue", "the node file")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

// firstTable is how long sockets that were passed in wait for the first table.
// Later there is a 503.
const firstTable = 5 * time.Second

// serve joins the loop, the edge and the API; the first that fails ends all.
func serve(ctx context.Context, node schema.Node, log *slog.Logger, open opener) error {
	// First of all: beside another agent nothing may be done.
	socket, err := api.Listen(node.Socket)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := os.MkdirAll(node.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	ca, err := certs.Open(filepath.Join(node.StateDir, "ca"))
	if err != nil {
		return err
	}
	// For people and their tools; the key stays where only the agent reads.
	if err := os.WriteFile(filepath.Join(node.StateDir, "ca.crt"), ca.PEM(), 0o644); err != nil {
		return err
	}
	inherited, datagrams, err := inheritedSockets()
	if err != nil {
		return err
	}
	keys, secrets, err := fleetKeys(node)
	if err != nil {
		return err
	}
	source, err := sourceOf(ctx, node, nodeKeys(), log)
	if err != nil {
		return err
	}
	agent := &reconcile.Agent{
		Server: node.Server,
		Source: source,
		Open: func(s runtime.Scope) (runtime.Runtime, error) {
			s, err := ownDaemon(node, s)
			if err != nil {
				return nil, err
			}
			return open(node.Incus.Socket, onHost(s, node.StateDir))
		},
		Loader:   schema.Loader{Limits: node.Limits},
		Keys:     keys,
		Accepted: memory(filepath.Join(node.StateDir, "accepted")),
		Signers:  node.Signers,
		Token:    !node.Token.IsZero(),
		Trusted:  memory(filepath.Join(node.StateDir, "signers.json")),
		Holder:   runtime.Self("the agent"),

		Unsynchronised: unsynchronised,
		Log:            log,
		OnStep: func(s reconcile.StepReport) {
			if s.Error != "" {
				log.Error("step failed", "step", s.Step, "err", s.Error)
				return
			}
			log.Info("step", "step", s.Step, "ms", s.Millis)
		},
	}
	known := &tokens{node: node, keys: keys, fleet: agent.Fleet, log: log}
	checker := verifier{credentials.New(credentials.Options{AllowPrivate: node.AllowPrivateJWKS})}
	certificates := certs.New(ca, filepath.Join(node.StateDir, "acme"), certificateFolders(node).Read, log)
	defer certificates.Close()
	hooks := webhooks{server: node.Server, keys: keys, fleet: agent.Fleet, log: log}
	guesses := limit.NewGuesses()
	conns := limit.NewConns(limit.DefaultCaps(uint64(groupLimit("/proc/self/cgroup", "/sys/fs/cgroup"))), log)
	var ssh *pushSSH
	answers := api.API{
		// Certificates come and go between passes.
		Report: func() *reconcile.Report {
			r := *agent.Report()
			r.SSH = ssh.report()
			r.Warnings = slices.Concat(r.Warnings, certificates.Warnings(), conns.Warnings())
			return &r
		},
		Plan:   agent.PlanFor,
		Events: agent.Events, Approve: agent.Approve, DeleteSnapshot: agent.DeleteSnapshot,
		Rollback: agent.Rollback, Suspend: agent.Suspend, Resume: agent.Resume, Retry: agent.Retry,
		Tokens: known.list, Guesses: guesses,
		Explain: func(ctx context.Context, q reconcile.Question) (reconcile.Answer, error) {
			return agent.Explain(ctx, checker, q)
		},
	}
	var own *git.Server
	if local, ok := source.(git.Local); ok && node.Source.Push {
		p := pushes{agent, local, node.Source.Branch, known, log}
		answers.CheckPush, answers.FollowPush = p.check, p.follow
		own = git.NewServer(local.Path, func(token, right string) (git.Visitor, bool) { return visitor(answers.Holds(token, right)) }, log)
		own.Guesses = guesses
	}
	if ssh, err = listenSSH(node, own, answers, log); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	front := &front{
		ctx: ctx, group: g, log: log, certs: certificates, keys: keys,
		certificates: certificateFolders(node), programs: node.Programs, services: node.LocalServices, nodeKeys: nodeKeys(), open: map[endpoint]context.CancelFunc{},
	}
	quicSecret, err := keptSecret(filepath.Join(node.StateDir, "quic.key"))
	if err != nil {
		return err
	}
	front.proxy = edge.NewProxy(edge.Options{
		Logger: log, API: answers.Remote(), Git: gitHost(own, source, hooks.list, guesses),
		Guesses: guesses, Conns: conns, Verifier: checker, Transparent: &front.path, QUICSecret: quicSecret,
		Pending: certificates.Pending, Strict: certificates.Public, Challenge: certificates.Challenge,
	})
	agent.ClientAddresses = front.path.Fault
	front.path.OnRepair = func(what string) { agent.Repaired(runtime.Repair{What: what}) }
	published := make(chan struct{})
	once := sync.OnceFunc(func() { close(published) })
	agent.Publish = func(e reconcile.Edge) error {
		defer once()
		return front.publish(e)
	}
	defer front.forgetClients()
	for _, l := range inherited {
		if !front.inherited {
			front.inherited, front.tlsAddr = true, l.Addr().String()
			front.setPort(front.tlsAddr)
		}
		_, agent.Port, _ = net.SplitHostPort(l.Addr().String())
	}
	g.Go(func() error { tuneHeap(ctx); return nil })
	g.Go(func() error {
		// Who came since the process before has ended is led by a table.
		select {
		case <-published:
		case <-time.After(firstTable):
		case <-ctx.Done():
		}
		for _, l := range inherited {
			front.serve(ctx, l)
		}
		for _, conn := range datagrams {
			front.serveQUIC(ctx, conn)
		}
		return nil
	})
	g.Go(func() error { return front.watchClients(ctx) })
	g.Go(func() error { return agent.Run(ctx) })
	g.Go(func() error { secrets.Run(ctx, agent.SecretsChanged); return nil })
	g.Go(func() error { return deliver(ctx, agent, "the status of a commit", log, tellForge(agent, keys)) })
	g.Go(func() error { return deliver(ctx, agent, "events", log, tellEvents(agent, keys)) })
	if ssh != nil {
		g.Go(func() error { return ssh.Serve(ctx, ssh.listener) })
	}
	g.Go(func() error { return api.Serve(ctx, socket, answers.Local(), log) })
	log.Info("agent started", "server", node.Server, "source", cmp.Or(node.Source.Path, node.Source.URL, fleetRepository(node)), "branch", node.Source.Branch)
	return g.Wait()
}

// unsynchronised asks the kernel, as timedatectl does (adjtimex(2)).
func unsynchronised() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state == unix.TIME_ERROR
}
