package incus

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/firewall"
)

// settleTime bounds the wait for operations that an earlier process left.
const settleTime = 30 * time.Second

// Observe lists what carries the mark, across all Incus projects: a list of
// one project is empty, not an error, when that project does not exist.
func (r *Runtime) Observe(ctx context.Context) (runtime.Actual, error) {
	a := runtime.Actual{Addr: map[runtime.ID]netip.Addr{}, Addr6: map[runtime.ID]netip.Addr{}, Started: map[runtime.ID]time.Time{}}
	projects, conflicts, notes, err := r.ownProjects(ctx)
	if err != nil {
		return a, err
	}
	a.Notes, a.Conflicts = notes, conflicts
	for _, p := range projects {
		a.Projects = append(a.Projects, runtime.Project{Name: p.Config[keyProject], ID: runtime.ID(p.Config[keyID])})
	}
	if err := r.settle(ctx); err != nil {
		return a, err
	}
	instances, err := r.in(ctx, "").GetInstancesAllProjectsWithFilter(api.InstanceTypeContainer, []string{
		"config." + keyFleet + "=" + string(r.scope.Fleet),
		"config." + keyServer + "=" + r.scope.Server,
	})
	if err != nil {
		return a, fmt.Errorf("list instances: %w", err)
	}
	where := map[runtime.ID]place{}
	var kept, unknown []*api.Instance // with snapshots maybe; with an address that Incus was not told
	own, odd, conflicts := r.sortOut(instances)
	a.Conflicts = append(a.Conflicts, conflicts...)
	for _, in := range own {
		h := container(in)
		h.Asleep = r.asleep(in, h)
		at := located(in)
		where[h.ID] = at
		switch in.Config[keyRole] {
		case roleSpare:
			spare := runtime.Spare{ID: h.ID, Project: h.Project}
			if h.Status == runtime.Running && !at.partial {
				spare.Image, spare.Kit = h.Image, h.Kit
			}
			a.Spares = append(a.Spares, spare)
			continue
		case roleArchive:
			a.Archives = append(a.Archives, runtime.Archive{ID: h.ID, Project: h.Project, Name: h.Name, Image: h.Image, Kit: h.Kit, Realms: h.Realms, Until: until(in)})
			kept = append(kept, in)
			continue
		}
		kept = append(kept, in)
		a.Containers = append(a.Containers, h)
		if begun := in.LastUsedAt; begun.Unix() > 0 { // Incus says 1970 of what was never started
			a.Started[h.ID] = begun
		}
		d := done(h, at)
		if !at.fixed && (h.Status == runtime.Running || h.Status == runtime.Paused) {
			unknown = append(unknown, in)
		}
		if d.Addr.IsValid() {
			a.Addr[h.ID] = d.Addr
		}
		if d.Addr6.IsValid() {
			a.Addr6[h.ID] = d.Addr6
		}
	}
	if a.Snapshots, err = r.snapshots(ctx, kept); err != nil {
		return a, err
	}
	more, err := r.ask(ctx, &a, unknown)
	if err != nil {
		return a, err
	}
	if a.Faults, err = r.faults(ctx); err != nil {
		return a, err
	}
	if a.Listeners, err = r.guard.listeners(); err != nil {
		return a, err
	}
	guarded := members(&a, where, more)
	guardOdd(guarded, odd)
	if err := r.guard.replace(ctx, guarded); err != nil {
		return a, err
	}
	a.Sort()
	r.mu.Lock()
	r.where, r.taken = where, nil
	r.mu.Unlock()
	return a, nil
}

// members are all that the firewall must know: what has an address, whether it
// runs or not.
func members(a *runtime.Actual, all map[runtime.ID]place, more map[runtime.ID][]netip.Addr) map[runtime.ID]firewall.Container {
	out := map[runtime.ID]firewall.Container{}
	add := func(c runtime.Container) {
		at := addresses{all[c.ID].addr, all[c.ID].addr6, more[c.ID], all[c.ID].mac, all[c.ID].fixed}
		if now := a.Addr[c.ID]; now.IsValid() && !all[c.ID].fixed { // adopted: as it is now
			at.addr = now
		}
		if now := a.Addr6[c.ID]; now.IsValid() && !all[c.ID].fixed {
			at.addr6 = now
		}
		if !at.none() {
			out[c.ID] = member(c, at)
		}
	}
	for _, c := range a.Containers {
		add(c)
	}
	for _, s := range a.Spares {
		add(runtime.Container{ID: s.ID, Project: s.Project, Name: "spare"})
	}
	return out
}

