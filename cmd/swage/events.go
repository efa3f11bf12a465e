package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swage/reconcile"
)

func eventsCommand() *cobra.Command {
	var follow bool
	var output string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened on this server, and what happens",
		Long: `Print the events that the agent remembers, the oldest first: commits accepted,
rejected and ended, steps done and failed, drift, held deletions, and what was
put back on this host. With
--follow go on with those that come. JSON output has one event a line.`,
		Example: `  swage events
  swage events --follow --output json`,
		Args: cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "text" && output != "json" {
			return fmt.Errorf("--output takes text or json, not %q", output)
		}
		out := cmd.OutOrStdout()
		return socket.Events(cmd.Context(), 0, follow, func(e reconcile.Event) error {
			if output == "json" {
				return json.NewEncoder(out).Encode(e)
			}
			text := e.Text
			if e.Container != "" && !strings.Contains(text, e.Container) {
				text = e.Container + ": " + text
			}
			line := fmt.Sprintf("%s  %-15s  %s", e.Time.Local().Format(time.DateTime), e.Type, text)
			if e.Commit != "" {
				line += "  " + short(e.Commit)
			}
			if e.Error != "" {
				line += "\n  " + e.Error
			}
			_, err := fmt.Fprintln(out, line)
			return err
		})
	}
	return cmd
}
