package reconcile

import (
	"net"
	"slices"
	"time"

	"swage/runtime"
)

// Report is what the agent knows and does, for status and the API. A
// published Report is never written again.
type Report struct {
	Server string `json:"server"`
	Zone   string `json:"zone,omitempty"`

	// Commit is the accepted commit, which is or was applied.
	Commit string      `json:"commit,omitempty"`
	State  CommitState `json:"state"`
	// Error is why State is failed.
	Error string `json:"error,omitempty"`
	// Rejected is the newest commit when it could not be accepted.
	Rejected *Rejected `json:"rejected,omitempty"`

	Steps      []StepReport      `json:"steps"`
	Held       []Held            `json:"held"`
	Containers []ContainerReport `json:"containers"`

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
}

// CommitState is how far a commit is.
type CommitState string

// The states of a commit.
const (
	Pending    CommitState = "pending"    // no pass has read it
	Applying   CommitState = "applying"   // steps are being done
	Applied    CommitState = "applied"    // nothing is left to do
	Incomplete CommitState = "held"       // all is done but what is held
	Failed     CommitState = "failed"     // a step or a read failed; it is tried again
	Superseded CommitState = "superseded" // a newer commit came before the end
)

// Rejected is a commit that leaves everything as it is.
type Rejected struct {
	Commit string `json:"commit"`
	Error  string `json:"error"`
}

// StepReport is one step of the last plan that had any.
type StepReport struct {
	Step   string         `json:"step"`
	Effect runtime.Effect `json:"effect"`
	State  StepState      `json:"state"`
	Error  string         `json:"error,omitempty"`
	Millis int64          `json:"ms,omitempty"`
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

// ContainerReport is one container that swage owns.
type ContainerReport struct {
	Project string         `json:"project"`
	Name    string         `json:"name"`
	ID      runtime.ID     `json:"id"`
	Status  runtime.Status `json:"status"`
	Image   string         `json:"image"`
	Address string         `json:"address,omitempty"`
	URLs    []string       `json:"urls,omitempty"` // aliases first
}

// tell publishes a copy of r, with the containers as they are known now.
func (a *Agent) tell(r *Report) {
	out := *r
	out.Steps = slices.Clone(r.Steps)
	if a.seen != nil {
		out.Containers = a.containers()
		state := a.seen.Clone().State // steps change it in place
		a.state.Store(&state)
	}
	a.report.Store(&out)
}

func (a *Agent) containers() []ContainerReport {
	routes := Routes(a.fleet, a.Server, *a.seen)
	urls := map[string][]string{} // by ref
	add := func(ref, label string) {
		urls[ref] = append(urls[ref], "https://"+label+"."+routes.Zone+a.port()+"/")
	}
	for _, al := range routes.Aliases {
		add(al.Container, al.Name)
	}
	for _, c := range routes.Containers {
		if c.ID != "" {
			add(c.Name, c.ProjectID+"-"+c.ID+"-http")
		}
	}
	out := []ContainerReport{}
	for _, c := range a.seen.Containers {
		line := ContainerReport{
			Project: c.Project, Name: c.Name, ID: c.ID,
			Status: c.Status, Image: c.Image, URLs: urls[c.Ref()],
		}
		if addr := a.seen.Addr[c.ID]; addr.IsValid() {
			line.Address = addr.String()
		}
		out = append(out, line)
	}
	return out
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
