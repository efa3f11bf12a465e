package main

import (
	"github.com/spf13/cobra"
)

func approveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve PLAN|COMMIT",
		Short: "Have held deletions done, or a rewritten history accepted",
		Long: `Tell the agent on this machine to delete the containers that it holds back
because a commit would delete many at once. PLAN is the id that plan, status and
push print: it stands for exactly these containers, whatever the commit. A
commit can approve what it takes away itself, with a trailer
"Swage-Allow-Delete: <server> <number>"; a fleet of one server needs no name.

Where commits must be signed, only what was made on top of the last accepted
commit is applied. COMMIT, a whole hash, names one that may take its place all
the same, once: history was rewritten, or its repository was lost. It must be
signed like any other. Approve it first, then push it.`,
		Example: `  swage approve 8014bc3276a2
  swage approve 6c1f0a9e4b7d2358c6a1f0e9d8b7a6c5e4d3f2b1`,
		Args: cobra.ExactArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return socket.Approve(cmd.Context(), args[0])
	}
	return cmd
}
