package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"swage/reconcile/git"
)

func purgeCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Remove what no branch leads to from the agent's repository",
		Long: `Remove all commits, files and folders that no branch leads to from the
repository that the agent on this machine keeps: that of pushes, or the mirror
of a remote. Take a secret out of the branch first, with a forced push. Nothing
can be rolled back to what is removed, and a container that only a removed
commit declares has no route until it is deleted.

The secret stays known to whoever fetched it: replace it where it is used.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node, err := readNode(config)
			if err != nil {
				return err
			}
			found := false
			for _, dir := range git.Repositories(node.StateDir) {
				if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
					continue
				}
				found = true
				tips, err := git.Purge(cmd.Context(), dir)
				if err != nil {
					return err
				}
				for _, tip := range tips {
					fmt.Fprintln(cmd.OutOrStdout(), "removed", tip)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s holds what its branches lead to\n", dir)
			}
			if !found {
				return fmt.Errorf("there is no repository of the agent's in %s: it reads another one, where git gc --prune=now removes what no branch leads to", node.StateDir)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "/etc/swage/agent.cue", "the node file")
	return cmd
}
