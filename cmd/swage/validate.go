package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"swage/schema"
)

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check a fleet repository, with no server at hand",
		Long: `Check the fleet repository in DIR (default: the current folder) and print
every problem with file:line:column, and warnings of what is allowed and yet
most likely a mistake. Exit code 0: it is right; 1: it is not.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tree, err := folder(args)
			if err != nil {
				return err
			}
			f, err := schema.Load(cmd.Context(), tree)
			if err != nil {
				return err
			}
			for _, w := range f.Warnings {
				fmt.Fprintln(visible{cmd.ErrOrStderr()}, w.Warning())
			}
			var containers, aliases int
			for _, p := range f.Projects {
				containers += len(p.Containers)
				aliases += len(p.Aliases)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ok: %s, %s, %s, %s\n", count(len(f.Servers), "server"),
				count(len(f.Projects), "project"), count(containers, "container"), count(aliases, "alias"))
			return nil
		},
	}
}

// folder opens the fleet repository that a command names, or that the folder is
// in.
func folder(args []string) (fs.FS, error) {
	dir, err := rootOf(dirOf(args))
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is a file; name the folder of a fleet repository", dir)
	}
	return os.DirFS(dir), nil
}

// rootOf is the folder of the fleet repository that dir is in: the nearest one
// upward that has a swage.cue, .yaml, .yml or .json, as git finds its own; dir itself
// where there is none.
//
// Above dir, somebody else's counts for nothing but an error: anybody may put one
// into a folder such as /tmp, and a repository says what is done with the rights
// of the person who begins the command.
func rootOf(dir string) (string, error) {
	above, err := filepath.Abs(dir)
	if err != nil {
		return dir, nil
	}
	mine := []int{0, os.Geteuid()}
	if info, err := os.Stat(above); err == nil {
		mine = append(mine, ownerOf(info))
	}
	for begin := above; ; {
		for _, name := range []string{"swage.cue", "swage.yaml", "swage.yml", "swage.json"} {
			info, err := os.Lstat(filepath.Join(above, name))
			switch {
			case err != nil:
				continue
			case above != begin && !slices.Contains(mine, ownerOf(info)):
				return "", fmt.Errorf("%s belongs to user %d; to use that repository, name its folder", filepath.Join(above, name), ownerOf(info))
			}
			return above, nil
		}
		next := filepath.Dir(above)
		if next == above {
			return dir, nil
		}
		above = next
	}
}

func ownerOf(info fs.FileInfo) int {
	if is, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(is.Uid)
	}
	return -1
}

func dirOf(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case what == "alias":
		return fmt.Sprintf("%d aliases", n)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
