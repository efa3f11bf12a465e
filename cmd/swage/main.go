// Swage turns a Git repository into running containers with HTTPS addresses.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"swage/runtime"
	"swage/runtime/incus"
	"swage/schema"
)

func main() {
	schema.EvaluateMain()
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		withExtendedConnect()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 || os.Args[1] != "agent" {
		// What does not heed the first signal, as a read of a folder that hangs,
		// ends at the second. An agent that drains is asked as often as one likes.
		context.AfterFunc(ctx, stop)
	}
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, openIncus)
	stop()
	os.Exit(code)
}

// opener connects the runtime; tests give one that needs no Incus.
type opener func(socket string, scope runtime.Scope) (runtime.Runtime, error)

func openIncus(socket string, scope runtime.Scope) (runtime.Runtime, error) {
	return incus.Open(socket, scope)
}

// onHost puts what a scope has on this host below the agent's folder.
func onHost(s runtime.Scope, stateDir string) runtime.Scope {
	s.Ramdisks, s.Identity = filepath.Join(stateDir, "ramdisks"), stateDir
	return s
}

// ownDaemon is a scope with the daemon that the node file says. A commit cannot
// choose another: whoever answers there has the secrets of the containers, and
// says where the edge leads.
func ownDaemon(node schema.Node, s runtime.Scope) (runtime.Scope, error) {
	named := s.Daemon
	if named.Socket != "" && named.Socket != node.Incus.Socket {
		return s, fmt.Errorf("servers/%s.cue names the Incus socket %s, and this server's node file %s; a repository cannot choose another one: leave socket out there, or write it into incus of the node file", s.Server, named.Socket, node.Incus.Socket)
	}
	if node.Incus.Remote == "" {
		s.Daemon = runtime.Daemon{Socket: node.Incus.Socket}
		return s, nil
	}
	if named.Remote != node.Incus.Remote {
		return s, fmt.Errorf("this server's node file has the Incus at %s, and servers/%s.cue names %q; write the same as incus: remote there, with its certificate", node.Incus.Remote, s.Server, named.Remote)
	}
	s.Daemon = runtime.Daemon{Remote: named.Remote, Certificate: named.Certificate}
	return s, nil
}

// exit is an outcome that is not a failure but has a code of its own. Its
// message was printed already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Exit codes of every command. 1 is an error.
const (
	exitChanges exit = 2 // plan --detailed-exitcode: there are changes
	exitHeld    exit = 3 // something was asked for that swage does not do by itself
	exitRefused exit = 4 // explain: the request is refused
)

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, open opener) int {
	root := &cobra.Command{
		Use:           "swage",
		Short:         "Turn a Git repository into running containers with HTTPS addresses",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(visible{stdout})
	root.SetErr(stderr)
	root.AddCommand(
		initCommand(), newCommand(), validateCommand(), planCommand(open), applyCommand(open), agentCommand(open),
		statusCommand(), getCommand(), eventsCommand(), snapshotsCommand(), approveCommand(), rollbackCommand(), resumeCommand(), retryCommand(), suspendCommand(), historyCommand(), purgeCommand(),
		explainCommand(), schemaCommand(), secretCommand(), trustCommand(), versionCommand(), hookCommand(stdout),
	)
	err := root.ExecuteContext(ctx)
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case schema.IsProblems(err):
		fmt.Fprintln(visible{stderr}, err) // each line begins with its place
	default:
		fmt.Fprintln(visible{stderr}, "swage:", err)
	}
	return 1
}
