package main

import (
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swage/edge/credentials"
	"swage/reconcile"
	"swage/schema"
)

func explainCommand() *cobra.Command {
	var from, output string
	var t target
	var q reconcile.Question
	var private bool
	cmd := &cobra.Command{
		Use:   "explain URL [DIR]",
		Short: "Say who may reach an address, and by which rule",
		Long: `Say what the edge does with a request for URL, why, and which line of the
repository is behind it, by the same functions that the edge decides with.
The agent of this machine is asked; with DIR the fleet repository in that
folder, as if all of it ran. Exit code 0: it is passed on; 4: it is refused;
1: an error.

What stands on a command line other users of the machine can see: leave the
password of --user out, and it is read from standard input.`,
		Example: `  swage explain https://my-api.node-us.containers.example.com/
  swage explain --from 203.0.113.9 --user ann https://my-api.node-us.containers.example.com/ .`,
		Args: cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVar(&from, "from", "", "address of the caller (default: one that is in no range)")
	cmd.Flags().StringVar(&q.User, "user", "", "NAME or NAME:PASSWORD of the caller")
	cmd.Flags().StringArrayVar(&q.Headers, "header", nil, "header of the request, as 'Name: value'; may repeat")
	cmd.Flags().StringVar(&q.Method, "method", "", "method of the request (default: GET)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&t.server, "server", "", "with DIR: server of the fleet (default: the one whose zone the URL is in, or the only one)")
	cmd.Flags().StringVar(&t.identities, "age-identities", "", "with DIR: file with the age keys that secrets are encrypted to")
	cmd.Flags().BoolVar(&private, "allow-private-jwks", false, "with DIR: fetch keys from addresses that are not public, too")
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if output != "text" && output != "json" {
			return fmt.Errorf("--output takes text or json, not %q", output)
		}
		q.URL = args[0]
		if from != "" {
			addr, err := netip.ParseAddr(from)
			if err != nil {
				return fmt.Errorf("--from takes an address, not %q", from)
			}
			q.From = addr
		}
		if q.User != "" && !strings.Contains(q.User, ":") {
			password, err := readPassword(cmd, "Password of "+q.User+": ")
			if err != nil {
				return err
			}
			q.User += ":" + password
		}
		var a reconcile.Answer
		var err error
		if len(args) == 2 {
			a, err = t.explain(cmd, args[1], credentials.Options{AllowPrivate: private}, q)
		} else {
			a, err = socket.Explain(cmd.Context(), q)
		}
		if err != nil {
			return err
		}
		if output == "json" {
			err = printJSON(cmd, a)
		} else {
			err = printAnswer(cmd, a)
		}
		if err == nil && !a.Allowed() {
			return exitRefused
		}
		return err
	}
	return cmd
}

// explain answers for a folder.
func (t *target) explain(cmd *cobra.Command, dir string, o credentials.Options, q reconcile.Question) (reconcile.Answer, error) {
	tree, err := folder([]string{dir})
	if err != nil {
		return reconcile.Answer{}, err
	}
	f, err := schema.Load(cmd.Context(), tree)
	if err != nil {
		return reconcile.Answer{}, err
	}
	if t.server == "" {
		for name := range f.Servers {
			if len(f.Servers) == 1 || strings.Contains(strings.ToLower(q.URL), "."+f.Zone(name)) {
				t.server = name
			}
		}
	}
	if _, ok := f.Servers[t.server]; !ok {
		return reconcile.Answer{}, fmt.Errorf("the fleet has no server %q; say which with --server", t.server)
	}
	keys, err := t.keys()
	if err != nil {
		return reconcile.Answer{}, err
	}
	return reconcile.ExplainIn(cmd.Context(), f, t.server, keys, verifier{credentials.New(o)}, q)
}

func printAnswer(cmd *cobra.Command, a reconcile.Answer) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("decision", map[bool]string{true: "allowed", false: fmt.Sprintf("refused with %d", a.Status)}[a.Allowed()])
	line("because", a.Why)
	if a.Container != "" {
		line("target", fmt.Sprintf("%s %d of container %s", a.Program, a.Number, a.Container))
	}
	line("level", a.Level)
	line("rule", strings.TrimSpace(a.Rule+" "+a.At))
	if a.Until != nil {
		line("until", a.Until.UTC().Format(time.RFC3339))
	}
	line("not checked", a.Unproven)
	for _, lost := range a.Lost {
		line("note", lost)
	}
	return w.Flush()
}
