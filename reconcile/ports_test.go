package reconcile_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swage/reconcile"
	"swage/runtime"
)

func listener(at, protocol string) runtime.Listener {
	return runtime.Listener{Addr: netip.MustParseAddrPort(at), Protocol: protocol, Both: true}
}

// TestD7APortInUseIsHeld: the container is made with all else, the port is told in
// plan and status, and published by itself when it is free.
func TestD7APortInUseIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.engine.Now = time.Now
		n.engine.Listen(listener("[::]:5432", "tcp"), listener("127.0.0.1:6000", "tcp"), listener("0.0.0.0:53", "udp"))
		n.source.push(`containers: app: publish: [{listen: ":5432", port: 5432}, {listen: ":6000", port: 6000}, {listen: ":53", protocol: "udp", port: 53}]`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		r := n.Report()
		if r.State != reconcile.Incomplete || len(r.Held) != 2 {
			t.Fatalf("%s, held %+v", r.State, r.Held)
		}
		if h := r.Held[1]; h.What != "publish :5432/tcp of container web/app" || h.Ref != "web/app" || !strings.Contains(h.Why, "a program of this host listens on [::]:5432/tcp") {
			t.Errorf("held %+v", h)
		}
		if c := r.Containers[0]; c.State != reconcile.StateHeld || c.Status != runtime.Running || !strings.Contains(c.Reason, "listens on") {
			t.Errorf("%s is %s: %s", c.Name, c.State, c.Reason)
		}
		published := func() (ports []uint16) {
			for _, p := range n.observe(t).Containers[0].Publish {
				ports = append(ports, p.Listen.Port())
			}
			slices.Sort(ports)
			return ports
		}
		if got := published(); !slices.Equal(got, []uint16{6000}) {
			t.Errorf("published %v", got)
		}
		n.engine.Listen()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Applied || !slices.Equal(published(), []uint16{53, 5432, 6000}) {
			t.Errorf("when they are free: %s, published %v, held %+v", r.State, published(), r.Held)
		}
	})
}

// TestD7PortsInADiff: what is published stays, what is new is left out, and the
// next plan is the same.
func TestD7PortsInADiff(t *testing.T) {
	p := func(at string) runtime.Publish {
		return runtime.Publish{Listen: netip.MustParseAddrPort(at), Protocol: "tcp", Port: 80}
	}
	project := []runtime.Project{{Name: "web", ID: "89abcdef0123456789abcdef"}}
	c := runtime.Container{ID: "0123456789abcdef01234567", Project: "web", Name: "app", Image: "tiny/1", Status: runtime.Running, Asked: runtime.Running}
	with := func(ports ...runtime.Publish) runtime.State {
		c := c
		c.Publish = ports
		return runtime.State{Projects: project, Containers: []runtime.Container{c}}
	}
	a, b := p("[::]:8081"), p("203.0.113.5:8082")
	for _, x := range []struct {
		name        string
		have, want  runtime.State
		steps, held int
	}{
		{"a new one is left out", with(), with(a), 0, 1},
		{"beside it another is not", with(), with(a, b), 1, 1},
		{"what is published stays, and is told", with(a), with(a), 0, 1},
		{"it goes when it is not asked for", with(a), with(), 1, 0},
		{"one that is free is published", with(), with(b), 1, 0},
		{"a new container is made", runtime.State{Projects: project}, with(a), 1, 1},
	} {
		x.have.Listeners = []runtime.Listener{listener("0.0.0.0:8081", "tcp")}
		want := slices.Clone(x.want.Containers[0].Publish)
		plan := reconcile.Diff(x.have, x.want, reconcile.Terms{MaxDeletes: 5})
		if len(plan.Steps) != x.steps || len(plan.Held) != x.held {
			t.Errorf("%s: %v", x.name, plan)
		}
		if !slices.Equal(want, x.want.Containers[0].Publish) {
			t.Errorf("%s: the wanted state was changed", x.name)
		}
		for _, s := range plan.Steps {
			if x.have.Containers != nil && slices.Contains(s.Container().Publish, a) {
				t.Errorf("%s: it publishes %v", x.name, a)
			}
		}
	}
}
