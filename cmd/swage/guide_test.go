package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuide runs the console blocks of docs/guide.md in one shell, where swage
// is this binary and its Incus a file. Each command ends well, and the lines
// that the guide shows come in their order; … stands for anything, and others
// may come between.
func TestGuide(t *testing.T) {
	exchanges := consoles(t, "../../docs/guide.md")
	var script strings.Builder
	for i, e := range exchanges {
		fmt.Fprintf(&script, "%s\necho; echo %s $?\n", e.command, mark(i))
	}
	dir := t.TempDir()
	ca, err := os.ReadFile(theAuthority(t)) // as it was copied from a server
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script.String())
	cmd.Env = append(os.Environ(), "INCUS_FILE="+filepath.Join(dir, "incus.json"), "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	for i, e := range exchanges {
		got, after, _ := strings.Cut(rest, mark(i)+" ")
		code, after, _ := strings.Cut(after, "\n")
		rest = after
		if code != "0" || !regexp.MustCompile(e.shown()).MatchString(got) {
			t.Errorf("$ %s\nexit code %s\n%s\nthe guide shows\n%s", e.command, code, got, strings.Join(e.output, "\n"))
		}
	}
}

func mark(i int) string { return fmt.Sprintf("--end of %d--", i) }

// exchange is a command of a console block with the output shown below it.
type exchange struct {
	command string
	output  []string
}

func (e exchange) shown() string {
	pattern := "(?s)"
	for _, line := range e.output {
		pattern += `(?m:^` + strings.ReplaceAll(regexp.QuoteMeta(line), "…", `[^\n]*`) + `$).*`
	}
	return pattern
}

func consoles(t *testing.T, name string) (all []exchange) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllSubmatch(text, -1) {
		for line := range strings.Lines(string(block[1])) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				all = append(all, exchange{command: command})
			} else if len(all) > 0 {
				last := &all[len(all)-1]
				last.output = append(last.output, line)
			}
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no console block", name)
	}
	return all
}

// TestDocumentsNameCommands [G6]: every swage command that a document or a CI file
// speaks of is there with its flags, and the documents' own console blocks,
// which tests run, have it.
func TestDocumentsNameCommands(t *testing.T) {
	said := regexp.MustCompile("`swage ([a-z][^`]*)`|(?m:^[ -]*(?:run: |- )?(?:[^ ]*/)?swage ((?:validate|plan)[^\n]*))")
	// The agent runs behind every block of the README from make up on.
	ran := "swage agent "
	for _, name := range []string{"../../README.md", "../../docs/guide.md"} {
		for _, e := range consoles(t, name) {
			ran += strings.ReplaceAll(e.command, "$SWAGE", "swage") + " \n"
		}
	}
	files, _ := filepath.Glob("../../examples/ci/*.yml")
	if len(files) != 3 {
		t.Fatal(files)
	}
	named := 0
	for _, name := range append(files, "../../README.md", "../../docs/guide.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range said.FindAllStringSubmatch(string(text), -1) {
			for _, command := range alternatives(m[1] + m[2]) {
				named++
				args := strings.Fields(regexp.MustCompile(`[][]|[<>|].*`).ReplaceAllString(command, ""))
				n := 0 // words of the command itself
				for n < len(args) && regexp.MustCompile(`^[a-z]+$`).MatchString(args[n]) {
					n++
				}
				path := "swage " + strings.Join(args[:n], " ")
				var help, errs bytes.Buffer
				code := run(t.Context(), append(args, "--help"), &help, &errs, nil)
				if code != 0 || !strings.Contains(help.String(), path+" ") && !strings.Contains(help.String(), path+"\n") {
					t.Errorf("%s: %s: there is no such command: %s", name, command, errs.String())
				}
				if !strings.Contains(ran, path+" ") {
					t.Errorf("%s: %s: no console block of the README or the guide runs it", name, path)
				}
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d commands were found in the documents", named)
	}
}

// alternatives are the commands that a table writes as one: a b\|c.
func alternatives(command string) []string {
	i := strings.Index(command, `\|`)
	if i < 0 {
		return []string{command}
	}
	head := command[:strings.LastIndex(command[:i], " ")+1]
	var out []string
	for word := range strings.SplitSeq(command[len(head):], `\|`) {
		out = append(out, head+word)
	}
	return out
}
