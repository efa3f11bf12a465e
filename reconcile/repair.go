package reconcile

import (
	"fmt"
	"sync"
	"time"

	"swage/runtime"
)

// repairAgain is how long the same repair is counted before it is told again.
const repairAgain = time.Minute

// repairs tells of what was put back on the host, each kind once in a while: who
// destroys in a loop must not push everything else out of the journal.
type repairs struct {
	mu   sync.Mutex
	told map[string]*repeated // by text
}

type repeated struct {
	at    time.Time // told last
	since int       // how often it happened after that
}

// due reports whether to tell of a repair now, and how often it happened without
// being told.
func (r *repairs) due(text string, now time.Time) (unsaid int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text, t := range r.told {
		if now.Sub(t.at) >= repairAgain && t.since == 0 {
			delete(r.told, text)
		}
	}
	t := r.told[text]
	if t != nil && now.Sub(t.at) < repairAgain {
		t.since++
		return 0, false
	}
	if r.told == nil {
		r.told = map[string]*repeated{}
	}
	if t != nil {
		unsaid = t.since
	}
	r.told[text] = &repeated{at: now}
	return unsaid, true
}

// guarded is Repaired, with a new look at what is left: status tells it.
func (a *Agent) guarded(r runtime.Repair) {
	a.Repaired(r)
	if r.Err != nil || r.Faulted {
		a.hint()
	}
}

// Repaired notes in the journal and the log that something of the host was put
// back, or could not be. Any goroutine may call it.
func (a *Agent) Repaired(r runtime.Repair) {
	e := Event{Type: HostRepaired, Text: "put back: " + r.What}
	if r.Err != nil {
		e.Text, e.Error = "not put back: "+r.What, r.Err.Error()
	}
	unsaid, due := a.repairs.due(e.Text+e.Error, time.Now())
	if !due {
		return
	}
	if unsaid > 0 {
		e.Text += fmt.Sprintf(" (and %d times since it was last told)", unsaid)
	}
	a.journal.add(e)
	if r.Err != nil {
		a.Log.Error("changed behind swage's back on this host and not put back", "what", r.What, "err", r.Err)
		return
	}
	a.Log.Warn("changed behind swage's back on this host; put back", "what", r.What)
}
