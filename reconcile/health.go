package reconcile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"swage/runtime"
	"swage/schema"
)

// eager is the interval of checks until the first is answered well.
const eager = 250 * time.Millisecond

// vital is what is known of the health of one container: it is probed until it
// is healthy, also while nobody waits.
type vital struct {
	of      string        // what is checked, and where
	healthy chan struct{} // closed once it is
	late    chan struct{} // closed when its deadline has passed
	stop    context.CancelFunc

	mu   sync.Mutex
	last error // of the newest probe
}

// wait returns when the container is healthy, or with an error that says why
// it is not.
func (v *vital) wait(ctx context.Context) error {
	select { // healthy counts, however late
	case <-v.healthy:
		return nil
	default:
	}
	select {
	case <-v.healthy:
		return nil
	case <-v.late:
		return v.why()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *vital) why() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil {
		return errors.New("health: not enough checks in a row were answered in time")
	}
	return fmt.Errorf("health: %w", v.last)
}

func (v *vital) ok() bool {
	select {
	case <-v.healthy:
		return true
	default:
		return false
	}
}

// probe checks until the container is healthy or ctx ends.
func (v *vital) probe(ctx context.Context, ref, url string, h schema.Health, wake func()) {
	deadline := time.AfterFunc(h.Deadline, func() { close(v.late) })
	defer deadline.Stop()
	client := &http.Client{
		Timeout: h.Timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // it is asked at its own address
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for inRow := 0; ; {
		err := get(ctx, client, url)
		if ctx.Err() != nil {
			return
		}
		inRow++
		if err != nil {
			inRow, err = 0, fmt.Errorf("%s: %w", ref, err)
		}
		v.mu.Lock()
		v.last = err
		v.mu.Unlock()
		if inRow >= h.HealthyAfter {
			close(v.healthy)
			wake()
			return
		}
		pause := h.Interval
		if inRow == 0 { // what starts may be there soon
			pause = min(pause, eager)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "swage-health")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s answered %s", url, resp.Status)
	}
	return nil
}

// unexamined lists the containers that a deploy waits for: those with a health
// check that are to run and are not known to be healthy, or are about to be
// interrupted.
func (a *Agent) unexamined(plan Plan) []string {
	interrupted := map[string]bool{}
	for _, s := range plan.Steps {
		if _, starts := s.(runtime.StartContainer); starts || s.Effect() != runtime.Live {
			interrupted[s.Container().Ref()] = true
		}
	}
	var out []string
	checked := map[string]bool{}
	for _, p := range a.fleet.Projects {
		for _, c := range p.Containers {
			ref := p.Name + "/" + c.Name
			if c.Server != a.Server || c.Health == nil || c.State != string(runtime.Running) {
				continue
			}
			checked[ref] = true
			if v := a.vitals[ref]; interrupted[ref] || v == nil || !v.ok() || v.of != a.target(ref, c) {
				out = append(out, ref)
			}
		}
	}
	for ref, v := range a.vitals { // of a check that no commit asks for any more
		if !checked[ref] {
			v.stop()
			delete(a.vitals, ref)
		}
	}
	return out
}

// target is what is checked of a container, and where; empty where it does not
// run.
func (a *Agent) target(ref string, c schema.Container) string {
	if a.seen == nil {
		return ""
	}
	for _, h := range a.seen.Containers {
		if addr := a.seen.Reached(h.ID); h.Ref() == ref && h.Status == runtime.Running && addr.IsValid() {
			return fmt.Sprint(healthURL(c, addr), *c.Health)
		}
	}
	return ""
}

func healthURL(c schema.Container, addr netip.Addr) string {
	h := c.Health
	scheme, port := "http", h.Port
	switch h.Program {
	case "http":
	case "https":
		scheme = "https"
	default:
		p := c.Programs[h.Program]
		if port = p.Port; p.InstanceBase > 0 {
			port = p.InstanceBase + uint16(h.Index) - 1
		}
	}
	return scheme + "://" + net.JoinHostPort(addr.String(), strconv.Itoa(int(port))) + h.Path
}

// examine begins to probe a container, or finds what is probed already; nil if
// it does not run.
func (a *Agent) examine(ref string) *vital {
	var c schema.Container
	for _, p := range a.fleet.Projects {
		for _, x := range p.Containers {
			if p.Name+"/"+x.Name == ref {
				c = x
			}
		}
	}
	of := a.target(ref, c)
	if of == "" {
		return nil
	}
	if v := a.vitals[ref]; v != nil {
		if v.of == of {
			return v
		}
		v.stop()
	}
	ctx, cancel := context.WithCancel(context.Background()) // it outlives a pass
	v := &vital{of: of, healthy: make(chan struct{}), late: make(chan struct{}), stop: cancel}
	if a.vitals == nil {
		a.vitals = map[string]*vital{}
	}
	a.vitals[ref] = v
	var addr netip.Addr
	for _, h := range a.seen.Containers {
		if h.Ref() == ref {
			addr = a.seen.Reached(h.ID)
		}
	}
	a.probes.Go(func() { v.probe(ctx, ref, healthURL(c, addr), *c.Health, a.hint) })
	return v
}

// unwell forgets what is known of the health of a container that is about to
// be interrupted.
func (a *Agent) unwell(id runtime.ID) {
	for _, h := range a.seen.Containers {
		if v := a.vitals[h.Ref()]; h.ID == id && v != nil {
			v.stop()
			delete(a.vitals, h.Ref())
		}
	}
}

// healthy reports whether a container runs and its check was answered, or, where
// it has none, whether it has stayed up for long enough.
func (a *Agent) healthy(ref string, c schema.Container) bool {
	of := ""
	if c.Health != nil {
		of = a.target(ref, c)
		v := a.vitals[ref]
		return of != "" && v != nil && v.of == of && v.ok()
	}
	for _, h := range a.seen.Containers {
		if h.Ref() == ref {
			return a.seen.Reached(h.ID).IsValid() && a.starts[h.ID] == nil
		}
	}
	return false
}

// rest ends all probes.
func (a *Agent) rest() {
	for _, v := range a.vitals {
		v.stop()
	}
	a.vitals = nil
	a.probes.Wait()
}
