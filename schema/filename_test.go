package schema

import (
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

// TestA2NamesOfFilesArePrinted: nothing that a terminal obeys, and no second
// line, comes from the name of a file.
func TestA2NamesOfFilesArePrinted(t *testing.T) {
	for _, name := range []string{
		"projects/p/a\x1b[31m\n! x.cue", "projects/p\x1b]0;x\a/a.cue", "servers/l\u202eb.cue", "lib/a\u009b.cue", "projects/p/a\xff.cue", "projects/a\nb.cue", "servers/a\r/b.cue",
	} {
		_, err := Load(t.Context(), fstest.MapFS{
			"swage.cue":       {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.test"`)},
			"servers/lab.cue": {},
			name:              {Data: []byte("x: 5")},
		})
		if err == nil || !IsProblems(err) {
			t.Errorf("%q: %v", name, err)
		} else if text := err.Error(); !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\a\r\u202e\u009b\n") {
			t.Errorf("%q: %q", name, text)
		}
	}
}
