package schema

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A CUE file is a program: three lines can take all memory of a machine, and
// an evaluation that runs cannot be stopped. Files with expressions are
// therefore evaluated by a process of their own, this program started again,
// which is told its limits and is killed when it passes them. It gets all
// that it may read through its standard input and opens nothing.

// evaluating marks the environment of that process.
const evaluating = "SWAGE_EVALUATES"

// request is what the process is asked.
type request struct {
	Module string            // import path of the repository; empty: it has none
	Lib    map[string]string // files that may be imported, by name
	Files  []requestFile
	Memory int64 // bytes
}

type requestFile struct{ Name, Src string }

// answer is what it says of one file, one line of JSON each, in their order.
type answer struct {
	Value    *value
	Problems Problems
}

// evaluateUnits gives every unit with expressions its value. Units that were
// evaluated before with the same lib/ are left as they are.
func evaluateUnits(ctx context.Context, units []*unit, limits Limits) error {
	req := request{Lib: map[string]string{}, Memory: limits.EvaluationMemory}
	sum := sha256.New()
	broken := false
	for _, u := range units {
		if !isLib(u.name) || u.src == nil {
			continue
		}
		fmt.Fprintf(sum, "%s %s\n", u.name, u.hash)
		broken = broken || len(u.problems) > 0
		if u.name == moduleName {
			v, _, _ := parse(u.name, u.src)
			if m := v.get("module"); m != nil {
				req.Module, _, _ = strings.Cut(m.Text, "@")
			}
			continue
		}
		req.Lib[u.name] = string(u.src)
	}
	lib := fmt.Sprintf("%x", sum.Sum(nil))
	var todo []*unit
	for i, u := range units {
		if !u.expression || u.context == lib {
			continue
		}
		u = &unit{name: u.name, size: u.size, hash: u.hash, src: u.src, expression: true, context: lib}
		units[i] = u
		todo = append(todo, u)
	}
	if broken { // what they say follows from that, and is told there
		for _, u := range todo {
			u.checked, u.context = true, ""
		}
		return nil
	}
	deadline, cancel := context.WithTimeout(ctx, limits.EvaluationTime)
	defer cancel()
	for len(todo) > 0 {
		n, err := evaluate(deadline, req, todo)
		if todo = todo[n:]; err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why, limited := limitText(err, limits)
		if !limited {
			return err
		}
		todo[0].problems = Problems{{Pos{File: todo[0].name}, "", why}}
		if errors.Is(err, errTime) {
			todo[0].context = "" // the machine may have been busy: try again next time
		}
		todo = todo[1:]
		if deadline.Err() != nil {
			for _, u := range todo {
				u.context = ""
			}
			return nil
		}
	}
	return nil
}

var (
	errMemory = errors.New("the evaluation took too much memory")
	errTime   = errors.New("the evaluation took too long")
	errBroken = errors.New("the evaluation broke off")
)

func limitText(err error, limits Limits) (string, bool) {
	switch {
	case errors.Is(err, errMemory):
		return fmt.Sprintf("takes more than %s of memory to evaluate; write it out, or simplify its comprehensions and references", bytesText(limits.EvaluationMemory)), true
	case errors.Is(err, errBroken):
		return "cannot be evaluated by CUE, which gave up on it; write it more simply", true
	case errors.Is(err, errTime):
		return fmt.Sprintf("is not evaluated within %s; write it out, or simplify its comprehensions and references", limits.EvaluationTime), true
	}
	return "", false
}

// evaluate runs one process. It returns how many units are done; with an
// error that limitText knows, the next one is to blame.
func evaluate(ctx context.Context, req request, units []*unit) (done int, err error) {
	if os.Getenv(evaluating) != "" {
		return 0, errors.New("schema: EvaluateMain must be called first in main")
	}
	req.Files = nil
	for _, u := range units {
		req.Files = append(req.Files, requestFile{u.name, string(u.src)})
	}
	input, err := json.Marshal(req)
	if err != nil {
		return 0, err
	}
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		program = "/proc/self/exe" // the same even after an upgrade replaced the file
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(running, program)
	cmd.Env = []string{evaluating + "=1"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(input)
	var complaint tail
	cmd.Stderr = &complaint
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the evaluation: %w", err)
	}
	answers := json.NewDecoder(bufio.NewReader(out))
	for done < len(units) {
		var a answer
		if err = answers.Decode(&a); err != nil {
			break
		}
		units[done].v, units[done].problems = a.Value, a.Problems
		done++
	}
	if done == len(units) {
		stop() // there is nothing more to hear
		_ = cmd.Wait()
		return done, nil
	}
	exit := cmd.Wait()
	switch code := cmd.ProcessState.ExitCode(); {
	case ctx.Err() != nil:
		return done, errTime
	case code == exitMemory || complaint.memory() || used(cmd.ProcessState) > req.Memory*3/4:
		return done, errMemory
	case code == exitPanic:
		return done, errBroken
	}
	return done, fmt.Errorf("the evaluation of %s ended with %w: %s", units[done].name, errors.Join(err, exit), complaint.text)
}

// exitPanic is how Go ends what panics; only CUE's evaluator can, here.
const exitPanic = 2

// used is the most memory that a process had, in bytes.
func used(p *os.ProcessState) int64 {
	if u, ok := p.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

// tail keeps the beginning of what a process complains of.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p[:min(len(p), 4096-len(t.text))]...)
	return len(p), nil
}

// memory reports whether Go's runtime gave up for want of memory or stack.
func (t *tail) memory() bool {
	return bytes.Contains(t.text, []byte("out of memory")) || bytes.Contains(t.text, []byte("cannot allocate memory")) ||
		bytes.Contains(t.text, []byte("stack exceeds"))
}
