package incus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sync/errgroup"

	"swage/runtime"
)

// markPrefix begins the keys that are swage's own. Adopting writes no other, and
// takes over a schedule of snapshots that Incus has.
const markPrefix = "user.swage."

// Inspect returns an instance that nobody has marked. See runtime.Runtime.
func (r *Runtime) Inspect(ctx context.Context, instance string) (runtime.Container, error) {
	_, _, c, err := r.inspect(ctx, instance)
	if err != nil {
		return c, fmt.Errorf("inspect the instance %s: %w", instance, brief(err))
	}
	return c, nil
}

func (r *Runtime) inspect(ctx context.Context, instance string) (in *api.Instance, etag string, c runtime.Container, err error) {
	project, name, ok := strings.Cut(instance, "/")
	if !ok || project == "" || name == "" {
		return nil, "", c, errors.New(`its name must read "<incus project>/<instance>"`)
	}
	in, etag, err = r.in(ctx, project).GetInstance(name)
	switch {
	case notFound(err):
		return nil, "", c, errors.New("there is none of this name; see incus list --all-projects")
	case err != nil:
		return nil, "", c, err
	case in.Type != string(api.InstanceTypeContainer):
		return nil, "", c, fmt.Errorf("it is a %s, not a container", in.Type)
	}
	for _, key := range []string{keyFleet, keyServer, keyID} {
		if in.Config[key] != "" {
			return nil, "", c, fmt.Errorf("it carries the mark of fleet %q and server %q already", in.Config[keyFleet], in.Config[keyServer])
		}
	}
	if err := reachesHost(in); err != nil {
		return nil, "", c, err
	}
	c = container(in)
	c.ID, c.Project, c.Name, c.Kit = "", "", "", false
	c.Image, c.Asked, c.Unwritten = imageOf(in), c.Status, false // its files stay as they are
	c.Snapshots = runtime.Schedule{Cron: in.ExpandedConfig[incusSchedule], Days: days(in.ExpandedConfig[incusExpiry])}
	if in.ExpandedConfig[incusSchedule] != in.Config[incusSchedule] { // it could not be taken over
		c.Snapshots.Cron = "by a profile of Incus"
	}
	keys, err := r.readFile(ctx, located(in), keysFile)
	if err != nil {
		return nil, "", c, err
	}
	c.Keys = keyLines(keys)
	return in, etag, c, nil
}

// imageOf is the image as a fleet would write it; empty when Incus does not
// tell. Image servers give some releases by name.
func imageOf(in *api.Instance) string {
	os, release := strings.ToLower(in.Config["image.os"]), strings.ToLower(in.Config["image.release"])
	if os == "alpinelinux" {
		os = "alpine"
	}
	numbers := map[string]string{
		"bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14",
		"focal": "20.04", "jammy": "22.04", "noble": "24.04", "resolute": "26.04",
	}
	if n, ok := numbers[release]; ok {
		release = n
	}
	if os == "" || release == "" {
		return ""
	}
	return os + "/" + release
}

