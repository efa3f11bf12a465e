package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/schema"
)

func statusCommand() *cobra.Command {
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the agent on this machine knows and does",
		Long: `Ask the agent on this machine for the commit that it applies, the steps of
the last change, and every container with its state and address. With --watch
show it until nothing is being done any more. Exit code 0: the newest commit is
applied or being applied, or stands back because a person said so; 3: something
is held; 1: it failed, was rolled back or rejected, the source cannot be read,
or no agent answers.`,
		Args: cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "until nothing is being done any more")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := socket.Status(cmd.Context())
		if err != nil {
			return err
		}
		if watch {
			if r, err = follow(cmd, *socket, r); err != nil {
				return err
			}
		}
		switch output {
		case "text":
			printStatus(cmd, r)
		case "json":
			if err := printJSON(cmd, r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("--output takes text or json, not %q", output)
		}
		switch {
		case r.Source != "" || r.Rejected != nil || r.State == reconcile.Failed || r.State == reconcile.RolledBack:
			return exit(1)
		case len(r.Held) > 0:
			return exitHeld
		}
		return nil
	}
	return cmd
}

// follow shows progress until the agent is at rest: on a terminal one line
// that changes, elsewhere nothing.
func follow(cmd *cobra.Command, socket api.Socket, r *reconcile.Report) (*reconcile.Report, error) {
	line := newProgress(cmd.ErrOrStderr())
	defer line.clear()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for r.State == reconcile.Pending || r.State == reconcile.Applying || r.State == reconcile.Interrupted || r.State == reconcile.Superseded || r.RollsBack {
		line.show(doing(r))
		select {
		case <-cmd.Context().Done():
			return nil, cmd.Context().Err()
		case <-tick.C:
		}
		var err error
		if r, err = socket.Status(cmd.Context()); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func printStatus(cmd *cobra.Command, r *reconcile.Report) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "server %s, commit %s: %s\n", r.Server, short(r.Commit), r.Outcome())
	if s := r.Standing; s != nil {
		fmt.Fprintf(out, "  %s\n", stands(*s, r.Newest))
	}
	if r.Error != "" {
		fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(r.Error, "\n", "\n  "))
	}
	if r.Source != "" {
		fmt.Fprintf(out, "the source cannot be read; what runs is left as it is:\n  %s\n", strings.ReplaceAll(r.Source, "\n", "\n  "))
	}
	if r.Rejected != nil {
		fmt.Fprintf(out, "commit %s is rejected; what runs is left as it is:\n  %s\n",
			short(r.Rejected.Commit), strings.ReplaceAll(r.Rejected.Error, "\n", "\n  "))
	}
	for _, s := range r.Steps {
		line := fmt.Sprintf("  %s: %s", s.Step, s.State)
		if why := cmp.Or(s.Error, s.Phase); why != "" {
			line += ": " + why
		}
		fmt.Fprintln(out, line)
	}
	for _, h := range r.Held {
		fmt.Fprintf(out, "  held: %s: %s\n", h.What, h.Why)
	}
	for _, c := range r.Conflicts {
		fmt.Fprintf(out, "  conflict: %s\n", c.Why)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(out, "  warning: %s\n", w)
	}
	if c := r.ClientAddresses; c != nil && !c.Own {
		fmt.Fprintf(out, "  containers see the edge's address in the place of their callers': %s\n", c.Why)
	}
	if r.SSH != nil {
		fmt.Fprintf(out, "  git over ssh at %s, host key %s\n", r.SSH.Address, r.SSH.HostKey)
	}
	for _, o := range r.StaysOpen {
		fmt.Fprintf(out, "  %s stays open, although its project has enable_proxy: false (%s)\n", o.Field, o.At)
	}
	for _, d := range r.Drift {
		fmt.Fprintf(out, "  drift: %s was changed behind swage's back: %s\n", d.Ref, strings.Join(d.Changed, ", "))
	}
	if len(r.Containers) > 0 {
		_ = printTable(out, func(w *tabwriter.Writer) { printContainers(w, r.Containers) })
	}
}

func short(commit string) string {
	if commit == "" {
		return "none"
	}
	return commit[:min(len(commit), 12)]
}

// problems takes the author's problems out of what wraps them, so that each
// line printed begins with its place.
func problems(err error) error {
	var ps schema.Problems
	if errors.As(err, &ps) {
		return ps
	}
	return err
}
