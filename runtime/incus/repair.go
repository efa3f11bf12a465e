package incus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/firewall"
)

const (
	// settle is how long changes of tables may go on before they are looked at.
	settle = 20 * time.Millisecond
	// poll is how often that is read of whose changes the kernel does not tell.
	poll = time.Second
	// fully is how often everything is read, whatever was heard.
	fully = 30 * time.Second
	// firstPause follows a repair; each one right after another has twice the
	// pause of the one before, up to lastPause. So who flushes in a loop costs
	// one repair a second.
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second
	// lastTry is how long the next attempt at filters that stay away waits.
	lastTry = 5 * time.Minute
)

// incusTable is where Incus keeps containers to their addresses.
const incusTable = "incus"

// Guard repairs what the host needs. See runtime.Runtime.
func (r *Runtime) Guard(ctx context.Context, tell func(runtime.Repair)) error {
	if !r.guard.active() {
		<-ctx.Done()
		return ctx.Err()
	}
	changes, err := firewall.Watch(ctx, append(r.guard.firewall.Tables(), incusTable)...)
	if err != nil {
		tell(runtime.Repair{What: "the firewall", Err: fmt.Errorf("%w; a change behind swage's back is seen within %v", err, fully)})
		changes = nil
	}
	w := repairer{r: r, ports: map[runtime.ID]ports{}, rules: map[string]int{}, tried: map[string]attempts{}, lost: map[runtime.ID]bool{}}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	pause, last := firstPause, time.Time{}
	for {
		tables := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes:
			tables = true
			rest(ctx, settle)
		case <-tick.C:
			tables = time.Since(last) >= fully || len(w.tried) > 0 || slices.ContainsFunc(r.places(), func(at place) bool { return at.loose })
		}
		select { // what is read now covers it
		case <-changes:
			tables = true
		default:
		}
		if tables {
			last = time.Now()
		}
		if !w.repair(ctx, tables, tell) {
			pause = firstPause
			continue
		}
		rest(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// repairer is what one Guard remembers.
type repairer struct {
	r     *Runtime
	ports map[runtime.ID]ports
	rules map[string]int      // that Incus keeps for an interface, at their most
	tried map[string]attempts // interfaces that had none when last looked at
	lost  map[runtime.ID]bool // ramdisks that were told to be gone
}

// attempts at making filters again: where Incus keeps them elsewhere, or cannot
// make them, they become rare.
type attempts struct {
	times int
	next  time.Time
}

// ports of the bridge that are a container's, as Incus said then.
type ports struct {
	names []string
	first string // of them: that of the interface that swage gave
	asked time.Time
}

// askPorts is how long a container without a known port is left alone, and
// portsAtOnce how many are asked for in one look.
const (
	askPorts    = 10 * time.Second
	portsAtOnce = 16
)

// repair reports whether anything had to be put back.
func (w *repairer) repair(ctx context.Context, tables bool, tell func(runtime.Repair)) bool {
	restored, err := w.r.guard.repair(ctx, tables)
	for _, what := range restored {
		tell(runtime.Repair{What: what})
	}
	if err != nil && ctx.Err() == nil {
		tell(runtime.Repair{What: "the firewall", Err: err})
	}
	worked := len(restored) > 0 || err != nil
	worked = w.addresses(ctx, tell) || worked
	if tables {
		worked = w.filters(ctx, tell) || worked
	}
	worked = w.isolation(ctx, tell) || worked
	w.ramdisks(tell)
	return worked && ctx.Err() == nil
}

// isolation closes the ports of containers that somebody opened, and pins the MAC
// of each to its port, which is new at each start. That of an
// adopted one, which Incus was never told to isolate, is one of them: its
// neighbours would reach it past this host and its rules.
func (w *repairer) isolation(ctx context.Context, tell func(runtime.Repair)) (worked bool) {
	isolated, err := w.r.guard.firewall.Ports()
	if err != nil {
		tell(runtime.Repair{What: "the isolation of ports", Err: err})
		return false
	}
	pinned, err := w.r.guard.firewall.Pinned()
	if err != nil {
		tell(runtime.Repair{What: "the ports of MACs", Err: err})
	}
	asked, now := 0, time.Now()
	running := map[runtime.ID]bool{}
	for _, at := range w.r.places() {
		if !at.awake() {
			continue
		}
		running[at.id] = true
		known := w.ports[at.id]
		there := slices.ContainsFunc(known.names, func(port string) bool { _, ok := isolated[port]; return ok })
		if !there && now.Sub(known.asked) >= askPorts && asked < portsAtOnce {
			asked++
			if known, err = w.r.portsOf(ctx, at); err != nil {
				continue // it may be on its way out; asked again soon
			}
			known.asked = now
			w.ports[at.id] = known
		}
		if _, there := isolated[known.first]; there && at.fixed && at.mac != "" && pinned != nil && pinned[at.mac] != known.first {
			if err := w.r.guard.firewall.Pin(known.first, at.mac); err != nil {
				tell(runtime.Repair{What: "the port of the MAC of " + w.r.guard.name(at), Err: err})
			}
		}
		for _, port := range known.names {
			if closed, ok := isolated[port]; !ok || closed {
				continue
			}
			worked = true
			tell(runtime.Repair{What: "the isolation of the port of " + w.r.guard.name(at), Err: w.r.guard.firewall.Isolate(port)})
		}
	}
	maps.DeleteFunc(w.ports, func(id runtime.ID, _ ports) bool { return !running[id] })
	return worked
}

// portsOf are the interfaces of this host that belong to a container's NICs.
func (r *Runtime) portsOf(ctx context.Context, at place) (p ports, err error) {
	in, _, err := r.in(ctx, at.project).GetInstance(at.name)
	if err != nil {
		return p, err
	}
	for key, name := range in.Config {
		if strings.HasPrefix(key, "volatile.") && strings.HasSuffix(key, ".host_name") && name != "" {
			p.names = append(p.names, name)
		}
	}
	p.first = in.Config["volatile."+nic+".host_name"]
	return p, nil
}

func (at place) awake() bool { return at.status == api.Running || at.status == api.Frozen }

// places are the containers that were seen last.
func (r *Runtime) places() []place {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.where))
}

