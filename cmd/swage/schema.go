package main

import (
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"swage/schema"
)

func schemaCommand() *cobra.Command {
	var install string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the schema of a fleet repository, or install it for cue and editors",
		Long: `Print the CUE definitions that files are held to: every field with its meaning,
default and an example. With --install they are put into a repository, where
the stock cue command and an editor's language server find them as the package
swage.internal/schema.`,
		Example: "  swage schema --install .",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if install != "" {
				if err := schema.Install(install); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "installed swage.internal/schema in", install)
				return nil
			}
			names, err := fs.Glob(schema.Source(), "*.cue")
			if err != nil {
				return err
			}
			for _, name := range names {
				src, err := fs.ReadFile(schema.Source(), name)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "// %s\n\n%s\n", name, src)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&install, "install", "", "folder of a fleet repository")
	return cmd
}
