package main

import (
	"github.com/spf13/cobra"
)

func approveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve PLAN",
		Short: "Have held deletions done",
		Long: `Tell the agent on this machine to delete the containers that it holds back
because a commit would delete many at once. PLAN is the id that plan, status and
push print: it stands for exactly these containers, whatever the commit. A
commit can approve by itself with a trailer "Swage-Allow-Delete: <number>".`,
		Example: `  swage approve 8014bc3276a2`,
		Args:    cobra.ExactArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return socket.Approve(cmd.Context(), args[0])
	}
	return cmd
}