// filters asks Incus to make its filters of the bridge again, which keep each
// container to its own addresses. The daemon itself does so only when an
// instance starts, or when a setting of its interface changes in text.
func (w *repairer) filters(ctx context.Context, tell func(runtime.Repair)) (worked bool) {
	have, err := firewall.BridgeRules(incusTable)
	if err != nil {
		tell(runtime.Repair{What: "the filters of Incus", Err: err})
		return false
	}
	running := map[string]bool{}
	for _, at := range w.r.places() {
		if !at.fixed || !at.awake() {
			continue
		}
		label := at.label()
		running[label] = true
		n := have["in."+label] + have["fwd."+label]
		if n > 0 && n >= w.rules[label] && !at.loose {
			w.rules[label] = n
			delete(w.tried, label)
			continue
		}
		tried := w.tried[label]
		if time.Now().Before(tried.next) {
			continue
		}
		tried.times++
		tried.next = time.Now().Add(min(firstPause<<min(tried.times, 16), lastTry))
		w.tried[label], w.rules[label] = tried, 0
		what := "the filters of Incus that hold " + w.r.guard.name(at) + " to its addresses"
		switch again, err := w.r.refilter(ctx, at); {
		case err != nil && ctx.Err() == nil:
			worked = true
			tell(runtime.Repair{What: what, Err: err})
		case again:
			worked = true
			tell(runtime.Repair{What: what})
		}
	}
	maps.DeleteFunc(w.rules, func(label string, _ int) bool { return !running[label] })
	maps.DeleteFunc(w.tried, func(label string, _ attempts) bool { return !running[label] })
	return worked
}

// label is how Incus names the chains of a container's interface.
func (at place) label() string {
	name := at.name
	if at.project != api.ProjectDefaultName {
		name = at.project + "_" + at.name
	}
	return name + "." + nic
}