// keyLines are the keys of an authorized_keys file.
func keyLines(file string) []string {
	var out []string
	for line := range strings.Lines(file) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// adopt writes the mark, if nobody else was quicker.
func (r *Runtime) adopt(ctx context.Context, s runtime.AdoptContainer) (runtime.Done, error) {
	if at, ok, err := r.made(ctx, &s.New.ID); err != nil {
		return runtime.Done{}, err
	} else if ok {
		return done(s.New, at), nil
	}
	in, etag, found, err := r.inspect(ctx, s.Instance)
	if err != nil {
		return runtime.Done{}, err
	}
	c := s.Adopted(found)
	keys := map[string]string{}
	for k, v := range config(c) {
		if strings.HasPrefix(k, markPrefix) {
			keys[k] = v
		}
	}
	maps.Copy(keys, r.mark())
	if len(found.Env) > 0 {
		keys[keyEnvironment] = asFound
	}
	for _, key := range []string{incusSchedule, incusExpiry, incusPattern} { // from here on it is swage's
		if in.Config[key] != "" {
			keys[key] = ""
		}
	}
	at := located(in)
	if err := r.patchIf(ctx, at, etag, map[string]any{"config": keys}); err != nil {
		return runtime.Done{}, err
	}
	at.id = c.ID
	r.remember(c.ID, at)
	return done(c, at), nil
}

// patchIf changes what body has, if the instance is as it was when it had the
// ETag. Incus 6.0 leaves alone what a PATCH does not have, save the
// description, which it empties.
func (r *Runtime) patchIf(ctx context.Context, at place, etag string, body map[string]any) error {
	if _, given := body["description"]; !given {
		body["description"] = at.comment
	}
	path := api.NewURL().Path("1.0", "instances", at.name).Project(at.project).String()
	_, _, err := r.in(ctx, at.project).RawQuery(http.MethodPatch, path, body, etag)
	return err
}

// addressWait is how long a container that was adopted may take to get an
// address after its start; others have theirs at once. secondWait is how long
// the address of the other family may take after the first.
const (
	addressWait = 5 * time.Second
	secondWait  = time.Second
)

// address completes what a step left behind, and has the firewall guard what it
// found. A container without any address is no error: the next Observe may know
// more.
func (r *Runtime) address(ctx context.Context, d *runtime.Done) error {
	if s := d.Container.Status; s != runtime.Running && s != runtime.Paused {
		return nil
	}
	id := d.Container.ID
	r.mu.Lock()
	at, known := r.where[id]
	r.mu.Unlock()
	if known && at.fixed {
		return nil
	}
	seen, err := r.awaitAddress(ctx, id)
	if err != nil {
		return err
	}
	d.Addr, d.Addr6 = seen.addr, seen.addr6
	return r.guard.found(ctx, d.Container, seen)
}

// awaitAddress asks until there is an address of both families, or the time for
// it has passed. Only the end of ctx itself is an error.
func (r *Runtime) awaitAddress(ctx context.Context, id runtime.ID) (seen addresses, err error) {
	limited, cancel := context.WithTimeout(ctx, addressWait)
	defer cancel()
	runtime.Phase(ctx, "waiting for an address")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var first time.Time
	for {
		in, err := r.lookup(limited, id)
		var now addresses
		if err == nil {
			now, err = r.leased(limited, in)
		}
		switch {
		case ctx.Err() != nil:
			return seen, ctx.Err()
		case limited.Err() != nil: // the query was cut short
			return seen, nil
		case err != nil:
			return seen, err
		}
		seen = now
		if first.IsZero() && !seen.none() {
			first = time.Now()
		}
		if seen.addr.IsValid() && seen.addr6.IsValid() || !first.IsZero() && time.Since(first) >= secondWait {
			return seen, nil
		}
		select {
		case <-limited.Done():
			return seen, ctx.Err()
		case <-tick.C:
		}
	}
}

// addresses are those of a container: one of each family that the edge uses, and
// more that it has beside them. Any may be missing.
type addresses struct {
	addr, addr6 netip.Addr
	more        []netip.Addr
	mac         string // of its first interface
	given       bool   // by swage: it has no others
}

func (a addresses) none() bool { return !a.addr.IsValid() && !a.addr6.IsValid() }

// leased are the addresses that an instance has given itself, or was given.
// Those of bridges inside it, which no packet from outside is for and which
// several instances may share, do not count. Asking costs as much as a list of
// fifty instances.
func (r *Runtime) leased(ctx context.Context, in *api.Instance) (addresses, error) {
	state, _, err := r.in(ctx, in.Project).GetInstanceState(in.Name)
	if notFound(err) {
		return addresses{}, nil
	}
	if err != nil {
		return addresses{}, fmt.Errorf("state of instance %s: %w", in.Name, err)
	}
	usable, err := r.usable(runtime.ID(in.Config[keyID]))
	if err != nil {
		return addresses{}, err
	}
	out := outward(in, state.Network, usable)
	out.mac = hwaddr(in)
	return out, nil
}

// usable tells addresses that may be a container's from those of the host and of
// others.
func (r *Runtime) usable(id runtime.ID) (func(netip.Addr) bool, error) {
	host, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	return func(ip netip.Addr) bool { return leadsToContainer(ip, host) && !r.isAnothers(ip, id) }, nil
}

func outward(in *api.Instance, network map[string]api.InstanceStateNetwork, usable func(netip.Addr) bool) (out addresses) {
	own := map[string]bool{} // interfaces that Incus gave it
	for device, d := range in.ExpandedDevices {
		if name := cmp.Or(d["name"], in.Config["volatile."+device+".name"]); d["type"] == "nic" && name != "" {
			if _, there := network[name]; there {
				own[name] = true
			}
		}
	}
	names := slices.Sorted(maps.Keys(network))
	slices.SortStableFunc(names, func(a, b string) int { // eth0 before docker0
		return strings.Compare(rank(a), rank(b))
	})
	for _, name := range names {
		if name == "lo" || len(own) > 0 && !own[name] {
			continue
		}
		for _, a := range network[name].Addresses {
			ip, err := netip.ParseAddr(a.Address)
			switch {
			case err != nil || a.Scope != "global" || !usable(ip):
			case ip.Is4() && !out.addr.IsValid():
				out.addr = ip
			case ip.Is6() && !out.addr6.IsValid():
				out.addr6 = ip
			default:
				out.more = append(out.more, ip)
			}
		}
	}
	return out
}

func rank(link string) string {
	if strings.HasPrefix(link, "eth") || strings.HasPrefix(link, "en") {
		return "0" + link
	}
	return "1" + link
}

// ask finds the addresses that Observe could not read from the instances. It
// returns those that go beyond one of each family.
func (r *Runtime) ask(ctx context.Context, a *runtime.Actual, instances []*api.Instance) (more map[runtime.ID][]netip.Addr, err error) {
	found := make([]addresses, len(instances))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askAtOnce)
	for i, in := range instances {
		group.Go(func() (err error) {
			// One whose state cannot be told has no address for now; that must
			// not hide the others.
			found[i], err = r.leased(ctx, in)
			if err != nil && ctx.Err() == nil {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	claims := claimed{}
	for _, known := range []map[runtime.ID]netip.Addr{a.Addr, a.Addr6} {
		for _, addr := range known {
			claims[addr]++
		}
	}
	for _, f := range found {
		claims[f.addr]++
		claims[f.addr6]++
	}
	more = map[runtime.ID][]netip.Addr{}
	for i, in := range instances {
		id := runtime.ID(in.Config[keyID])
		if claims.only(found[i].addr) {
			a.Addr[id] = found[i].addr
		}
		if claims.only(found[i].addr6) {
			a.Addr6[id] = found[i].addr6
		}
		more[id] = slices.DeleteFunc(found[i].more, func(ip netip.Addr) bool { return claims[ip] > 0 })
	}
	return more, nil
}
