//go:build linux

package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
)

// Source is one place that packages come from, in either of apt's two forms.
type Source struct {
	URIs, Suites, Components []string
	// Options is everything else, as deb822 fields in their order; the value
	// may go on over several lines.
	Options []Option
}

type Option struct{ Name, Value string }

// parseDeb822 reads a *.sources file: stanzas of fields, see sources.list(5).
func parseDeb822(text string) []Source {
	var sources []Source
	var fields []Option
	end := func() {
		if s, use := deb822Source(fields); use {
			sources = append(sources, s)
		}
		fields = nil
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"): // also between the lines of one field
		case strings.TrimSpace(line) == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if len(fields) > 0 {
				fields[len(fields)-1].Value += "\n" + line
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			fields = append(fields, Option{name, strings.TrimSpace(value)})
		}
	}
	end()
	return sources
}

// deb822Source tells also whether the stanza is in use and has binary packages.
func deb822Source(fields []Option) (s Source, use bool) {
	enabled := true
	for _, f := range fields {
		switch strings.ToLower(f.Name) {
		case "types":
			use = slices.Contains(strings.Fields(f.Value), "deb")
		case "uris":
			s.URIs = strings.Fields(f.Value)
		case "suites":
			s.Suites = strings.Fields(f.Value)
		case "components":
			s.Components = strings.Fields(f.Value)
		case "enabled":
			enabled = !slices.Contains([]string{"no", "false", "off", "without", "disable", "0"}, strings.ToLower(f.Value))
		default:
			s.Options = append(s.Options, f)
		}
	}
	return s, use && enabled
}

// parseOneLine reads a *.list file: deb [option=value ...] uri suite component...
func parseOneLine(text string) []Source {
	// The names that differ between the forms; values separated by commas in
	// the one are separated by spaces in the other.
	plural := map[string]string{"arch": "Architectures", "lang": "Languages", "target": "Targets"}
	var sources []Source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, deb := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !deb || rest == "" || !strings.ContainsAny(rest[:1], " \t[") {
			continue
		}
		var s Source
		rest = strings.TrimSpace(rest)
		if after, has := strings.CutPrefix(rest, "["); has {
			var options string
			options, rest, _ = strings.Cut(after, "]")
			for _, option := range strings.Fields(options) {
				name, value, _ := strings.Cut(option, "=")
				if p := plural[strings.TrimRight(name, "+-")]; p != "" {
					name, value = p, strings.ReplaceAll(value, ",", " ")
				}
				s.Options = append(s.Options, Option{name, value})
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		s.URIs, s.Suites, s.Components = fields[:1], fields[1:2], fields[2:]
		sources = append(sources, s)
	}
	return sources
}

// wanted keeps of the machine's sources those of its own distribution, and
// adds the base one once more under each of the extra suites it lacks.
func wanted(machine []Source, codename string, extra ...string) ([]Source, error) {
	var keep []Source
	var base *Source
	for _, s := range machine {
		own := slices.DeleteFunc(slices.Clone(s.Suites), func(suite string) bool {
			return suite != codename && !strings.HasPrefix(suite, codename+"-")
		})
		if len(own) == 0 {
			continue
		}
		s.Suites = own
		keep = append(keep, s)
		if base == nil && slices.Contains(own, codename) && slices.Contains(s.Components, "main") {
			base = &s
		}
	}
	if base == nil {
		return nil, fmt.Errorf("apt on this machine has no source for %s main: add one to /etc/apt", codename)
	}
	for _, suite := range extra {
		if !slices.ContainsFunc(keep, func(s Source) bool { return slices.Contains(s.Suites, suite) }) {
			more := *base
			more.Suites = []string{suite}
			keep = append(keep, more)
		}
	}
	return keep, nil
}

// format writes sources in the deb822 form.
func format(sources []Source) string {
	var b strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\n", strings.Join(s.URIs, " "), strings.Join(s.Suites, " "))
		if len(s.Components) > 0 {
			fmt.Fprintf(&b, "Components: %s\n", strings.Join(s.Components, " "))
		}
		for _, o := range s.Options {
			fmt.Fprintf(&b, "%s: %s\n", o.Name, o.Value)
		}
		b.WriteString("\n")
	}
	return b.String()
}
