package edge

import (
	"fmt"
	"strings"
)

// Words is the change in words, without its containers and its place: "group
// office (203.0.113.0/24) gains http 80,8000-8100".
func (c AccessChange) Words() string {
	var b strings.Builder
	b.WriteString(c.Subject.String())
	if c.Gains {
		b.WriteString(" gains ")
	} else {
		b.WriteString(" loses ")
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
		b.WriteString(", also at " + someOf(c.Hosts, "hosts"))
	case !c.OwnHosts:
		b.WriteString(" at " + someOf(c.Hosts, "hosts"))
		if c.Path != "" {
			b.WriteString(", path " + c.Path)
		}
		if c.TargetPath != "" {
			b.WriteString(", target_path " + c.TargetPath)
		}
		if c.Exact {
			b.WriteString(", no other path")
		}
	}
	if c.Until != nil {
		b.WriteString(", until " + c.Until.UTC().Format("2006-01-02T15:04:05Z"))
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
func (c AccessChange) Of() string { return someOf(c.Containers, "containers") }

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
	switch s.Kind {
	case SubjectEveryone:
		return "everyone (" + who + ")"
	case SubjectFirewall:
		return "whom the firewall concerns (" + who + ")"
	}
	return fmt.Sprintf("group %s (%s)", s.Group, who)
}

// mostOf are named in a text.
const mostOf = 3

func someOf(list []string, what string) string {
	if len(list) > mostOf {
		return fmt.Sprintf("%s and %d more %s", strings.Join(list[:mostOf-1], ", "), len(list)-mostOf+1, what)
	}
	return strings.Join(list, ", ")
}
