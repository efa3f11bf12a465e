package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swage/reconcile"
)

func rollbackCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "rollback COMMIT",
		Short: "Pin this server to an earlier commit, until swage resume",
		Long: `Have the agent on this machine apply COMMIT instead of the newest one, all of
it, permissions included. COMMIT is a whole hash, or the beginning of one that
swage history shows. What is pushed meanwhile is accepted and not applied.
Deletions are held as ever.`,
		Example: `  swage rollback 8014bc3276a2 --reason "the new image does not start"`,
		Args:    cobra.ExactArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the status")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return socket.Rollback(cmd.Context(), args[0], reason)
	}
	return cmd
}

func suspendCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend",
		Short: "Leave everything on this server as it is, until swage resume",
		Long: `Have the agent on this machine change nothing: no commit is applied, and what is
changed by hand is not put back. The edge goes on serving. What is pushed
meanwhile is accepted and not applied.`,
		Example: `  swage suspend --reason "disk is being replaced"`,
		Args:    cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the status")
	_ = cmd.MarkFlagRequired("reason")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return socket.Suspend(cmd.Context(), reason) }
	return cmd
}

func resumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Apply the newest commit again",
		Long: `End what swage rollback and swage suspend began, and a rollback that the agent
made by itself because a commit failed: the newest commit is applied.`,
		Args: cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return socket.Resume(cmd.Context()) }
	return cmd
}

func retryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Try again at once what failed or waits for a secret",
		Long: `Have the agent on this machine do at once what it would try again later, and
read the secrets of this machine again. It does that by itself, too: steps are
repeated after a pause that grows to two minutes, and files of secrets are looked
at every second.`,
		Example: `  swage retry && swage status --watch`,
		Args:    cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return socket.Retry(cmd.Context()) }
	return cmd
}

func historyCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List what became of the last commits on this server",
		Args:  cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := socket.Status(cmd.Context())
		if err != nil {
			return err
		}
		return printList(cmd, output, r.History, func(w *tabwriter.Writer) {
			fmt.Fprintln(w, "COMMIT\tSTATE\tAT\t")
			for _, e := range r.History {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", short(e.Commit), e.State, e.At.Local().Format(time.DateTime), e.Error)
				for _, ref := range e.Deleted {
					fmt.Fprintf(w, "\tdeleted\t\t%s\n", ref)
				}
			}
		})
	}
	return cmd
}

// stands says in a line why another commit than the newest is in force.
func stands(s reconcile.Standing, newest string) string {
	why := ""
	if s.Reason != "" {
		why = ": " + s.Reason
	}
	since := s.Since.Local().Format(time.DateTime)
	switch s.Mode {
	case reconcile.ModeRolledBack:
		return fmt.Sprintf("rolled back to %s at %s, until the next commit or swage resume%s", short(s.Commit), since, why)
	case reconcile.ModeSuspended:
		return fmt.Sprintf("suspended at %s, and %s is not applied until swage resume%s", since, short(newest), why)
	default:
		return fmt.Sprintf("pinned to it at %s, and %s is not applied until swage resume%s", since, short(newest), why)
	}
}
