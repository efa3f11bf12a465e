package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swage/reconcile"
	"swage/runtime"
)

func applyCommand(open opener) *cobra.Command {
	var t target
	var approve string
	cmd := &cobra.Command{
		Use:   "apply [DIR]",
		Short: "Make this machine equal to a fleet repository, once",
		Long: `Do what plan shows for the fleet repository in DIR (default: the current
folder), and print each step as it ends. Exit code 0: all is done; 3: all is
done but what is held; 1: an error.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := t.agent(cmd.Context(), args, open)
			if err != nil {
				return err
			}
			a.Holder = runtime.Self("swage apply")
			a.Approved = approve
			out := cmd.OutOrStdout()
			a.OnStep = func(s reconcile.StepReport) {
				if s.State == reconcile.Done {
					fmt.Fprintf(out, "%s: done in %d ms\n", s.Step, s.Millis)
				}
			}
			stop := showProgress(cmd.ErrOrStderr(), a)
			r, err := a.Pass(cmd.Context())
			stop()
			for _, h := range r.Held {
				// There is no agent to ask: the same command approves.
				fmt.Fprintf(out, "! held: %s: %s\n", h.What, strings.ReplaceAll(h.Why, "swage approve ", "swage apply --approve "))
			}
			for _, s := range r.Steps {
				if s.State == reconcile.Skipped {
					fmt.Fprintf(out, "%s: skipped, %s\n", s.Step, s.Error)
				}
			}
			if err != nil {
				return problems(err)
			}
			if len(r.Held) > 0 {
				return exitHeld
			}
			if len(r.Steps) == 0 {
				fmt.Fprintln(out, "no changes")
			}
			return nil
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVar(&approve, "approve", "", "id of a plan whose held deletions are done")
	return cmd
}

// showProgress shows what an agent does, on a terminal, until stopped.
func showProgress(out io.Writer, a *reconcile.Agent) (stop func()) {
	if !terminal(out) {
		return func() {}
	}
	line, end, ended := newProgress(out), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				line.clear()
				return
			case <-tick.C:
				line.show(doing(a.Report()))
			}
		}
	}()
	return func() { close(end); <-ended }
}
