package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"swage/runtime"
	"swage/schema"
)

func initCommand() *cobra.Command {
	var domain, server, image string
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Begin a fleet repository",
		Long: `Write the first files of a fleet repository to DIR (default: the current
folder): swage.cue with an id of its own, one server, a project with one
container, and cue.mod/ with the version of CUE's language. Nothing that is there is overwritten.`,
		Example: "  swage init --domain containers.example.com --server node-us",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := dirOf(args)
			files := []declaration{
				{"swage.cue", nil, schema.Fields{
					{Name: "id", Value: string(runtime.NewID())}, {Name: "domain", Value: domain}, {Name: "container_image", Value: image},
				}},
				{"servers/" + server + ".cue", nil, schema.Fields{}},
				{"projects/demo/hello.cue", []string{"containers", "hello"}, schema.Fields{{Name: "id", Value: string(runtime.NewID())}}},
			}
			for _, f := range files {
				if _, err := os.Lstat(filepath.Join(dir, f.file)); !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%s is there already; swage init begins a new repository", filepath.Join(dir, f.file))
				}
			}
			for _, f := range files {
				if err := f.append(dir); err != nil {
					return err
				}
			}
			alias := declaration{"projects/demo/hello.cue", []string{"aliases", "hello"}, schema.Fields{{Name: "container", Value: "hello"}}}
			if err := alias.append(dir); err != nil {
				return err
			}
			if _, err := schema.Load(cmd.Context(), os.DirFS(dir)); err != nil {
				for _, f := range files { // a name that the schema does not take
					err = errors.Join(err, os.Remove(filepath.Join(dir, f.file)))
				}
				return err
			}
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), "wrote", filepath.Join(dir, f.file))
			}
			written, err := schema.InstallModule(dir)
			if written && err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "wrote", filepath.Join(dir, "cue.mod/module.cue"))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "containers.localhost", "domain that the servers' zones stand in")
	cmd.Flags().StringVar(&server, "server", "lab", "name of the first server")
	cmd.Flags().StringVar(&image, "image", "debian/13", "image of containers that name none")
	return cmd
}

// declaration is an object to be added to a file of a repository; without a
// path its fields stand at the top of the file.
type declaration struct {
	file   string // below the repository, with slashes
	path   []string
	fields schema.Fields
}

// append changes the file, which appears whole or not at all.
func (d declaration) append(dir string) error {
	name := filepath.Join(dir, filepath.FromSlash(d.file))
	src, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm() // it may hold secrets
	}
	out, err := schema.Declare(d.file, src, d.path, d.fields)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return replace(name, out, mode)
}
