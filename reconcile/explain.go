package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"swage/edge"
	"swage/runtime"
	"swage/schema"
)

// Question is a request that is not made: what would become of it?
type Question struct {
	URL     string
	Method  string     // empty: GET
	From    netip.Addr // zero: an address that is in no range
	User    string     // "NAME:PASSWORD", for HTTP Basic; empty: none
	Headers []string   // "Name: value"
}

// Answer is what becomes of a request, and why.
type Answer struct {
	Verdict   string     `json:"verdict"` // allow, deny, not found or unavailable
	Status    int        `json:"status"`  // 200 when it is passed on
	Why       string     `json:"why"`
	Container string     `json:"container,omitempty"`
	Program   string     `json:"program,omitempty"`
	Number    uint16     `json:"number,omitempty"` // port of http and https, else the instance
	Group     string     `json:"group,omitempty"`  // whose cell decided
	Level     string     `json:"level,omitempty"`
	Rule      string     `json:"rule,omitempty"` // path of the field behind it
	At        string     `json:"at,omitempty"`   // its place, file:line:column
	Until     *time.Time `json:"until,omitempty"`
	Unproven  string     `json:"unproven,omitempty"` // why a credential could not be checked
	Lost      []string   `json:"lost,omitempty"`     // groups of the fleet whose secrets are not at hand
}

// Allowed reports whether the request would be passed on.
func (a Answer) Allowed() bool { return a.Status == http.StatusOK }

// request is the question as the edge would get it.
func (q Question) request(ctx context.Context) (*http.Request, error) {
	if !strings.Contains(q.URL, "://") {
		q.URL = "https://" + q.URL
	}
	u, err := url.Parse(q.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL; want https://host/path", q.URL)
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, q.URL, nil)
	if err != nil {
		return nil, errors.New("the URL or the method cannot be asked for")
	}
	r.RequestURI = u.RequestURI()
	if q.From.IsValid() {
		r.RemoteAddr = netip.AddrPortFrom(q.From, 1).String()
	}
	for _, line := range q.Headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, errors.New("a header is written as 'Name: value'")
		}
		r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if q.User != "" {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(q.User)))
	}
	return r, nil
}

// Explain answers a question from a table that was made of a fleet, by the
// functions that the edge itself decides with.
func Explain(ctx context.Context, f *schema.Fleet, server string, table *edge.Table, v edge.Verifier, q Question) (Answer, error) {
	r, err := q.request(ctx)
	if err != nil {
		return Answer{}, err
	}
	now := time.Now()
	request := edge.NewRequest(r, now)
	var unproven error
	request.Identity, unproven = table.Identify(ctx, v, r, now)
	d := table.Decide(request)
	a := Answer{
		Verdict: d.Verdict.String(), Status: d.Status(), Why: d.Why, Container: d.Container,
		Program: d.Program, Number: d.Number, Group: d.Group, Level: d.Route.Level,
	}
	if unproven != nil {
		a.Unproven = unproven.Error()
	}
	if !d.Until.IsZero() {
		a.Until = &d.Until
	}
	if w := declaredAs(f, server, d.Container); w != nil {
		rule, at := behind(*w, d)
		if a.Rule = rule; at.File != "" {
			a.At = at.String()
		}
	}
	return a, nil
}

func declaredAs(f *schema.Fleet, server, ref string) *schema.Container {
	for _, p := range f.Projects {
		for i, w := range p.Containers {
			if w.Server == server && p.Name+"/"+w.Name == ref {
				return &p.Containers[i]
			}
		}
	}
	return nil
}

// behind is the field that decided, and where it stands.
func behind(w schema.Container, d edge.Decision) (string, schema.Pos) {
	switch doc := w.Permissions; {
	case d.Closed:
		return "enable_proxy", w.At("enable_proxy")
	case d.Verdict == edge.NotFound:
		return "", w.Pos
	case doc == nil:
		return "", w.Pos
	case d.Group != "":
		return "permissions." + d.Group + "." + d.Program, doc.Cells[d.Group][d.Program].Pos
	default:
		return "default", doc.Pos
	}
}

// Assumed is a view in which all that a fleet wants to run on a server does,
// at no address of this world.
func Assumed(f *schema.Fleet, server string) View {
	v := View{Actual: runtime.Actual{Addr: map[runtime.ID]netip.Addr{}}}
	draw := func(id, name string) runtime.ID {
		if id != "" {
			return runtime.ID(id)
		}
		return drawnID(name)
	}
	for _, p := range f.Projects {
		v.Projects = append(v.Projects, runtime.Project{Name: p.Name, ID: draw(p.ID, p.Name)})
		for _, w := range p.Containers {
			if w.Server != server {
				continue
			}
			id := draw(w.ID, p.Name+"/"+w.Name)
			v.Containers = append(v.Containers, runtime.Container{ID: id, Project: p.Name, Name: w.Name})
			v.Addr[id] = netip.IPv6Unspecified()
		}
	}
	return v
}

// drawnID stands for an ID that only a server knows.
func drawnID(name string) runtime.ID {
	sum := sha256.Sum256([]byte(name))
	return runtime.ID(hex.EncodeToString(sum[:12]))
}

// Explain answers a question from the table that was published last. Any
// goroutine may call it.
func (a *Agent) Explain(ctx context.Context, v edge.Verifier, q Question) (Answer, error) {
	p := a.published.Load()
	if p == nil {
		return Answer{}, ErrNotObserved
	}
	return Explain(ctx, p.fleet, a.Server, p.table, v, q)
}

// told is a table with the fleet that it was made of, and what was heeded beside
// it. It is never written.
type told struct {
	fleet *schema.Fleet
	table *edge.Table
	kept  map[runtime.ID]Declaration
	stay  map[string]edge.Alias
}

// ExplainIn answers a question for a fleet folder, as if all of it ran.
func ExplainIn(ctx context.Context, f *schema.Fleet, server string, keys schema.Keys, v edge.Verifier, q Question) (Answer, error) {
	var lost []string
	f = revealGroups(f, keys, func(at schema.Pos, group string, err error) {
		lost = append(lost, fmt.Sprintf("%v: group %s matches nobody: %v", at, group, err))
	})
	table, err := edge.Compile(Routes(f, server, Assumed(f, server)))
	if err != nil {
		return Answer{}, err
	}
	a, err := Explain(ctx, f, server, table, v, q)
	a.Lost = lost
	return a, err
}
