package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"swage/reconcile"
)

func getCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "get containers|projects|aliases",
		Short: "List what the agent on this machine knows",
		Long: `List the containers, projects or aliases of this server as the agent knows
them. A container is waiting, creating, copying, running, paused, stopped,
deleting, failed, held or drifted; the reason stands beside it.`,
		Example: `  swage get containers
  swage get aliases --output json`,
		Args:       cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs:  []string{"containers", "projects", "aliases"},
		ArgAliases: []string{"container", "project", "alias"},
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := socket.Status(cmd.Context())
		if err != nil {
			return err
		}
		switch args[0] {
		case "containers", "container":
			return printList(cmd, output, r.Containers, func(w *tabwriter.Writer) { printContainers(w, r.Containers) })
		case "projects", "project":
			return printList(cmd, output, r.Projects, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "PROJECT\tCONTAINERS\tSPARES\tARCHIVES\tID")
				for _, p := range r.Projects {
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", p.Name, p.Containers, p.Spares, p.Archives, p.ID)
				}
			})
		}
		return printList(cmd, output, r.Aliases, func(w *tabwriter.Writer) {
			fmt.Fprintln(w, "ALIAS\tCONTAINER\tPROGRAM\tURL")
			for _, a := range r.Aliases {
				fmt.Fprintf(w, "%s\t%s\t%s %d\t%s\n", a.Name, a.Container, a.Program, a.Port, a.URL)
			}
		})
	}
	return cmd
}

// printList prints a list as --output says: as rows, or as JSON.
func printList(cmd *cobra.Command, output string, list any, rows func(*tabwriter.Writer)) error {
	switch output {
	case "text":
		return printTable(cmd.OutOrStdout(), rows)
	case "json":
		return printJSON(cmd, list)
	}
	return fmt.Errorf("--output takes text or json, not %q", output)
}

// printTable aligns rows of the same number of cells, and ends no line with
// blanks.
func printTable(out io.Writer, rows func(*tabwriter.Writer)) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows(w)
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func printContainers(w *tabwriter.Writer, list []reconcile.ContainerReport) {
	fmt.Fprintln(w, "CONTAINER\tSTATE\tADDRESS\tURL\tREASON")
	for _, c := range list {
		url := ""
		if len(c.URLs) > 0 {
			url = c.URLs[0]
		}
		reason, _, _ := strings.Cut(strings.ReplaceAll(c.Reason, "\t", " "), "\n")
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\n", c.Project, c.Name, c.State, c.Address, url, reason)
	}
}
