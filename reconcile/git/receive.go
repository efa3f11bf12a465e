package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// ReadUpdates reads what a pre-receive hook is told (githooks(5)).
func ReadUpdates(r io.Reader) ([]Update, error) {
	var out []Update
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		u, err := parseUpdate(lines.Text())
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, lines.Err()
}

func parseUpdate(text string) (Update, error) {
	f := strings.SplitN(strings.TrimSuffix(text, "\n"), " ", 3)
	if len(f) != 3 {
		return Update{}, fmt.Errorf("git tells of an update as %q", text)
	}
	return Update{f[0], f[1], f[2]}, nil
}

// ProcReceive speaks with git as a proc-receive hook does (githooks(5)): it
// reads the updates and the push options, has each done, and answers for each
// whether it was. The error of do is the reason that the pusher reads.
func ProcReceive(in io.Reader, out io.Writer, do func(u Update, options []string) error) error {
	r := bufio.NewReader(in)
	lines := func() (all []string, err error) {
		for {
			text, err := packet(r)
			if err != nil || text == nil {
				return all, err
			}
			all = append(all, strings.TrimSuffix(string(text), "\n"))
		}
	}
	greeting, err := lines()
	if err != nil || len(greeting) != 1 {
		return fmt.Errorf("git does not greet its hook as it should: %w", err)
	}
	version, features, _ := strings.Cut(greeting[0], "\x00")
	if version != "version=1" {
		return fmt.Errorf("git greets its hook with %q, want version 1", version)
	}
	answer := "version=1"
	withOptions := slices.Contains(strings.Fields(features), "push-options")
	if withOptions {
		answer += "\x00push-options"
	}
	if _, err := io.WriteString(out, line("%s\n", answer)+"0000"); err != nil {
		return err
	}
	commands, err := lines()
	if err != nil {
		return err
	}
	var options []string
	if withOptions {
		if options, err = lines(); err != nil {
			return err
		}
	}
	for _, text := range commands {
		u, err := parseUpdate(text)
		if err != nil {
			return err
		}
		verdict := "ok " + u.Ref
		if err := do(u, options); err != nil {
			verdict = "ng " + u.Ref + " " + note([]byte(err.Error()))
		}
		if _, err := io.WriteString(out, line("%s\n", verdict)); err != nil {
			return err
		}
	}
	_, err = io.WriteString(out, "0000")
	return err
}

// Move changes a ref of the repository whose hook this process is, if nobody
// else did meanwhile. What it takes back stays readable for the agent, under a
// name that is served to nobody.
func Move(ctx context.Context, u Update) error {
	dir, err := os.Getwd() // githooks(5)
	if err != nil {
		return err
	}
	m := mirror{dir: dir, branch: strings.TrimPrefix(u.Ref, "refs/heads/")}
	if strings.Trim(u.Old, "0") != "" && !u.Deletes() {
		// What the branch was is the client's word: any hash may stand there.
		if tip, err := m.tip(); err != nil || tip.String() != u.Old {
			return errors.Join(errors.New("somebody else has pushed meanwhile; fetch, and push again"), err)
		}
		if err := m.keep(ctx, plumbing.NewHash(u.Old), plumbing.NewHash(u.New)); err != nil {
			return err
		}
	}
	for again := true; ; again = false {
		cmd := exec.CommandContext(ctx, "git", "update-ref", u.Ref, u.New, u.Old)
		cmd.Env = os.Environ()
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			return nil
		case bytes.Contains(out, []byte("unable to resolve reference")):
			return fmt.Errorf("the branch of the repository is broken; restart the agent, which leads it back to a commit that can be read, and push again (%s)", note(out))
		case !bytes.Contains(out, []byte(".lock': File exists")):
			return fmt.Errorf("somebody else has pushed meanwhile; fetch, and push again (%s)", note(out))
		}
		removed, err := unlock(dir, false)
		if err != nil {
			return err
		}
		if len(removed) == 0 || !again {
			return fmt.Errorf("the repository is locked, by another push or by one that was killed less than %s ago; push again (%s)", staleAfter, note(out))
		}
	}
}
