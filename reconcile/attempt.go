package reconcile

import (
	"math/rand/v2"
	"time"

	"swage/runtime"
)

// attempt is how often the steps of one object were begun for one commit, by
// the first of them: who changes one thing and then another is no reason to
// wait. What fails, or does not last, such as a container whose init ends at
// once, is tried more and more seldom, whatever hints come: its own steps cause
// some.
type attempt struct {
	commit string
	times  int
	next   time.Time // not before
	err    error     // of the last time
}

// over reports whether an attempt no longer counts: it lasted, or is for
// another commit.
func (t *attempt) over(commit string) bool {
	return t.commit != commit || time.Since(t.next) > lastRetry
}

func (t *attempt) delay() {
	d := min(firstRetry<<min(t.times-1, 10), lastRetry)
	t.next = time.Now().Add(d/2 + rand.N(d))
}

func (t *attempt) fail(err error) {
	t.err = err
	t.delay()
}

// begin counts an attempt at an object, which begins with a step; nil outside
// Run, where nobody loops.
func (a *Agent) begin(first runtime.Step, commit string) *attempt {
	if a.attempts == nil {
		return nil
	}
	key := beginning(first)
	t := a.attempts[key]
	if t == nil {
		t = &attempt{commit: commit}
		a.attempts[key] = t
	}
	t.times, t.next, t.err = t.times+1, time.Now(), nil
	if t.times > 1 { // once it may be drift, which is put back at once
		t.delay()
	}
	return t
}

// due is when the first of what failed or was put off may be begun.
func (a *Agent) due() time.Time {
	var due time.Time
	for _, t := range a.attempts {
		if (t.err != nil || t.times > 1) && time.Now().Before(t.next) && (due.IsZero() || t.next.Before(due)) {
			due = t.next
		}
	}
	return due
}

// beginning is the key of the attempt that begins with a step.
func beginning(first runtime.Step) string { return key(first) + "\n" + first.String() }

// key is the same for the steps on one object in every pass for a commit.
func key(s runtime.Step) string {
	switch s := s.(type) {
	case runtime.CreateProject:
		return s.Project.Name
	case runtime.DeleteProject:
		return s.Project.Name
	}
	if c := s.Container(); c.Name != "" {
		return c.Ref()
	}
	return s.String()
}