// unheld are the settings of an interface that swage made which hold it to its
// addresses, and do not say so. Isolation of its port is not one of them: with
// that setting Incus makes a new interface, without addresses, so the port itself
// is closed; see isolation.
func unheld(eth0 device) (out []string) {
	want := []string{"security.mac_filtering", "security.ipv4_filtering"}
	if eth0["ipv6.address"] != "" { // Incus refuses it elsewhere
		want = append(want, "security.ipv6_filtering")
	}
	for _, setting := range want {
		if on, err := strconv.ParseBool(eth0[setting]); err != nil || !on {
			out = append(out, setting)
		}
	}
	return out
}

// refilter sets what somebody unset of the settings that hold an interface to its
// addresses. Where they are as they should be it changes how one is spelled, and
// not what it says: the filters are made again without a moment in which they
// are asked not to be. It reports false for what runs no more, what others just
// changed, and what was put right before.
func (r *Runtime) refilter(ctx context.Context, at place) (bool, error) {
	in, etag, err := r.in(ctx, at.project).GetInstance(at.name)
	if notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, brief(err)
	}
	now := located(in)
	if !now.awake() {
		return false, nil
	}
	eth0 := maps.Clone(in.Devices[nic])
	const spelled = "security.mac_filtering"
	switch unset := unheld(eth0); {
	case !now.fixed, at.loose && len(unset) == 0:
		return false, nil
	case len(unset) > 0:
		for _, setting := range unset {
			eth0[setting] = "true"
		}
	case eth0[spelled] == "true":
		eth0[spelled] = "1"
	default:
		eth0[spelled] = "true"
	}
	err = r.patchIf(ctx, now, etag, map[string]any{"devices": map[string]device{nic: eth0}})
	if api.StatusErrorCheck(err, http.StatusPreconditionFailed) || busy(err) {
		return false, nil // the next attempt sees what it is now
	}
	if err != nil {
		return false, brief(err)
	}
	return true, nil
}

// busy reports whether Incus refused since it works on the instance. It says so
// by text alone.
func busy(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Instance is busy running")
}

// ramdisks tells of those that were taken away on this host. Their containers
// keep what they have mounted until they stop, and nothing can lead the next
// start back to it.
func (w *repairer) ramdisks(tell func(runtime.Repair)) {
	if away(w.r.scope.Daemon) {
		return
	}
	if dir := ramdisksDir(w.r.scope); exists(dir) {
		if opened, err := closeFolder(dir); opened || err != nil {
			tell(runtime.Repair{What: "the folder of ramdisks, which is closed to all but root", Err: err})
		}
	}
	for _, at := range w.r.places() {
		if !at.ramdisk || !at.awake() {
			delete(w.lost, at.id)
			continue
		}
		mounted, err := isMount(ramdiskDir(w.r.scope, at.id))
		gone := err == nil && !mounted || errors.Is(err, fs.ErrNotExist)
		if gone && !w.lost[at.id] {
			tell(runtime.Repair{
				What: "the ramdisk of " + w.r.guard.name(at),
				Err:  errors.New("it was unmounted on this host; the container keeps what is in it until it stops, and starts with an empty one: save what matters"),
			})
		}
		if gone {
			w.lost[at.id] = true
		} else {
			delete(w.lost, at.id)
		}
	}
}

// active reports whether this process guards the containers of this host.
func (g *guard) active() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.on
}

// repair puts back what was taken away since the last change that was enforced.
func (g *guard) repair(ctx context.Context, tables bool) ([]string, error) {
	g.one.Lock()
	defer g.one.Unlock()
	if !g.active() {
		return nil, nil
	}
	if tables {
		return g.firewall.Repair(ctx)
	}
	return g.firewall.RepairBridge(ctx)
}

// name is what people call what is at a place.
func (g *guard) name(at place) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m, ok := g.members[at.id]; ok {
		return m.Name
	}
	return at.name
}

func exists(dir string) bool {
	_, err := os.Lstat(dir)
	return err == nil
}
