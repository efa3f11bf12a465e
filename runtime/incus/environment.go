package incus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Incus gives a container's environment to its first program and to what it runs
// inside by itself. Services of systemd, those of a user's manager, sessions of PAM
// (login, su, cron) and login shells start with a clean environment; each reads it
// from a file of its own, in a syntax of its own. The texts of the four are made
// here; see writeEnvironment.
const (
	managerFile = "/etc/systemd/system.conf.d/50-swage.conf"
	userFile    = "/etc/environment.d/99-swage.conf"
	pamFile     = "/etc/environment"
	profileFile = "/etc/profile.d/swage.sh"
)

// keyEnvironment is a digest of the environment that the files inside hold. It
// is absent while they hold none.
const keyEnvironment = "user.swage.environment"

// asFound is keyEnvironment of an instance that was adopted with an environment:
// its files stay as they are until the environment changes.
const asFound = "as found"

// environmentNote is keyEnvironment for an environment. Its first part changes
// with the way in which the files are written.
func environmentNote(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(sum, "%d %s=%d %s\n", len(name), name, len(env[name]), env[name])
	}
	return "1-" + hex.EncodeToString(sum.Sum(nil)[:8])
}

// unwritten reports whether the files inside hold another environment.
func unwritten(note string, env map[string]string) bool {
	return note != asFound && note != environmentNote(env)
}

// managerText is a drop-in for systemd's own configuration. DefaultEnvironment
// knows quotes, escapes of C and specifiers with %, and no variables with $
// (systemd-system.conf(5), systemd.syntax(7)). Each line adds to those before.
func managerText(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("# Written by swage from environment_vars; what is changed here is lost.\n[Manager]\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&out, "DefaultEnvironment=\"%s=%s\"\n", name, managerValue(env[name]))
	}
	return out.String()
}

func managerValue(value string) string {
	var out strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\\' || c == '"':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c == '%':
			out.WriteString("%%")
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// userText is a drop-in for the managers of users (environment.d(5)). Debian has
// them read /etc/environment as well, by other rules than PAM; this file is read
// after that one, so that its values count. Control characters arrive as escapes,
// a tab as \t: systemd does that to all of its environment generators.
func userText(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("# Written by swage from environment_vars; what is changed here is lost.\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&out, "%s=\"%s\"\n", name, userValue.Replace(env[name]))
	}
	return out.String()
}

var userValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `$$`)

// The lines between which swage writes into /etc/environment, which others write
// as well.
const (
	pamBegin = "# BEGIN swage: environment_vars; what is changed up to END is lost"
	pamEnd   = "# END swage"
)

// pamLine is how many bytes of a line pam_env reads since Linux-PAM 1.4, with
// room to spare. It gives up the whole rest of the file at a longer one.
const pamLine = 8000

// pamText puts the environment into the text of /etc/environment, at its end,
// since the last line for a variable counts.
//
// pam_env(8) takes one pair of quotes away and knows no escapes. It takes all
// from a # on for a comment, within quotes too, so what holds one cannot be said
// here, and a part of a value is worse than none: login shells alone have it.
func pamText(env map[string]string, have string) string {
	rest := withoutBlock(have)
	if len(env) == 0 {
		return rest
	}
	var out strings.Builder
	out.WriteString(rest)
	if rest != "" && !strings.HasSuffix(rest, "\n") {
		out.WriteByte('\n')
	}
	out.WriteString(pamBegin + "\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		line := name + "=" + env[name]
		if strings.Trim(env[name], plainBytes) != "" || env[name] == "" {
			line = name + `="` + env[name] + `"`
		}
		switch {
		case strings.Contains(line, "#"):
			line = "# " + name + " holds a number sign, which pam_env takes for a comment; see " + profileFile
		case len(line) > pamLine:
			line = "# " + name + " is longer than pam_env reads; see " + profileFile
		}
		out.WriteString(line + "\n")
	}
	out.WriteString(pamEnd + "\n")
	return out.String()
}

// plainBytes need no quotes, for whoever reads the file in their own way.
const plainBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@,+-"

// withoutBlock takes what swage wrote out of /etc/environment. A block without an
// end is one line: what others wrote behind it stays.
func withoutBlock(text string) string {
	var out []string
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) != pamBegin {
			out = append(out, lines[i])
			continue
		}
		end := slices.IndexFunc(lines[i:], func(line string) bool { return strings.TrimSpace(line) == pamEnd })
		i += max(0, end)
	}
	return strings.Join(out, "")
}

// profileText is for login shells, which may come without PAM, and which PAM
// cannot tell everything. A value that somebody chose for a shell stays, but for
// PATH: /etc/profile itself has just set that.
func profileText(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("# Written by swage from environment_vars; what is changed here is lost.\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if name != "PATH" {
			fmt.Fprintf(&out, `[ -n "${%s+set}" ] || `, name)
		}
		fmt.Fprintf(&out, "export %s='%s'\n", name, strings.ReplaceAll(env[name], "'", `'\''`))
	}
	return out.String()
}
