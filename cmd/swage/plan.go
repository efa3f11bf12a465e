package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"swage/edge"
	"swage/reconcile"
	"swage/reconcile/git"
	"swage/runtime"
	"swage/schema"
)

// target is what plan and apply work on.
type target struct {
	server, socket, identities, state string
	folders                           []string
}

func (t *target) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.server, "server", "", "server of the fleet that this machine is (default: the only one)")
	cmd.Flags().StringVar(&t.socket, "incus-socket", "", "unix socket of the Incus daemon (default: as the fleet says, $INCUS_SOCKET, or where Incus has it)")
	cmd.Flags().StringVar(&t.state, "state-dir", schema.DefaultStateDir, "state_dir of the agent of this machine, whose ramdisks are below it")
	cmd.Flags().StringSliceVar(&t.folders, "secret-folder", []string{schema.DefaultSecretFolder}, "folder below which the repository may name files of this machine")
	cmd.Flags().StringVar(&t.identities, "age-identities", "", "file with the age keys that secrets are encrypted to")
}

func defaultIncusSocket() string {
	if s := os.Getenv("INCUS_SOCKET"); s != "" {
		return s
	}
	if dir := os.Getenv("INCUS_DIR"); dir != "" {
		return dir + "/unix.socket"
	}
	return "/var/lib/incus/unix.socket"
}

// keys are those of a command on a folder: its environment is that of the
// person who began it, who also chose the folder.
func (t *target) keys() (schema.Keys, error) {
	keys, _, err := fleetKeys(schema.Node{AgeIdentities: t.identities, SecretFolders: t.folders})
	keys.LookupEnv = os.LookupEnv
	return keys, err
}

// agent is one that works on a folder instead of a repository.
func (t *target) agent(ctx context.Context, args []string, open opener) (*reconcile.Agent, error) {
	tree, err := folder(args)
	if err != nil {
		return nil, err
	}
	if t.server == "" {
		f, err := schema.Load(ctx, tree)
		if err != nil {
			return nil, err
		}
		known := slices.Sorted(maps.Keys(f.Servers))
		if len(known) != 1 {
			return nil, fmt.Errorf("say which server this is with --server; the fleet has %s", strings.Join(known, ", "))
		}
		t.server = known[0]
	}
	keys, err := t.keys()
	if err != nil {
		return nil, err
	}
	return &reconcile.Agent{
		Server: t.server,
		Keys:   keys,
		Source: reconcile.Local{Tree: tree},
		Open: func(s runtime.Scope) (runtime.Runtime, error) {
			if t.socket != "" {
				s.Daemon = runtime.Daemon{Socket: t.socket}
			}
			return open(defaultIncusSocket(), onHost(s, t.state))
		},
		Log: slog.New(slog.DiscardHandler),
	}, nil
}

func planCommand(open opener) *cobra.Command {
	var t target
	var detailed bool
	var output, against string
	var n node
	cmd := &cobra.Command{
		Use:   "plan [DIR]",
		Short: "Show what a fleet repository would change",
		Long: `Compare the fleet repository in DIR (default: the current folder) with what
the Incus on this machine runs, and print the difference. With --against, and
no server at hand, compare it with an earlier revision of itself, for every
server. With --node, ask the agent of a server what it would do; its token
stands in SWAGE_TOKEN or in --token-file. Nothing is changed. The plan lists
who gains access and who loses it as well, with ! OPENS where somebody does who
is in no group. Exit code 0: done; 2: there are changes, of access too (with
--detailed-exitcode); 3: some are held; 1: an error.`,
		Example: `  swage plan
  swage plan --against origin/main --output markdown
  swage plan --node https://api.node-us.containers.example.com`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"text", "json", "markdown"}, output) {
				return fmt.Errorf("--output takes text, json or markdown, not %q", output)
			}
			clear := progress(cmd, undertaking(args, against, n))
			proposal, err := propose(cmd.Context(), t, args, against, n, open)
			clear()
			if err != nil {
				return problems(err)
			}
			if err := printProposal(cmd, proposal, output); err != nil {
				return err
			}
			switch {
			case proposal.Holds():
				return exitHeld
			case detailed && !proposal.Empty():
				return exitChanges
			}
			return nil
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVar(&against, "against", "", "revision to compare with, instead of Incus")
	cmd.Flags().StringVar(&n.url, "node", "", "URL of an agent's API that is asked, instead of Incus")
	cmd.Flags().StringVar(&n.tokenFile, "token-file", "", "file that holds the token for --node (default: SWAGE_TOKEN)")
	cmd.Flags().StringVar(&n.caFile, "ca", "", "PEM file of a certificate authority that --node is checked with, besides the system's")
	cmd.MarkFlagsMutuallyExclusive("node", "against")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there are changes")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or markdown")
	return cmd
}

