package schema

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"cuelang.org/go/cue"
)

// moduleName is the file that makes the repository a CUE module: it says what
// imports call it, and the version of the language that its files are in.
const moduleName = "cue.mod/module.cue"

// InstallModule writes the module file of the fleet repository at dir, unless
// there is one.
func InstallModule(dir string) (written bool, err error) {
	name := filepath.Join(dir, filepath.FromSlash(moduleName))
	if _, err := os.Lstat(name); err == nil {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return false, err
	}
	src := fmt.Sprintf("module: \"fleet.example\"\nlanguage: version: %q\n", cue.LanguageVersion())
	return true, os.WriteFile(name, []byte(src), 0o644)
}

// checkModule refuses a language that is newer than the one known here: its
// files could mean something else than what they are read as.
func checkModule(src []byte) Problems {
	v, _, problems := parse(moduleName, src)
	version := v.get("language").get("version")
	if version == nil || len(problems) > 0 {
		return problems
	}
	wanted, ok := languageVersion(version.Text)
	known, _ := languageVersion(cue.LanguageVersion())
	switch {
	case !ok:
		return Problems{{version.Pos, "language.version", fmt.Sprintf("found %s, want a version of CUE's language, as in %q", show(version), cue.LanguageVersion())}}
	case slices.Compare(wanted, known) > 0:
		return Problems{{version.Pos, "language.version", fmt.Sprintf("found %s, which this swage does not know; want at most %q, or a newer swage", show(version), cue.LanguageVersion())}}
	}
	return nil
}

func languageVersion(s string) (parts []int, ok bool) {
	parts = make([]int, 3)
	n, err := fmt.Sscanf(s, "v%d.%d.%d", &parts[0], &parts[1], &parts[2])
	return parts, n == 3 && err == nil
}
