package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/schema"
)

func statusCommand() *cobra.Command {
	var socket, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the agent on this machine knows and does",
		Long: `Ask the agent on this machine for the commit that it applies, the steps of
the last change, and every container with its state and address. Exit code 0:
the newest commit is applied or being applied; 3: something is held; 1: it
failed, was rejected, or no agent answers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := api.Status(cmd.Context(), socket)
			if err != nil {
				return err
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
			case r.Rejected != nil || r.State == reconcile.Failed:
				return exit(1)
			case len(r.Held) > 0:
				return exitHeld
			}
			return nil
		},
	}
	fallback := "/run/swage/agent.sock"
	if s := os.Getenv("SWAGE_SOCKET"); s != "" {
		fallback = s
	}
	cmd.Flags().StringVar(&socket, "socket", fallback, "unix socket of the agent")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printStatus(cmd *cobra.Command, r *reconcile.Report) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "server %s, commit %s: %s\n", r.Server, short(r.Commit), r.State)
	if r.Error != "" {
		fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(r.Error, "\n", "\n  "))
	}
	if r.Rejected != nil {
		fmt.Fprintf(out, "commit %s is rejected; what runs is left as it is:\n  %s\n",
			short(r.Rejected.Commit), strings.ReplaceAll(r.Rejected.Error, "\n", "\n  "))
	}
	for _, s := range r.Steps {
		line := fmt.Sprintf("  %s: %s", s.Step, s.State)
		if s.Error != "" {
			line += ": " + s.Error
		}
		fmt.Fprintln(out, line)
	}
	for _, h := range r.Held {
		fmt.Fprintf(out, "  held: %s: %s\n", h.What, h.Why)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range r.Containers {
		url := ""
		if len(c.URLs) > 0 {
			url = c.URLs[0]
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\n", c.Project, c.Name, c.Status, c.Address, url)
	}
	w.Flush()
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
