package main

import (
	"os"

	"github.com/spf13/cobra"

	"swage/reconcile/api"
)

// socketFlag adds the flag that names the agent on this machine.
func socketFlag(cmd *cobra.Command) *api.Socket {
	path := "/run/swage/agent.sock"
	if s := os.Getenv("SWAGE_SOCKET"); s != "" {
		path = s
	}
	cmd.Flags().StringVar(&path, "socket", path, "unix socket of the agent")
	return (*api.Socket)(&path)
}
