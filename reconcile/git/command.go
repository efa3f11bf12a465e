package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Bounds on the stock git that works on a repository for us, whatever a
// stranger's pack makes it do: it dies of them, and the agent does not.
const childTime = 10 * time.Minute

var childLimits = rlimits{data: 1 << 30, cpu: uint64(childTime / time.Second), file: 4 << 30}

// stock runs the stock git in a bare repository, with nobody's configuration
// and within bounds, and gives what it prints.
func stock(ctx context.Context, dir string, stdin func(io.Writer) error, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, childTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "pack.threads=1", "-c", "pack.windowMemory=64m", "-c", "core.bigFileThreshold=16m",
		"-c", "pack.deltaCacheSize=64m", "-c", "core.deltaBaseCacheLimit=64m",
		"-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GIT_DIR=" + dir, "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
	}
	// What it starts itself ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	said := &words{}
	cmd.Stdout, cmd.Stderr = &out, said
	var in io.WriteCloser
	if stdin != nil {
		var err error
		if in, err = cmd.StdinPipe(); err != nil {
			return "", err
		}
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("the stock git is needed: install the package git: %w", err)
	}
	err := childLimits.set(cmd.Process.Pid)
	if err != nil {
		cancel()
	}
	var fed error
	if in != nil && err == nil {
		fed = stdin(in)
		if fed != nil && !errors.Is(fed, syscall.EPIPE) {
			cancel() // half of it must not pass for all of it
		}
		in.Close()
	}
	ended := cmd.Wait()
	switch {
	case fed != nil && !errors.Is(fed, syscall.EPIPE):
		return "", fed
	case err != nil:
		return "", err
	case ended != nil:
		return "", &stockError{args[0], said.String(), ended}
	}
	return out.String(), fed
}

// stockError is that the stock git failed, and what it said.
type stockError struct {
	command, said string
	err           error
}

func (e *stockError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", e.command, e.err, e.said)
}

func (e *stockError) Unwrap() error { return e.err }
