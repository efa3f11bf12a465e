package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"swage/runtime"
	"swage/schema"
)

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Declare a project, a container or an alias",
		Long: `Add a declaration to the fleet repository in the current folder (or --dir),
with a new id where it has one. Text is only added: what a file holds already
stays as it is, byte for byte. A declaration that would not check is not
written.`,
	}
	cmd.PersistentFlags().String("dir", ".", "folder of the fleet repository")
	cmd.AddCommand(newProjectCommand(), newContainerCommand(), newAliasCommand())
	return cmd
}

func newProjectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "project NAME",
		Short: "Declare a project with an id",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return add(cmd, args[0], "project", declaration{
				"projects/" + args[0] + "/project.cue",
				[]string{"project"},
				schema.Fields{{Name: "id", Value: string(runtime.NewID())}},
			})
		},
	}
}

func newContainerCommand() *cobra.Command {
	var server, image, file string
	var env []string
	var stopped bool
	cmd := &cobra.Command{
		Use:     "container PROJECT/NAME",
		Short:   "Declare a container with an id; the name rand draws one",
		Example: "  swage new container web/api --image debian/13 --env NODE_ENV=production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			project, name, ok := strings.Cut(args[0], "/")
			if !ok {
				return fmt.Errorf("name the project too, as in web/%s", args[0])
			}
			id := string(runtime.NewID())
			if name == "rand" {
				name = "c-" + id[:8]
			}
			fields := schema.Fields{{Name: "id", Value: id}}
			for _, f := range []struct{ name, value string }{{"server", server}, {"container_image", image}} {
				if f.value != "" {
					fields = append(fields, schema.Field{Name: f.name, Value: f.value})
				}
			}
			if stopped {
				fields = append(fields, schema.Field{Name: "state", Value: "stopped"})
			}
			var vars schema.Fields
			for _, v := range env {
				key, value, ok := strings.Cut(v, "=")
				if !ok {
					return fmt.Errorf("--env takes NAME=VALUE, not %q", v)
				}
				vars = append(vars, schema.Field{Name: key, Value: value})
			}
			if len(vars) > 0 {
				fields = append(fields, schema.Field{Name: "environment_vars", Value: vars})
			}
			if file == "" {
				file = name + ".cue"
			}
			return add(cmd, project, "containers."+name, declaration{"projects/" + project + "/" + file, []string{"containers", name}, fields})
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "server that runs it (default: the only one)")
	cmd.Flags().StringVar(&image, "image", "", "image it is made from (default: that of swage.cue)")
	cmd.Flags().StringArrayVar(&env, "env", nil, "environment variable, NAME=VALUE; may repeat")
	cmd.Flags().BoolVar(&stopped, "stopped", false, "do not run it")
	cmd.Flags().StringVar(&file, "file", "", "file in the project's folder (default: NAME.cue)")
	return cmd
}

func newAliasCommand() *cobra.Command {
	var port int
	cmd := &cobra.Command{
		Use:   "alias NAME PROJECT/CONTAINER",
		Short: "Declare an alias, in the file of its container",
		Long: `Add an alias to the file that declares its container or, where that is YAML or
JSON, to aliases.cue beside it.`,
		Example: "  swage new alias my-api web/api --port 3000",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, _ := cmd.Flags().GetString("dir") // declared above
			f, err := schema.Load(cmd.Context(), os.DirFS(dir))
			if err != nil {
				return err
			}
			for _, p := range f.Projects {
				for _, c := range p.Containers {
					if p.Name+"/"+c.Name != args[1] {
						continue
					}
					fields := schema.Fields{{Name: "container", Value: c.Name}}
					if port != 80 {
						fields = append(fields, schema.Field{Name: "port", Value: port})
					}
					file := c.Pos.File
					if path.Ext(file) != ".cue" {
						file = path.Join(path.Dir(file), "aliases.cue")
					}
					return add(cmd, p.Name, "aliases."+args[0], declaration{file, []string{"aliases", args[0]}, fields})
				}
			}
			return fmt.Errorf("there is no container %s; name it as PROJECT/CONTAINER", args[1])
		},
	}
	cmd.Flags().IntVar(&port, "port", 80, "port in the container")
	return cmd
}

// add writes a declaration if the repository checks before and with it, and
// has no such object: in one file two declarations would be merged.
func add(cmd *cobra.Command, project, what string, d declaration) error {
	dir, _ := cmd.Flags().GetString("dir") // declared above
	tree := os.DirFS(dir)
	f, err := schema.Load(cmd.Context(), tree)
	if err != nil {
		return err
	}
	for _, p := range f.Projects {
		declared := map[string]schema.Pos{}
		if p.ID != "" {
			declared["project"] = schema.Pos{File: "projects/" + p.Name}
		}
		for _, c := range p.Containers {
			declared["containers."+c.Name] = c.Pos
		}
		for _, a := range p.Aliases {
			declared["aliases."+a.Name] = a.Pos
		}
		if at, ok := declared[what]; ok && p.Name == project {
			return fmt.Errorf("%s of project %s is declared already, in %s", what, project, at)
		}
	}
	if !fs.ValidPath(d.file) {
		return fmt.Errorf("%s is not a path below the repository", d.file)
	}
	name := filepath.Join(dir, filepath.FromSlash(d.file))
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	missing := err != nil
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	if err := d.append(dir); err != nil {
		return err
	}
	if _, err := schema.Load(context.WithoutCancel(cmd.Context()), tree); err != nil {
		if missing {
			err = errors.Join(err, os.Remove(name))
			_ = os.Remove(filepath.Dir(name)) // in vain if it holds other files
			return err
		}
		return errors.Join(err, replace(name, old, mode))
	}
	fmt.Fprintln(cmd.OutOrStdout(), "wrote", name)
	return nil
}
