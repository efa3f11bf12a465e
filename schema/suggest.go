package schema

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean offers the nearest known name, or lists them when none is near.
func didYouMean(name string, known []string) string {
	known = slices.Sorted(slices.Values(known)) // the same answer every time
	if near, ok := nearest(name, known); ok {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	if len(known) > 40 {
		return fmt.Sprintf("; there are %d, from %s to %s", len(known), known[0], known[len(known)-1])
	}
	return "; there " + areOrIs(known) + strings.Join(known, ", ")
}

func areOrIs(names []string) string {
	if len(names) == 1 {
		return "is only "
	}
	return "are "
}

// nearest finds a name that a slip of the fingers would turn into this one.
func nearest(name string, known []string) (string, bool) {
	best, dist := "", 3
	if len(name) > 100 {
		return "", false
	}
	for _, k := range known {
		if len(k)-len(name) > 2 || len(name)-len(k) > 2 {
			continue
		}
		d := editDistance(strings.ToLower(name), strings.ToLower(k))
		if d < dist && d < max(len(k), len(name)) {
			best, dist = k, d
		}
	}
	return best, best != ""
}

// editDistance counts the insertions, deletions and substitutions between two
// names (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// either joins alternatives as a sentence does: a, b or c.
func either(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
