package edge

import (
	"slices"
	"strings"
)

// isForged says that by a field of this name applications are told who calls,
// or for what. Only the edge may say so, in the header and in trailers.
//
// Servers that hand fields on as variables, such as CGI's, write "_" for all
// that is neither letter nor digit. So every such character stands for "-".
// It does not allocate.
func isForged(name string) bool {
	if name == "" {
		return false
	}
	near := &forged.byFirst[folded[name[0]]]
	if near.from == near.to { // as for most of what browsers send
		return false
	}
	var buf [longestForged]byte
	plain := buf[:min(len(name), len(buf))]
	for i := range plain {
		plain[i] = folded[name[i]]
	}
	// Of the patterns that are not greater than the name the last is the only
	// one that can match: none begins another that ends in "*".
	i, j := near.from, near.to
	for i < j {
		if mid := (i + j) / 2; forged.patterns[mid].text <= string(plain) {
			i = mid + 1
		} else {
			j = mid
		}
	}
	if i == near.from {
		return false
	}
	p := &forged.patterns[i-1]
	if p.exact {
		return len(name) == len(p.text) && string(plain) == p.text
	}
	return len(plain) >= len(p.text) && string(plain[:len(p.text)]) == p.text
}

// longestForged is the greatest length of a pattern.
const longestForged = 32

// pattern is a name of [families] as isForged compares it.
type pattern struct {
	text  string // folded
	exact bool   // or else the beginning of names
}

// forged are the patterns of [families], sorted, without those that another
// one includes, and which of them begin with a byte.
var forged = func() (out struct {
	patterns []pattern
	byFirst  [256]struct{ from, to int }
},
) {
	for _, f := range families {
		for _, name := range f.names {
			text, open := strings.CutSuffix(name, "*")
			if len(text) > longestForged {
				panic("edge: longestForged is too small for " + name)
			}
			out.patterns = append(out.patterns, pattern{foldName(text), !open})
		}
	}
	slices.SortFunc(out.patterns, func(a, b pattern) int { return strings.Compare(a.text, b.text) })
	all := slices.Clone(out.patterns)
	out.patterns = slices.DeleteFunc(out.patterns, func(p pattern) bool {
		return slices.ContainsFunc(all, func(o pattern) bool { return !o.exact && o != p && strings.HasPrefix(p.text, o.text) })
	})
	for i, p := range out.patterns {
		of := &out.byFirst[p.text[0]]
		if of.to == 0 {
			of.from = i
		}
		of.to = i + 1
	}
	return out
}()

// folded leads from each byte of a name to its lower case, from what is neither
// letter nor digit to "-".
var folded = func() (table [256]byte) {
	for i := range table {
		c := byte(i)
		switch {
		case 'A' <= c && c <= 'Z':
			table[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			table[i] = c
		default:
			table[i] = '-'
		}
	}
	return table
}()

// foldName is a name in the one spelling that stands for all.
func foldName(name string) string {
	b := []byte(name)
	for i, c := range b {
		b[i] = folded[c]
	}
	return string(b)
}

// sameName says that many servers read two names as one.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if folded[a[i]] != folded[b[i]] {
			return false
		}
	}
	return true
}
