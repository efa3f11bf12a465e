package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestA4EditedFilesKeepTheirMode: a file that only its owner reads stays so when
// a declaration is added to it.
func TestA4EditedFilesKeepTheirMode(t *testing.T) {
	dir := t.TempDir()
	swage := func(args ...string) int { return run(t.Context(), args, io.Discard, io.Discard, nil) }
	if code := swage("init", dir); code != 0 {
		t.Fatal(code)
	}
	file := filepath.Join(dir, "projects/demo/hello.cue")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[[2]string]int{{"good", "demo/hello"}: 0, {"api", "demo/hello"}: 1} { // one that is reserved
		if code := swage("new", "alias", "--dir", dir, args[0], args[1]); code != want {
			t.Errorf("%v: %d", args, code)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v: %v %v", args, info.Mode(), err)
		}
	}
}
