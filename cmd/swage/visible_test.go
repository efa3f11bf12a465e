package main

import (
	"strings"
	"testing"
)

// What a repository holds steers nobody's terminal.
func TestA4NothingSteersTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"held: demo/web\n\tread ä 世":  "held: demo/web\n\tread ä 世",
		"\x1b]0;title\a\x1b[31m":      `\u001b]0;title\u0007\u001b[31m`,
		"over\rwritten\x7f":           `over\u000dwritten\u007f`,
		"\u009b31m\u202exlsx.exe":     `\u009b31m\u202exlsx.exe`,
		"broken \xff\xc3 stays as is": "broken \xff\xc3 stays as is",
	} {
		var b strings.Builder
		if n, err := (visible{&b}).Write([]byte(in)); b.String() != want || n != len(in) || err != nil {
			t.Errorf("%q: %q, %d, %v", in, b.String(), n, err)
		}
	}
}
