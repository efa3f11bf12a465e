package incus

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"swage/runtime"
)

// own are the addresses that the bridge has on this host, as Incus says.
func (b bridge) own() (out []netip.Prefix) {
	for _, p := range []netip.Prefix{b.subnet, b.subnet6} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// faults are what keeps callers from all containers now, for people.
func (r *Runtime) faults(ctx context.Context) ([]string, error) {
	if r.guard.away || isBridge(r.scope.Bridge) != nil && !r.guard.active() {
		return nil, nil // the bridge is elsewhere
	}
	b, err := r.readBridge(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return []string{fmt.Sprintf("containers are not reached: %v", brief(err))}, nil
	}
	r.mu.Lock()
	r.gateway = b.own()
	r.mu.Unlock()
	lost, err := r.guard.firewall.LostAddrs(b.own())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range lost {
		out = append(out, fmt.Sprintf("containers are not reached by IPv%s: the bridge %s has lost its address %s", family(p), b.name, p))
	}
	return out, nil
}

func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "4"
	}
	return "6"
}

// addresses puts back those of the bridge that Incus still wants it to have, and
// tells of others. It reports whether any was lost.
func (w *repairer) addresses(ctx context.Context, tell func(runtime.Repair)) bool {
	w.r.mu.Lock()
	want := w.r.gateway
	w.r.mu.Unlock()
	lost, err := w.r.guard.firewall.LostAddrs(want)
	if err != nil {
		tell(runtime.Repair{What: "the addresses of the bridge", Err: err})
		return false
	}
	for _, p := range lost {
		what := fmt.Sprintf("the address %s of the bridge %s", p, w.r.scope.Bridge)
		tell(runtime.Repair{What: what, Err: w.r.giveBack(ctx, p), Faulted: true})
	}
	return len(lost) > 0 && ctx.Err() == nil
}

func (r *Runtime) giveBack(ctx context.Context, p netip.Prefix) error {
	b, err := r.readBridge(ctx)
	if err != nil {
		return err
	}
	for _, own := range b.own() {
		if own == p {
			return r.guard.firewall.GiveAddr(p)
		}
	}
	r.mu.Lock()
	r.gateway = b.own()
	r.mu.Unlock()
	return errors.New("the bridge has another one from Incus now; containers keep their addresses until they are made anew")
}
