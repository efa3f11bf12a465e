package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swage/reconcile/api"
	"swage/reconcile/git"
)

// hookCommand is what the hooks of the agent's repository run. Whatever goes
// wrong in it refuses the push. Git reads its standard output.
func hookCommand(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use: "hook", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Ask the agent about a push (run by git)",
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch args[0] {
		case "pre-receive":
			return preReceive(cmd, *socket)
		case "proc-receive":
			return procReceive(cmd, stdout, *socket)
		}
		return fmt.Errorf("there is no hook %q", args[0])
	}
	return cmd
}

func preReceive(cmd *cobra.Command, socket api.Socket) error {
	updates, err := git.ReadUpdates(cmd.InOrStdin())
	if err != nil {
		return err
	}
	if len(updates) != 1 {
		return errors.New("push one branch at a time")
	}
	u := updates[0]
	return socket.CheckPush(cmd.Context(), api.Push{
		Ref: u.Ref, Old: u.Old, New: u.New, Quarantine: cmp.Or(os.Getenv("GIT_QUARANTINE_PATH"), os.Getenv("GIT_OBJECT_DIRECTORY")),
		By: os.Getenv(git.EnvVisitor), Realm: os.Getenv(git.EnvRealm),
	}, teller(cmd))
}

// procReceive moves the branch, which is the agent's sign to begin, and shows
// what becomes of it.
func procReceive(cmd *cobra.Command, stdout io.Writer, socket api.Socket) error {
	return git.ProcReceive(cmd.InOrStdin(), stdout, func(u git.Update, options []string) error {
		wait := true
		for _, o := range options {
			switch o {
			case "wait=false":
				wait = false
			case "wait=true":
			default:
				return fmt.Errorf("the push option %q is not known; wait=false is", o)
			}
		}
		since := time.Now()
		if err := git.Move(cmd.Context(), u); err != nil {
			return err
		}
		if !wait {
			teller(cmd)("accepted; swage status on the server tells what becomes of it")
			return nil
		}
		return socket.FollowPush(cmd.Context(), api.Push{Ref: u.Ref, Old: u.Old, New: u.New, Since: since, Realm: os.Getenv(git.EnvRealm)}, teller(cmd))
	})
}

// teller writes lines to the pusher's terminal: git passes on what a hook says.
func teller(cmd *cobra.Command) func(string) {
	return func(text string) { fmt.Fprintln(visible{cmd.ErrOrStderr()}, strings.TrimRight(text, "\n")) }
}
