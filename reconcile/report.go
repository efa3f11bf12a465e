package reconcile

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// Report is what the agent knows and does, for status and the API. A
// published Report is never written again.
type Report struct {
	Server string `json:"server"`
	Zone   string `json:"zone,omitempty"`

	// Commit is the accepted commit, which is or was applied.
	Commit string      `json:"commit,omitempty"`
	State  CommitState `json:"state"`
	// Standing is why another commit than the newest is in force, or nothing
	// is done; Newest is that commit then.
	Standing *Standing `json:"standing,omitempty"`
	Newest   string    `json:"newest,omitempty"`
	// RollsBack says of one that failed that it is put back by itself, now or
	// when it goes on failing.
	RollsBack bool `json:"rolls_back,omitempty"`
	// Error is why State is failed.
	Error string `json:"error,omitempty"`
	// Source is why nobody can tell whether there is a newer commit.
	Source string `json:"source_error,omitempty"`
	// Rejected is the newest commit when it could not be accepted.
	Rejected *Rejected `json:"rejected,omitempty"`

	Steps      []StepReport      `json:"steps"`
	Held       []Held            `json:"held"`
	Drift      []Drift           `json:"drift,omitempty"`
	Conflicts  []Conflict        `json:"conflicts,omitempty"`
	Containers []ContainerReport `json:"containers"`
	Projects   []ProjectReport   `json:"projects"`
	Aliases    []AliasReport     `json:"aliases"`
	Snapshots  []SnapshotReport  `json:"snapshots,omitempty"`
	// History is what became of the last commits, the newest first.
	History []HistoryEntry `json:"history,omitempty"`
	// Warnings are about the node.
	Warnings []string `json:"warnings,omitempty"`
	// ClientAddresses says whether containers see the addresses of those who
	// call them through the edge. Absent where there is no edge.
	ClientAddresses *ClientAddresses `json:"client_addresses,omitempty"`
	// StaysOpen are containers that are open although their project is closed.
	StaysOpen []Origin `json:"stays_open,omitempty"`
	// SSH is where pushes are taken over SSH. Absent: nowhere.
	SSH *SSH `json:"ssh,omitempty"`

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
}

// SSH is a server of SSH, and what it is known by.
type SSH struct {
	Address string `json:"address"`
	HostKey string `json:"host_key"` // the fingerprint, as ssh shows it
}

// ClientAddresses is whose addresses containers see in their sockets.
type ClientAddresses struct {
	Own bool   `json:"own"`           // those of the callers; otherwise the edge's
	Why string `json:"why,omitempty"` // not
}

// CommitState is how far a commit is.
type CommitState string

// The states of a commit.
const (
	Pending    CommitState = "pending"     // no pass has read it
	Applying   CommitState = "applying"    // steps are being done
	Applied    CommitState = "applied"     // nothing is left to do
	Incomplete CommitState = "held"        // all is done but what is held
	Failed     CommitState = "failed"      // a step or a read failed; it is tried again
	Superseded CommitState = "superseded"  // a newer commit came before the end
	RolledBack CommitState = "rolled-back" // it failed; the one before stands in for it
	Pinned     CommitState = "pinned"      // nothing is left to do of the one that a person chose
	Suspended  CommitState = "suspended"   // nothing is done
	// Interrupted is a pass that begins anew: something changed while it waited
	// for the health of a container.
	Interrupted CommitState = "interrupted"
)

// Outcome is the state in words for people.
func (r *Report) Outcome() string {
	if r.State == Incomplete {
		return fmt.Sprintf("applied, %d held", len(r.Held))
	}
	return string(r.State)
}

// Rejected is a commit that leaves everything as it is.
type Rejected struct {
	Commit string `json:"commit"`
	Error  string `json:"error"`
}

// StepReport is one step of the last plan that had any.
type StepReport struct {
	Step      string         `json:"step"`
	Container string         `json:"container,omitempty"` // project/container
	Effect    runtime.Effect `json:"effect"`
	State     StepState      `json:"state"`
	Phase     string         `json:"phase,omitempty"` // what it waits for now
	Error     string         `json:"error,omitempty"`
	Started   time.Time      `json:"started,omitzero"`
	Millis    int64          `json:"ms,omitempty"`
}