// ownProjects lists the Incus projects with the mark. They are known by it:
// their names are those of the day they were made. The notes come with them.
func (r *Runtime) ownProjects(ctx context.Context) (own []api.Project, conflicts []runtime.Conflict, notes map[string]string, err error) {
	all, err := r.in(ctx, "").GetProjects()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list projects: %w", err)
	}
	r.newestNameFirst(all)
	names := map[string]string{}
	for _, p := range all {
		if !r.marked(p.Config) || p.Config[keyRole] != "" {
			continue
		}
		name := p.Config[keyProject]
		if name == "" || p.Config[keyID] == "" {
			conflicts = append(conflicts, lostProject(p))
			continue
		}
		if other, ok := names[name]; ok {
			conflicts = append(conflicts, secondProject(p, other))
			continue
		}
		names[name] = p.Name
		own = append(own, p)
	}
	r.mu.Lock()
	r.projects = names
	r.mu.Unlock()
	return own, conflicts, r.noted(all), nil
}

// project is the name in Incus of a project of the fleet: that of the one
// with its mark, else what a new one would be called.
func (r *Runtime) project(ctx context.Context, name string) (string, error) {
	if known, ok := r.knownProject(name); ok {
		return known, nil
	}
	if _, _, _, err := r.ownProjects(ctx); err != nil {
		return "", err
	}
	if known, ok := r.knownProject(name); ok {
		return known, nil
	}
	return r.newProjectName(name), nil
}

func (r *Runtime) knownProject(name string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.projects[name]
	return known, ok
}

// ours reports whether an Incus project is, or may soon be, one of ours, or has
// what we adopted.
func (r *Runtime) ours(project string) bool {
	if strings.HasPrefix(project, r.scope.Prefix) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.projects {
		if name == project {
			return true
		}
	}
	for _, at := range r.where {
		if at.project == project {
			return true
		}
	}
	return false
}

// asleep reports whether a container stands still since the host was started.
// What swage never made or started tells nothing of it.
func (r *Runtime) asleep(in *api.Instance, c runtime.Container) bool {
	return c.Status == runtime.Stopped && in.Config[keyBoot] != "" && in.Config[keyBoot] != r.boot
}

// halfMade: Incus may not have come to an end with it.
func halfMade(config map[string]string) bool { return config[keyMaking] != "" }

// begun: it was asked to run and was started at least once.
func begun(config map[string]string) bool {
	return config[keyAsked] != string(runtime.Running) || config["volatile.last_state.power"] != ""
}

func located(in *api.Instance) place {
	c := container(in)
	addr, _ := netip.ParseAddr(in.Devices[nic]["ipv4.address"])
	fixed := addr.IsValid() && strings.Contains(in.Config[rawLXC], lineNet+"4.address")
	return place{
		project: in.Project, name: in.Name, addr: addr, addr6: addr6(in.Config), mac: hwaddr(in),
		fixed: fixed, loose: fixed && len(unheld(in.Devices[nic])) > 0,
		status: in.StatusCode, partial: halfMade(in.Config),
		id: c.ID, ramdisk: c.Ramdisk, memory: max(0, c.Resources.Memory), disk: c.Resources.Disk,
		comment: in.Description,
	}
}

// hwaddr is the MAC of the interface that swage gives containers, and most others
// have; empty if there is none.
func hwaddr(in *api.Instance) string {
	mac, err := net.ParseMAC(cmp.Or(in.Devices[nic]["hwaddr"], in.Config["volatile."+nic+".hwaddr"]))
	if err != nil {
		return ""
	}
	return mac.String()
}

// settle waits for what an earlier process, or a step that was given up, may
// have begun: an instance that is being made is not in any list at first,
// and would be made twice.
func (r *Runtime) settle(ctx context.Context) error {
	r.mu.Lock()
	unsettled := r.unsettled
	r.mu.Unlock()
	if !unsettled {
		return nil
	}
	c := r.in(ctx, "")
	ops, err := c.GetOperationsAllProjects()
	if err != nil {
		return fmt.Errorf("list operations: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, op := range ops {
		if op.Class != "task" || op.StatusCode.IsFinal() || !r.concerns(op) {
			continue
		}
		// How it ended shows in the lists; that it ended is all that matters.
		_, _, _ = r.in(limited, "").RawQuery(http.MethodGet, "/1.0/operations/"+op.ID+"/wait?timeout=-1", nil, "")
		if limited.Err() != nil {
			return fmt.Errorf("the Incus operation %q (%s) does not end; see incus operation show %s", op.Description, op.ID, op.ID)
		}
	}
	r.mu.Lock()
	r.unsettled = false
	r.mu.Unlock()
	return nil
}

// concerns reports whether an operation works on an instance in a project of
// ours.
func (r *Runtime) concerns(op api.Operation) bool {
	for _, urls := range op.Resources {
		for _, u := range urls {
			if parsed, err := url.Parse(u); err == nil && strings.Contains(u, "/instances/") && r.ours(parsed.Query().Get("project")) {
				return true
			}
		}
	}
	return false
}
