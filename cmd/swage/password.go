package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"swage/edge/credentials"
)

func hashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password",
		Short: "Hash a password from standard input, for a group of permissions",
		Long: `Read a password from standard input, without the line break at its end, and
print its argon2id hash for the field hash of a group of type "password". On a
terminal it is asked for twice and not shown.`,
		Example: "  swage secret hash-password < password.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readPassword(cmd, "Password: ")
			if err != nil {
				return err
			}
			if in, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(in) {
				again, err := readPassword(cmd, "Again: ")
				if err != nil {
					return err
				}
				if again != password {
					return errors.New("the two passwords differ")
				}
			}
			hash, err := credentials.HashPassword(password)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), hash)
			return err
		},
	}
}

// readPassword reads a line from standard input, unseen where that is a
// terminal.
func readPassword(cmd *cobra.Command, prompt string) (string, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64<<10)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", err
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
	}
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	text, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(cmd.ErrOrStderr())
	return string(text), err
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
