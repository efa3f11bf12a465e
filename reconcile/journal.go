package reconcile

import (
	"sync"
	"time"
)

// Event is something that happened, for people and programs that look on.
type Event struct {
	ID        int       `json:"id"` // counts up from 1 in one process
	Time      time.Time `json:"time"`
	Type      string    `json:"type"` // see the constants
	Commit    string    `json:"commit,omitempty"`
	Container string    `json:"container,omitempty"` // project/container
	Text      string    `json:"text"`
	Error     string    `json:"error,omitempty"`
}

// The types of events.
const (
	CommitAccepted = "commit.accepted"
	CommitRejected = "commit.rejected"
	CommitEnded    = "commit.ended" // Text is its state
	// CommitWaits is a commit that is not applied while another one stands:
	// Text is pinned or suspended, Error the reason.
	CommitWaits  = "commit.waits"
	StepDone     = "step.done"
	StepFailed   = "step.failed"
	DriftSeen    = "drift"
	DeletionHeld = "held"
	// ConflictSeen is an object of the engine with the mark of this server that is
	// left as it is: Error says which and what to do.
	ConflictSeen = "conflict"
	// HostRepaired is something of the host that somebody took away: Text says
	// what, Error why it could not be put back. The same is told at most once a
	// minute.
	HostRepaired = "host.repaired"
	// StandingChanged is what a person told the agent: Text is pinned, suspended,
	// resumed or retried.
	StandingChanged = "standing"
)

// kept is how many events a journal keeps.
const kept = 1000

// journal keeps the newest events. The zero journal is empty and ready.
type journal struct {
	mu     sync.Mutex
	events []Event
	last   int
	news   chan struct{} // closed by the next event
}

func (j *journal) add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	e.ID, e.Time = j.last, time.Now().UTC()
	if len(j.events) == kept {
		j.events = append(j.events[:0:0], j.events[kept/10:]...)
	}
	j.events = append(j.events, e)
	if j.news != nil {
		close(j.news)
		j.news = nil
	}
}

func (j *journal) after(id int) ([]Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.news == nil {
		j.news = make(chan struct{})
	}
	if id > j.last { // of an earlier process
		id = 0
	}
	for i, e := range j.events {
		if e.ID > id {
			return append([]Event(nil), j.events[i:]...), j.news
		}
	}
	return nil, j.news
}

// Events returns what happened after the event with that ID, as far as it is
// remembered, and a channel that is closed when there is more. Any goroutine
// may call it.
func (a *Agent) Events(after int) ([]Event, <-chan struct{}) { return a.journal.after(after) }
