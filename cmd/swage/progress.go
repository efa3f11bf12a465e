package main

import (
	"fmt"
	"io"
	"time"

	"swage/reconcile"
)

// progressLine is one line on a terminal that changes in place. Elsewhere it is
// silent.
type progressLine struct {
	out   io.Writer
	shown string
}

func newProgress(out io.Writer) *progressLine {
	if !terminal(out) {
		out = io.Discard
	}
	return &progressLine{out: out}
}

func (p *progressLine) show(text string) {
	if text != p.shown {
		fmt.Fprint(p.out, "\r\x1b[K"+text)
		p.shown = text
	}
}

func (p *progressLine) clear() { p.show("") }

// doing says in a line what is done now: a step that takes its time with its
// phase, and after two minutes that it does.
func doing(r *reconcile.Report) string {
	done, now := 0, ""
	for _, s := range r.Steps {
		switch s.State {
		case reconcile.Done:
			done++
		case reconcile.Doing:
			if now == "" {
				now = s.Step
				if s.Phase != "" {
					now += ": " + s.Phase
				}
			}
		}
	}
	text := fmt.Sprintf("%d of %d steps done", done, len(r.Steps))
	if now != "" {
		text += "; " + now
	}
	if since := time.Since(r.Started); since > 2*time.Minute {
		text += fmt.Sprintf(" (for %s)", since.Round(time.Second))
	}
	return text
}
