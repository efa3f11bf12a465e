package edge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// who are callers: from one of the ranges, with every credential. Without
// ranges they come from anywhere.
type who struct {
	ranges []netip.Prefix
	prove  []*credential
}

func (g *group) who() who { return who{g.ranges, g.prove} }

// nobody: a group whose secret is lost, or whose ranges exclude each other.
func (w who) nobody() bool { return w.ranges == nil && w.prove == nil }

// minus are those of w who are not surely in o as well.
func (w who) minus(o who) who {
	if o.nobody() {
		return w
	}
	for _, c := range o.prove {
		if !slices.ContainsFunc(w.prove, func(mine *credential) bool { return mine.id == c.id }) {
			return w
		}
	}
	switch {
	case o.ranges == nil:
		return who{}
	case w.ranges == nil:
		return w
	}
	rest := subtract(w.ranges, o.ranges)
	if len(rest) == 0 {
		return who{}
	}
	return who{rest, w.prove}
}

// apart reports whether no caller can be in both.
func (w who) apart(o who) bool {
	if w.nobody() || o.nobody() {
		return true
	}
	if w.ranges == nil || o.ranges == nil {
		return false
	}
	for _, a := range w.ranges {
		for _, b := range o.ranges {
			if a.Overlaps(b) {
				return false
			}
		}
	}
	return true
}

// subject is a group with those of it who are left. Its words tell all ranges of
// the group or those that are left.
func (g *group) subject(left who, all bool) Subject {
	s := Subject{Group: g.name, Ranges: minimal(left.ranges)}
	var parts []string
	if len(s.Ranges) > 0 {
		s.Kind = SubjectRanges
		tell := s.Ranges
		if all {
			tell = minimal(g.ranges)
		}
		parts = append(parts, rangesText(tell))
	}
	for _, c := range g.prove {
		kind, text := c.words()
		s.Kind = kind
		parts = append(parts, text)
		s.holders = append(s.holders, c.id)
	}
	if len(parts) > 1 {
		s.Kind = SubjectAll
	}
	s.Who = strings.Join(parts, " and ")
	return s
}

// words say what a credential is, and nothing of its secret.
func (c *credential) words() (kind, text string) {
	switch {
	case c.password != nil:
		return SubjectPassword, fmt.Sprintf("user %s", c.password.Username)
	case c.token != nil:
		return SubjectToken, "token in " + c.token.Source.words()
	}
	return SubjectJWT, "JWT"
}

func (s Source) words() string {
	switch {
	case s.Header != "":
		return "header " + s.Header
	case s.Cookie != "":
		return "cookie " + s.Cookie
	}
	return "parameter " + s.Param
}

// mostRanges are named in a text.
const mostRanges = 4

func rangesText(ranges []netip.Prefix) string {
	var parts []string
	for i, p := range ranges {
		if i == mostRanges {
			parts = append(parts, fmt.Sprintf("%d more ranges", len(ranges)-i))
			break
		}
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ", ")
}
