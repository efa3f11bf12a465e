package schema

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// A CUE file is a program: three lines can take all memory of a machine, and
// an evaluation that runs cannot be stopped. Plain data, too, comes to a
// hundred times its size while it is parsed. Files with expressions, and all
// files where they are many, are therefore taken by a process of their own,
// this program started again, which is told its limits and is killed when it
// passes them. It gets all that it may read through its standard input and
// opens nothing. What it answers is weighed before any of it is read.

// evaluating marks the environment of that process.
const evaluating = "SWAGE_EVALUATES"

// request is the first line that the process reads. The files follow: those of
// lib/ first, then the others, each as a byte of inputBits, its name and its
// text; a zero byte ends them.
type request struct {
	Memory int64         // bytes
	Time   time.Duration // of the processor
	Loaded int64         // weight that its answers may have
	Broken bool          // lib/ has problems
}

const (
	inputFile  = 1 << iota // always
	inputAsked             // an answer is wanted, not only what others import
)

// What the process says while it works, each with the number of a file among
// those asked: which one it begins, or with which the answers weigh too much.
// Once all are done the answers follow, in order.
const (
	outputBegins  = 'b'
	outputHeavy   = 'h'
	outputAnswers = 'a'
)

// maxRefused is how many files may pass a limit of the evaluation until the
// others are not tried any more.
const maxRefused = 3

// evaluate has the files of todo parsed and evaluated. A file that passes a
// limit gets that as its problem, and the others are tried without it.
func (r *reading) evaluate(todo []int) error {
	left := r.limits.EvaluationTime
	for refused := 0; len(todo) > 0 && refused < maxRefused; refused++ {
		start := time.Now()
		waited, at, err := r.evaluateOnce(left, todo)
		left -= time.Since(start) - waited
		if err == nil {
			return nil
		}
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		why, limited := limitText(err, r.limits)
		if !limited {
			return err
		}
		f := r.files[todo[at]]
		// With a hash it is not tried again until it or lib/ changes.
		u := &unit{name: f.name, size: f.size, hash: f.digest()}
		if errors.Is(err, errTime) || left <= 0 {
			u.hash = "" // the machine may have been busy
		}
		u.take(answer{expression: true, problems: Problems{tell(Pos{File: f.name}, "", "%s", why)}})
		r.units[todo[at]] = u
		todo = slices.Delete(todo, at, at+1)
		if left <= 0 || errors.Is(err, errTime) {
			break
		}
	}
	for _, i := range todo { // not known, and not remembered
		u := &unit{name: r.files[i].name, size: r.files[i].size}
		r.units[i] = u.take(answer{})
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

// evaluateOnce runs one process and takes its answers. With an error that
// limitText knows, the file at that place of todo is to blame. waited is how
// long others had their turn.
func (r *reading) evaluateOnce(left time.Duration, todo []int) (waited time.Duration, at int, err error) {
	if os.Getenv(evaluating) != "" {
		return 0, 0, errors.New("schema: EvaluateMain must be called first in main")
	}
	running, stop := context.WithCancel(r.ctx)
	defer stop()
	cmd, err := evaluation(running)
	if err != nil {
		return 0, 0, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	var complaint tail
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start the evaluation: %w", err)
	}
	var late atomic.Bool
	deadline := time.AfterFunc(left, func() { late.Store(true); stop() })
	defer deadline.Stop()

	budget := r.limits.LoadedBytes
	for _, u := range r.units {
		if u != nil {
			budget -= u.weight()
		}
	}
	fed := make(chan error, 1)
	units := make([]*unit, len(todo))
	go func() {
		err := r.feed(in, request{r.limits.EvaluationMemory, r.limits.EvaluationTime, budget, false}, todo, units)
		fed <- errors.Join(err, in.Close())
	}()
	w := &incoming{Reader: bufio.NewReader(out), left: budget + fileWeight}
	at, err = w.until(len(todo))
	if err == nil {
		deadline.Stop() // it is done, and waits to be heard
		if err = <-fed; err == nil && r.turn != nil {
			start := time.Now()
			err = r.turn(r.ctx)
			waited = time.Since(start)
		}
		for i := 0; i < len(todo) && err == nil; i++ {
			var a answer
			if a, err = w.answer(units[i].name); err == nil {
				if a.untold || a.deferred {
					units[i].hash = "" // it is read again
				}
				r.units[todo[i]] = units[i].take(a)
			}
		}
		stop() // there is nothing more to hear
		_ = cmd.Wait()
		return waited, 0, err
	}
	heavy := errors.Is(err, errHeavy)
	if heavy {
		stop()
	}
	exit := cmd.Wait()
	stop()
	_ = in.Close()
	// What could not be read or does not end well is the cause, unless the
	// process ended first and did not take it.
	if feedErr := <-fed; feedErr != nil && !errors.Is(feedErr, os.ErrClosed) && !errors.Is(feedErr, syscall.EPIPE) {
		return 0, 0, feedErr
	}
	switch code := cmd.ProcessState.ExitCode(); {
	case heavy:
		return 0, at, Problems{tooHeavy(r.files[todo[at]].name, r.limits.LoadedBytes)}
	case late.Load() || signalled(cmd.ProcessState, syscall.SIGXCPU):
		return 0, at, errTime
	case code == exitMemory || complaint.memory() || used(cmd.ProcessState) > r.limits.EvaluationMemory*3/4:
		return 0, at, errMemory
	case code == exitPanic:
		return 0, at, errBroken
	}
	return 0, at, fmt.Errorf("the evaluation of %s ended with %w: %s", r.files[todo[at]].name, errors.Join(err, exit), complaint.text)
}

// evaluation is the process, not started yet.
func evaluation(ctx context.Context) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		program = "/proc/self/exe" // the same even after an upgrade replaced the file
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = []string{evaluating + "=1"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// feed writes what the process reads, a file at a time, and makes the units
// that its answers are for.
func (r *reading) feed(to io.Writer, req request, todo []int, units []*unit) error {
	for _, u := range r.units {
		req.Broken = req.Broken || u != nil && isLib(u.name) && len(u.problems) > 0
	}
	b := bufio.NewWriter(to)
	if err := json.NewEncoder(b).Encode(req); err != nil {
		return err
	}
	place := make(map[int]int, len(todo))
	for n, i := range todo {
		place[i] = n
	}
	for _, lib := range []bool{true, false} {
		for i, f := range r.files {
			n, asked := place[i]
			if isLib(f.name) != lib || !lib && !asked || f.size > r.limits.FileBytes {
				continue
			}
			src, err := r.source(i)
			if err != nil {
				return err
			}
			head := []byte{inputFile}
			if asked {
				head[0] |= inputAsked
				units[n] = r.unit(i, src)
			}
			head = binary.AppendUvarint(head, uint64(n))
			head = binary.AppendUvarint(appendText(head, f.name), uint64(len(src)))
			if _, err := b.Write(append(head, src...)); err != nil {
				return err
			}
		}
	}
	if err := b.WriteByte(0); err != nil {
		return err
	}
	return b.Flush()
}

// exitPanic is how Go ends what panics; only CUE's evaluator can, here.
const exitPanic = 2

// signalled reports whether a signal ended a process.
func signalled(p *os.ProcessState, by syscall.Signal) bool {
	s, ok := p.Sys().(syscall.WaitStatus)
	return ok && s.Signaled() && s.Signal() == by
}

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