func propose(ctx context.Context, t target, args []string, against string, n node, open opener) (reconcile.Proposal, error) {
	var out reconcile.Proposal
	if n.url != "" {
		return n.plan(ctx, args)
	}
	if against != "" {
		err := between(ctx, &out, t.server, args, against)
		return out, err
	}
	a, err := t.agent(ctx, args, open)
	if err != nil {
		return out, err
	}
	plan, err := a.Plan(ctx)
	if err != nil {
		out.Add(a.Server, plan, nil, a.Fleet())
		return out, err
	}
	before, access, unknown := accessSince(ctx, a, plan, dirOf(args))
	out.Add(a.Server, plan, access, a.Fleet())
	if out.Servers[0].AccessUnknown = unknown; unknown == "" {
		out.AddRights(before, a.Fleet())
	}
	return out, nil
}

// accessSince compares what a plan would allow with what the commit allows that
// was applied last. The repository that the plan is made of has that commit, as
// a rule; unknown says why it has not.
func accessSince(ctx context.Context, a *reconcile.Agent, plan reconcile.Plan, dir string) (before *schema.Fleet, access []edge.AccessChange, unknown string) {
	switch commit := a.Applied(); commit {
	case "":
	case reconcile.Folder:
		return nil, nil, "what was applied last came from a folder and not from a commit"
	default:
		old, err := git.Revision(dir, commit)
		if err == nil {
			before, err = schema.Load(ctx, old.Tree)
		}
		if err != nil {
			return nil, nil, fmt.Sprintf("the commit that was applied last, %s, cannot be read here: %v", short(commit), err)
		}
	}
	access, err := reconcile.AccessBetween(before, a.Fleet(), a.Server, plan, time.Now())
	if err != nil {
		return nil, nil, err.Error()
	}
	return before, access, ""
}

// between compares two revisions, for one server or for all of either.
func between(ctx context.Context, out *reconcile.Proposal, server string, args []string, against string) error {
	tree, err := folder(args)
	if err != nil {
		return err
	}
	var loader schema.Loader // the two have most files in common
	after, err := loader.Load(ctx, tree)
	if err != nil {
		return err
	}
	old, err := git.Revision(dirOf(args), against)
	if err != nil {
		return err
	}
	before, err := loader.Load(ctx, old.Tree)
	if err != nil {
		return fmt.Errorf("at %s: %w", against, err)
	}
	if refused := schema.Immutable(before, after); len(refused) > 0 {
		return refused
	}
	servers := maps.Clone(before.Servers)
	maps.Copy(servers, after.Servers)
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		if server == "" || server == name {
			plan := reconcile.Between(before, after, name)
			access, err := reconcile.AccessBetween(before, after, name, plan, time.Now())
			if err != nil {
				return err
			}
			out.Add(name, plan, access, after)
			out.AddRights(before, after)
		}
	}
	if len(out.Servers) == 0 {
		return fmt.Errorf("the fleet has no server %q", server)
	}
	return nil
}

func printProposal(cmd *cobra.Command, p reconcile.Proposal, output string) error {
	out := cmd.OutOrStdout()
	switch output {
	case "json":
		return printJSON(cmd, p)
	case "markdown":
		_, err := fmt.Fprint(out, p.Markdown())
		return err
	}
	colour := colourful(out)
	if v, ok := out.(visible); ok && colour { // the colours steer
		out = v.Writer
	}
	_, err := fmt.Fprint(out, p.Text(colour))
	return err
}

// colourful reports whether out is a terminal whose user did not refuse
// colour (https://no-color.org).
func colourful(out io.Writer) bool { return os.Getenv("NO_COLOR") == "" && terminal(out) }

func terminal(out io.Writer) bool {
	if v, ok := out.(visible); ok {
		out = v.Writer
	}
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// undertaking is what a plan is about to do.
func undertaking(args []string, against string, n node) string {
	switch {
	case n.url != "":
		return "asking the agent for the plan of " + dirOf(args)
	case against != "":
		return "comparing " + dirOf(args) + " with " + against
	}
	return "comparing " + dirOf(args) + " with what runs"
}

// progress tells at once that work has begun: on a terminal until it is done,
// elsewhere as a line of the log.
func progress(cmd *cobra.Command, what string) (clear func()) {
	out := cmd.ErrOrStderr()
	if !terminal(out) {
		fmt.Fprintln(out, what)
		return func() {}
	}
	fmt.Fprint(out, what+"…")
	return func() { fmt.Fprint(out, "\r\x1b[K") }
}

func printJSON(cmd *cobra.Command, v any) error {
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
