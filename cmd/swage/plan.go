package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

// target is what plan and apply work on.
type target struct{ server, socket string }

func (t *target) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.server, "server", "", "server of the fleet that this machine is (default: the only one)")
	cmd.Flags().StringVar(&t.socket, "incus-socket", defaultIncusSocket(), "unix socket of the Incus daemon")
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
	return &reconcile.Agent{
		Server: t.server,
		Source: reconcile.Local{Tree: tree},
		Open:   func(s runtime.Scope) (runtime.Runtime, error) { return open(t.socket, s) },
		Log:    slog.New(slog.DiscardHandler),
	}, nil
}

func planCommand(open opener) *cobra.Command {
	var t target
	var detailed bool
	var output string
	cmd := &cobra.Command{
		Use:   "plan [DIR]",
		Short: "Show what apply would do on this machine",
		Long: `Compare the fleet repository in DIR (default: the current folder) with what
the Incus on this machine runs, and print the difference. Nothing is changed.
Exit code 0: done; 2: there are changes (with --detailed-exitcode); 3: some
are held; 1: an error.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := t.agent(cmd.Context(), args, open)
			if err != nil {
				return err
			}
			plan, err := a.Plan(cmd.Context())
			if err != nil {
				return problems(err)
			}
			if err := printPlan(cmd, plan, output); err != nil {
				return err
			}
			switch {
			case len(plan.Held) > 0:
				return exitHeld
			case detailed && !plan.Empty():
				return exitChanges
			}
			return nil
		},
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there are changes")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printPlan(cmd *cobra.Command, plan reconcile.Plan, output string) error {
	switch output {
	case "text":
		_, err := fmt.Fprint(cmd.OutOrStdout(), plan)
		return err
	case "json":
		return printJSON(cmd, plan)
	}
	return fmt.Errorf("--output takes text or json, not %q", output)
}

func printJSON(cmd *cobra.Command, v any) error {
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}
