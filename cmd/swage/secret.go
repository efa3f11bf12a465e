package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"swage/schema"
)

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Make keys, encrypt values and hash passwords for a fleet repository",
	}
	cmd.AddCommand(keygenCommand(), encryptCommand(), hashPasswordCommand())
	return cmd
}

func keygenCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make an age key for a server",
		Long: `Make an age key. The private part belongs on the server, in the file that
age_identities of its node file names; the public part, printed on stderr,
belongs into age_recipients of the server's file in the repository.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := age.GenerateX25519Identity()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if output != "" {
				// Never over a key that is there: what it opens would be lost.
				f, err := os.OpenFile(output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer f.Close()
				out = f
			}
			if _, err := fmt.Fprintf(out, "# public key: %s\n%s\n", id.Recipient(), id); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "public key:", id.Recipient())
			return nil
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "file for the private key, which must not exist (default: standard output)")
	return cmd
}

func encryptCommand() *cobra.Command {
	var recipients []string
	var dir string
	cmd := &cobra.Command{
		Use:   "encrypt",
		Short: "Encrypt a value from standard input",
		Long: `Encrypt what comes on standard input, without the line break at its end, to
the age_recipients of every server of the fleet, or to those that are given,
and print it as it is written in a file of the repository.`,
		Example: "  swage secret encrypt < password.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(recipients) == 0 {
				f, err := schema.Load(cmd.Context(), os.DirFS(dir))
				if err != nil {
					return err
				}
				for _, s := range f.Servers {
					recipients = append(recipients, s.AgeRecipients...)
				}
				slices.Sort(recipients)
				recipients = slices.Compact(recipients)
			}
			value, err := io.ReadAll(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if n := len(value); n > 0 && value[n-1] == '\n' {
				value = value[:n-1]
			}
			sealed, err := schema.Seal(value, recipients)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), sealed)
			return err
		},
	}
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "age or SSH public key; may repeat (default: those of the fleet's servers)")
	cmd.Flags().StringVar(&dir, "dir", ".", "folder of the fleet repository")
	return cmd
}
