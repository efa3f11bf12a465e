package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"swage/edge"
)

// accessLine is changes of access that read alike, as one line.
type accessLine struct {
	sign  string // ! opens, + gains, - loses
	of    string // the containers
	words string
	at    string // of the first
}

// accessLines puts changes in words, what opens first. Changes of containers of
// one project that read alike become one line.
func accessLines(access []edge.AccessChange) []accessLine {
	type key struct {
		opens, gains   bool
		project, words string
	}
	var order []key
	of := map[key][]string{}
	at, more := map[key]string{}, map[key]int{}
	for _, c := range access {
		k := key{c.Opens, c.Gains, "", c.Words()}
		k.project, _, _ = strings.Cut(c.Containers[0], "/")
		if _, known := of[k]; !known {
			order, at[k] = append(order, k), c.At
		}
		of[k], more[k] = append(of[k], c.Containers...), more[k]+c.More
	}
	slices.SortStableFunc(order, func(a, b key) int {
		switch {
		case a.opens == b.opens:
			return 0
		case a.opens:
			return -1
		}
		return 1
	})
	var out []accessLine
	for _, k := range order {
		slices.Sort(of[k])
		line := accessLine{"-", edge.AccessChange{Containers: slices.Compact(of[k]), More: more[k]}.Of(), k.words, at[k]}
		switch {
		case k.opens:
			line.sign = "!"
		case k.gains:
			line.sign = "+"
		}
		out = append(out, line)
	}
	return out
}

func (l accessLine) text() string {
	what := "access"
	if l.sign == "!" {
		what = "OPENS"
	}
	text := fmt.Sprintf("%s %s %s: %s", l.sign, what, l.of, l.words)
	if l.at != "" {
		text += " " + l.at
	}
	return text
}

// markdown is a row of the table of steps.
func (l accessLine) markdown() string {
	sign := l.sign
	if sign == "!" {
		sign = "! OPENS"
	}
	at := ""
	if l.at != "" {
		at = code(l.at)
	}
	return fmt.Sprintf("| `%s` | %s: %s | access | %s |\n", sign, escape(l.of), escape(l.words), at)
}

// code is a place in a file as code in a cell of a table, which a name of a file
// may not end.
func code(place string) string {
	place = Visible(place)
	if strings.ContainsAny(place, "`|\n") {
		return escape(place)
	}
	return "`" + place + "`"
}

// escape keeps Markdown from reading what a name or a header holds.
func escape(text string) string {
	return markdown.Replace(text)
}

var markdown = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "|", `\|`, "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "~", `\~`, "@", "&#64;", "\n", " ",
)

// accessSummary counts changes of access, container by container.
func accessSummary(access []edge.AccessChange) string {
	opens, gains, losses := 0, 0, 0
	for _, c := range access {
		n := len(c.Containers) + c.More
		switch {
		case c.Opens:
			opens, gains = opens+n, gains+n
		case c.Gains:
			gains += n
		default:
			losses += n
		}
	}
	text := fmt.Sprintf("access: %d gained, %d lost", gains, losses)
	if opens > 0 {
		text += fmt.Sprintf(", %d open to everyone", opens)
	}
	return text
}

// accessWithin is what of changes is about some containers. Hosts may be those
// of others, and are left out of a change that is about others as well.
func accessWithin(access []edge.AccessChange, own func(ref string) bool) []edge.AccessChange {
	out := []edge.AccessChange{}
	for _, c := range access {
		all := len(c.Containers) + c.More
		c.More = 0
		c.Containers = slices.DeleteFunc(slices.Clone(c.Containers), func(ref string) bool { return !own(ref) })
		if len(c.Containers) == 0 {
			continue
		}
		if len(c.Containers) < all {
			c.Hosts = nil
		}
		out = append(out, c)
	}
	return out
}
