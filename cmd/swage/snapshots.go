package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func snapshotsCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "snapshots",
		Short: "List snapshots, and the archives of deleted containers",
		Long: `List the snapshots of containers, and the archives of those that were deleted
with the time until which they are kept. A commit that declares the id of an
archive brings the container back with its data; one with
copy_from: {archive: "<id>"} makes another container from it.`,
		Args: cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := socket.Status(cmd.Context())
		if err != nil {
			return err
		}
		return printList(cmd, output, r.Snapshots, func(w *tabwriter.Writer) {
			fmt.Fprintln(w, "CONTAINER\tID\tSNAPSHOT\tTAKEN\tEXPIRES")
			for _, s := range r.Snapshots {
				ref, expires := s.Container, "never"
				if s.Archive {
					ref += " (deleted)"
				}
				if !s.Expires.IsZero() {
					expires = s.Expires.Local().Format(time.DateTime)
				}
				name, taken := "-", "-"
				if s.Name != "" {
					name, taken = s.Name, s.Taken.Local().Format(time.DateTime)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", ref, s.ID, name, taken, expires)
			}
		})
	}
	cmd.AddCommand(deleteSnapshotCommand())
	return cmd
}

func deleteSnapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete CONTAINER [SNAPSHOT]",
		Short: "Delete a snapshot, or the whole archive of a deleted container",
		Long: `Delete a snapshot of a container or of an archive, named by its id or as
PROJECT/CONTAINER. Without a snapshot, delete the archive with all that was kept
of it. Its data is gone.`,
		Example: `  swage snapshots delete 890abcdef12345678901cdef snap3`,
		Args:    cobra.RangeArgs(1, 2),
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) > 1 {
			name = args[1]
		}
		return socket.DeleteSnapshot(cmd.Context(), args[0], name)
	}
	return cmd
}
