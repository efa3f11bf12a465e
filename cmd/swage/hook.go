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
	u, others, err := oneBranch(updates)
	if err != nil {
		return err
	}
	tellOthers(others, teller(cmd))
	var refused []string
	for _, o := range others {
		if !o.Deletes() {
			refused = append(refused, o.New)
		}
	}
	return socket.CheckPush(cmd.Context(), api.Push{
		Ref: u.Ref, Old: u.Old, New: u.New, Others: refused, Quarantine: cmp.Or(os.Getenv("GIT_QUARANTINE_PATH"), os.Getenv("GIT_OBJECT_DIRECTORY")),
		By: os.Getenv(git.EnvVisitor), Realm: os.Getenv(git.EnvRealm),
	}, teller(cmd))
}

// oneBranch is the branch of a push and what else it brings: git refuses that by
// itself, each by its name, since nothing but branches is shown (see
// git.Prepare). A push without a branch is the first of its updates.
func oneBranch(updates []git.Update) (branch git.Update, others []git.Update, err error) {
	n := 0
	for _, u := range updates {
		if !u.OfBranch() {
			others = append(others, u)
			continue
		}
		branch = u
		n++
	}
	switch {
	case n > 1 || len(updates) == 0:
		return branch, nil, errors.New("push one branch at a time")
	case n == 0:
		return others[0], nil, nil
	}
	return branch, others, nil
}

// mostOthers are named to a pusher; git's own report names all.
const mostOthers = 5

func tellOthers(others []git.Update, tell func(string)) {
	for i, u := range others {
		if i == mostOthers {
			tell(fmt.Sprintf("swage: and %d more are not taken", len(others)-i))
			return
		}
		name, what := u.Ref, "ref"
		if tag, ok := strings.CutPrefix(u.Ref, "refs/tags/"); ok {
			name, what = tag, "tag"
		}
		tell(fmt.Sprintf("swage: %s %s is not taken: this remote takes a branch only", what, name))
	}
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
