package schema

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// modulePath is what the schema is called as a CUE module.
const modulePath = "swage.internal/schema"

// Source is the schema's own files.
func Source() fs.FS { return definitions }

// Install writes the schema into the cue.mod of the fleet repository at dir,
// where the stock cue command and the language servers of editors find it as
// the package swage.internal/schema, with no network and no registry.
func Install(dir string) error {
	to := filepath.Join(dir, "cue.mod", "pkg", filepath.FromSlash(modulePath))
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if _, err := InstallModule(dir); err != nil {
		return err
	}
	names, err := fs.Glob(definitions, "*.cue")
	if err != nil {
		return err
	}
	for _, name := range names {
		src, err := definitions.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), src, 0o644); err != nil {
			return fmt.Errorf("install the schema: %w", err)
		}
	}
	return nil
}
