package edge

import (
	"fmt"
	"strings"
	"time"
)

// Words is the change in words, without its containers and its place: "group
// office (203.0.113.0/24) gains http 80,8000-8100".
func (c AccessChange) Words() string {
	var b strings.Builder
	switch {
	case c.Subject.Kind == SubjectFirewall && c.Gains:
		b.WriteString("callers whom its firewall lets in now gain ")
	case c.Subject.Kind == SubjectFirewall:
		b.WriteString("callers whom its firewall refuses now lose ")
	case c.Gains:
		b.WriteString(c.Subject.String() + " gains ")
	default:
		b.WriteString(c.Subject.String() + " loses ")
	}
	b.WriteString(c.what())
	switch {
	case c.Level != "" && c.Gains:
		b.WriteString(" up to " + c.Level)
	case c.Level != "":
		b.WriteString(", keeps " + c.Level)
	}
	switch {
	case c.OwnHosts && len(c.Hosts) > 0:
		b.WriteString(", also at " + someOf(c.Hosts, 0, "hosts"))
	case !c.OwnHosts:
		b.WriteString(" at " + someOf(c.Hosts, 0, "hosts"))
		if c.Path != "" {
			b.WriteString(", path " + c.Path)
		}
		if c.TargetPath != "" {
			b.WriteString(", target_path " + c.TargetPath)
		}
		if c.Exact {
			b.WriteString(", no other path")
		}
		if c.Rest {
			b.WriteString(", every other path")
		}
	}
	if c.From != nil {
		b.WriteString(", from " + c.From.UTC().Format(time.RFC3339))
	}
	if c.Until != nil {
		b.WriteString(", until " + c.Until.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// String is the whole change on one line.
func (c AccessChange) String() string {
	text := c.Of() + ": " + c.Words()
	if c.Opens {
		text = "OPENS " + text
	}
	if c.At != "" {
		text += " " + c.At
	}
	return text
}

// Of names the containers.
func (c AccessChange) Of() string { return someOf(c.Containers, c.More, "containers") }

func (c AccessChange) what() string {
	switch {
	case c.Program == "*":
		return "every program"
	case c.Program == programSSH:
		return c.Program
	}
	return c.Program + " " + c.Numbers
}

// String names the subject and says how its members are known.
func (s Subject) String() string {
	who := s.Who
	if s.Changed {
		who += ", changed"
	}
	if s.Kind == SubjectEveryone {
		return "everyone (" + who + ")"
	}
	return fmt.Sprintf("group %s (%s)", s.Group, who)
}

// mostOf are named in a text.
const mostOf = 3

func someOf(list []string, more int, what string) string {
	if n := len(list) + more; n > mostOf {
		list = list[:min(len(list), mostOf-1)]
		return fmt.Sprintf("%s and %d more %s", strings.Join(list, ", "), n-len(list), what)
	}
	return strings.Join(list, ", ")
}