// StepState is how far a step is.
type StepState string

// The states of a step. Skipped means that something it waits for failed.
const (
	Waiting StepState = "waiting"
	Doing   StepState = "running"
	Done    StepState = "done"
	Broken  StepState = "failed"
	Skipped StepState = "skipped"
)

// ProjectReport is one project with something on this server.
type ProjectReport struct {
	Name       string     `json:"name"`
	ID         runtime.ID `json:"id,omitempty"`
	Color      string     `json:"color,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	Containers int        `json:"containers"`
	Spares     int        `json:"spares"`   // of the warm pool, ready
	Archives   int        `json:"archives"` // of deleted containers
}

// AliasReport is one alias of this server.
type AliasReport struct {
	Name      string `json:"name"`
	Container string `json:"container"` // project/container that it leads to now
	Program   string `json:"program"`
	Port      uint16 `json:"port,omitempty"`
	URL       string `json:"url"`
}

// SnapshotReport is one snapshot.
type SnapshotReport struct {
	ID        runtime.ID `json:"id"`
	Container string     `json:"container"`      // project/container
	Archive   bool       `json:"archive"`        // the container was deleted
	Name      string     `json:"name,omitempty"` // empty: the archive itself
	Taken     time.Time  `json:"taken,omitzero"`
	Expires   time.Time  `json:"expires,omitzero"`
}

// ContainerReport is one container that the fleet declares or swage owns.
type ContainerReport struct {
	Project string         `json:"project"`
	Name    string         `json:"name"`
	ID      runtime.ID     `json:"id,omitempty"`
	State   ContainerState `json:"state"`
	Reason  string         `json:"reason,omitempty"` // of a state that is not what was asked for
	Status  runtime.Status `json:"status,omitempty"` // what the runtime says
	Image   string         `json:"image"`
	Color   string         `json:"color,omitempty"`
	Address string         `json:"address,omitempty"`
	IPv6    string         `json:"ipv6,omitempty"`
	Commit  string         `json:"commit,omitempty"` // that last changed it
	URLs    []string       `json:"urls,omitempty"`   // aliases first
}

// ContainerState is a container as a person sees it.
type ContainerState string

// The states of a container. Running, paused and stopped are as asked for.
const (
	StateWaiting  ContainerState = "waiting" // for its turn, or for what it depends on
	StateCreating ContainerState = "creating"
	StateCopying  ContainerState = "copying"
	StateRunning  ContainerState = "running"
	StatePaused   ContainerState = "paused"
	StateStopped  ContainerState = "stopped"
	StateDeleting ContainerState = "deleting"
	StateFailed   ContainerState = "failed"
	StateHeld     ContainerState = "held" // a change that its commit asks for is not made; see Report.Held
	StateDrifted  ContainerState = "drifted"
)

// tell publishes a copy of r, with the containers as they are known now.
func (a *Agent) tell(r *Report) {
	out := *r
	out.Steps = slices.Clone(r.Steps)
	a.failing.showIn(&out)
	if a.Unsynchronised != nil && a.Unsynchronised() {
		out.Warnings = append(out.Warnings, "the node's clock is not synchronised: certificates, tokens and expiry go by it; run an NTP client")
	}
	if a.ClientAddresses != nil {
		why := a.ClientAddresses()
		out.ClientAddresses = &ClientAddresses{why == "", why}
	}
	if a.seen != nil {
		out.Warnings = append(out.Warnings, a.seen.Faults...)
		view, _ := a.view()
		routes := Routes(a.fleet, a.Server, view)
		out.Containers = a.containers(r, routes)
		out.StaysOpen = staysOpen(a.fleet, a.Server)
		out.Projects, out.Aliases, out.Snapshots = a.projects(), a.aliases(routes), a.snapshots()
		out.History = a.history()
		state := a.seen.Clone() // steps change it in place
		a.state.Store(&state)
	}
	a.report.Store(&out)
}

func (a *Agent) projects() []ProjectReport {
	out := []ProjectReport{}
	for _, p := range a.seen.Projects {
		line := ProjectReport{Name: p.Name, ID: p.ID}
		for _, q := range a.fleet.Projects {
			if q.Name == p.Name {
				line.Color, line.Comment = q.Color, q.Comment
			}
		}
		for _, c := range a.seen.Containers {
			if c.Project == p.Name {
				line.Containers++
			}
		}
		for _, s := range a.seen.Spares {
			if s.Project == p.Name {
				line.Spares++
			}
		}
		for _, x := range a.seen.Archives {
			if x.Project == p.Name {
				line.Archives++
			}
		}
		out = append(out, line)
	}
	return out
}

func (a *Agent) aliases(routes edge.Config) []AliasReport {
	out := []AliasReport{}
	for _, x := range routes.Aliases {
		out = append(out, AliasReport{x.Name, x.Container, x.Program, x.Port, "https://" + x.Name + "." + routes.Zone + a.port() + "/"})
	}
	return out
}

func (a *Agent) snapshots() []SnapshotReport {
	var out []SnapshotReport
	add := func(id runtime.ID, ref string, archive bool) {
		for _, s := range a.seen.Snapshots[id] {
			out = append(out, SnapshotReport{id, ref, archive, s.Name, s.Taken, s.Expires})
		}
	}
	for _, c := range a.seen.Containers {
		add(c.ID, c.Ref(), false)
	}
	for _, x := range a.seen.Archives {
		ref := x.Project + "/" + x.Name
		out = append(out, SnapshotReport{ID: x.ID, Container: ref, Archive: true, Expires: x.Until})
		add(x.ID, ref, true)
	}
	return out
}

func (a *Agent) containers(r *Report, routes edge.Config) []ContainerReport {
	urls := map[string][]string{} // by ref
	add := func(ref, label string) {
		urls[ref] = append(urls[ref], "https://"+label+"."+routes.Zone+a.port()+"/")
	}
	for _, al := range routes.Aliases {
		add(al.Container, al.Name)
	}
	for _, c := range routes.Containers {
		switch {
		case c.Closed: // its hosts answer nobody
			delete(urls, c.Name)
		case c.ID != "" && c.Catalogue != nil:
			add(c.Name, c.ProjectID+"-"+c.ID+"-http")
		}
	}
	states := a.states(r)
	out := []ContainerReport{}
	there := map[string]bool{}
	for _, c := range a.seen.Containers {
		there[c.Ref()] = true
		line := ContainerReport{
			Project: c.Project, Name: c.Name, ID: c.ID, State: ContainerState(c.Status), Color: c.Color,
			Status: c.Status, Image: c.Image, Commit: c.Commit, URLs: urls[c.Ref()],
		}
		if c.Status == runtime.Other {
			line.State, line.Reason = StateFailed, "Incus reports neither running, paused nor stopped; see incus info"
		}
		if s, ok := states[c.Ref()]; ok {
			line.State, line.Reason = cmp.Or(s.state, line.State), s.reason
		}
		if addr := a.seen.Addr[c.ID]; addr.IsValid() {
			line.Address = addr.String()
		}
		if addr := a.seen.Addr6[c.ID]; addr.IsValid() {
			line.IPv6 = addr.String()
		}
		out = append(out, line)
	}
	for _, w := range Desired(a.fleet, a.Server).Containers {
		if there[w.Ref()] {
			continue
		}
		line := ContainerReport{Project: w.Project, Name: w.Name, ID: w.ID, Image: w.Image, Color: w.Color, State: StateWaiting}
		if s, ok := states[w.Ref()]; ok {
			line.State, line.Reason = cmp.Or(s.state, line.State), s.reason
		}
		out = append(out, line)
	}
	slices.SortStableFunc(out, func(x, y ContainerReport) int {
		return strings.Compare(x.Project+"/"+x.Name, y.Project+"/"+y.Name)
	})
	return out
}

type stateReason struct {
	state  ContainerState
	reason string
}

// states are those that differ from what the runtime says, by ref: the later
// ones here count more.
func (a *Agent) states(r *Report) map[string]stateReason {
	out := map[string]stateReason{}
	for _, d := range r.Drift {
		if a.fleet.ReportDrift {
			out[d.Ref] = stateReason{StateDrifted, strings.Join(d.Changed, ", ")}
		}
	}
	for _, c := range r.Conflicts {
		out[c.Ref] = stateReason{reason: c.Why}
	}
	for ref, v := range a.vitals {
		select {
		case <-v.healthy:
		case <-v.late:
			out[ref] = stateReason{StateFailed, v.why().Error()}
		default:
			out[ref] = stateReason{StateCreating, "waits for its health check"}
		}
	}
	for _, c := range a.seen.Containers {
		if s := a.starts[c.ID]; s != nil && s.err != nil {
			out[c.Ref()] = stateReason{StateFailed, s.err.Error()}
		}
	}
	for _, h := range r.Held {
		out[h.Ref] = stateReason{StateHeld, h.Why}
	}
	for _, s := range r.Steps {
		if s.Container == "" {
			continue
		}
		switch s.State {
		case Doing:
			reason := cmp.Or(s.Phase, s.Step)
			if since := time.Since(s.Started); since > slow {
				reason += fmt.Sprintf(", for %s now; it fails after %s", since.Round(time.Second), stepDeadline)
			}
			out[s.Container] = stateReason{doing(s), reason}
		case Broken:
			out[s.Container] = stateReason{StateFailed, s.Error}
		case Skipped:
			if old := out[s.Container]; old.state != StateFailed {
				out[s.Container] = stateReason{StateWaiting, s.Error}
			}
		}
	}
	return out
}

// slow is when a step takes longer than it should.
const slow = 2 * time.Minute

// doing is the state of a container that a step works on.
func doing(s StepReport) ContainerState {
	switch {
	case s.Effect == runtime.Destroy:
		return StateDeleting
	case strings.Contains(s.Step, "(copy of "):
		return StateCopying
	case strings.HasPrefix(s.Step, "create "), strings.HasPrefix(s.Step, "adopt "):
		return StateCreating
	}
	return ""
}

// stepped tells who looks on of a step that ended.
func (a *Agent) stepped(s StepReport, commit string) {
	e := Event{Type: StepDone, Commit: commit, Container: s.Container, Text: s.Step, Error: s.Error}
	if s.State == Broken {
		e.Type = StepFailed
	}
	a.journal.add(e)
	if a.OnStep != nil {
		a.OnStep(s)
	}
}

// accepted tells of a new commit.
func (a *Agent) accepted(f *schema.Fleet) {
	a.journal.add(Event{Type: CommitAccepted, Commit: f.Commit, Text: "accepted"})
}

// why is what is wrong with the commit.
func (r *Report) why() string {
	if r.State == RolledBack {
		return r.Standing.Fall()
	}
	return r.Error
}

// ended tells of the end of a pass that changed something, or changes what was
// said last.
func (a *Agent) ended(r *Report) {
	old := a.said
	a.said = *r
	if r.State != Interrupted && (r.State != old.State || r.Commit != old.Commit || r.Error != old.Error) {
		a.journal.add(Event{Type: CommitEnded, Commit: r.Commit, Text: string(r.State), Error: r.why()})
	}
	if s := r.Standing; s != nil && r.Newest != r.Commit && (r.Newest != old.Newest || s.Mode != old.Standing.Mode) {
		a.journal.add(Event{Type: CommitWaits, Commit: r.Newest, Text: string(s.Mode), Error: s.Reason})
	}
	for _, h := range r.Held {
		if !slices.Contains(old.Held, h) {
			a.journal.add(Event{Type: DeletionHeld, Commit: r.Commit, Container: h.Ref, Text: h.What, Error: h.Why})
		}
	}
	for _, c := range r.Conflicts {
		if !slices.Contains(old.Conflicts, c) {
			a.journal.add(Event{Type: ConflictSeen, Container: c.Ref, Text: "left as it is", Error: c.Why})
		}
	}
	for _, d := range r.Drift {
		if !slices.ContainsFunc(old.Drift, func(o Drift) bool { return o.Container == d.Container && slices.Equal(o.Changed, d.Changed) }) {
			a.journal.add(Event{Type: DriftSeen, Container: d.Ref, Text: strings.Join(d.Changed, ", ")})
		}
	}
}

// port is what a URL needs to reach the edge: nothing when it is HTTPS's own.
func (a *Agent) port() string {
	port := a.Port
	if listen := a.fleet.Servers[a.Server].Listen; port == "" && len(listen) > 0 {
		_, port, _ = net.SplitHostPort(listen[0])
	}
	if port == "" || port == "443" {
		return ""
	}
	return ":" + port
}
