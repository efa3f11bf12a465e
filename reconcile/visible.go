package reconcile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Visible is a text that may hold what stands in a repository, as a terminal may
// have it: what would steer it, or turn the order of what is read, is written as
// JSON may write it, so that JSON stays what it is.
func Visible(text string) string {
	if strings.IndexFunc(text, steers) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if steers(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}

// steers reports control characters but tabs and ends of lines, and those of
// writing from right to left.
func steers(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ' || r >= 0x7f && r <= 0x9f:
		return true
	}
	return r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x61c
}
