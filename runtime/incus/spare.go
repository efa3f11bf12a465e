package incus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sync/errgroup"

	"swage/runtime"
)

// createSpare makes one for whoever comes. If it is cut short, Observe shows
// what it left as a spare without an image, and the next plan deletes that.
func (r *Runtime) createSpare(ctx context.Context, s runtime.Spare) (runtime.Done, error) {
	w := runtime.Container{ID: runtime.NewID(), Project: s.Project, Name: "spare", Image: s.Image, Kit: s.Kit, Status: runtime.Running}
	source, err := r.image(ctx, s.Image, false)
	if err != nil {
		return runtime.Done{}, err
	}
	at, err := r.build(ctx, w, recipe{source: source, making: "true", role: roleSpare})
	if err != nil {
		return runtime.Done{}, err
	}
	if err := r.start(ctx, &at); err != nil {
		return runtime.Done{}, err
	}
	s.ID = w.ID
	return runtime.Done{Spare: s}, nil
}

var errClaimed = errors.New("the spare is gone; the next plan finds another or makes the container")

// claim makes a spare into a container while it runs. One change of the
// instance does it, so that it is always the one or the other, and of two who
// claim it one is refused. Keys and environment come after it, into what is surely
// ours; until they are recorded the container lacks them in the eyes of Observe.
func (r *Runtime) claim(ctx context.Context, s runtime.ClaimContainer) (runtime.Done, error) {
	w := s.New
	if at, ok, err := r.made(ctx, &w.ID); err != nil {
		return runtime.Done{}, err
	} else if ok {
		return r.resume(ctx, at, w)
	}
	in, etag, err := r.seek(ctx, s.Spare.ID)
	if errors.Is(err, errGone) {
		return runtime.Done{}, errClaimed
	}
	if err != nil {
		return runtime.Done{}, err
	}
	if in.Config[keyRole] != roleSpare || in.StatusCode != api.Running || halfMade(in.Config) {
		return runtime.Done{}, errClaimed
	}
	if err := r.checkDisk(ctx, in, w.Resources.Disk); err != nil {
		return runtime.Done{}, err
	}
	at := located(in)
	at.id, at.ramdisk, at.memory, at.comment = w.ID, w.Ramdisk, w.Resources.Memory, w.Comment
	if err := r.mount(at); err != nil {
		return runtime.Done{}, err
	}
	w.Image, w.Kit = in.Config[keyImage], in.Config[keyKit] == "true"
	keys := config(w)
	// See complete. Without files to write, the one change does all but the host
	// name, which follows at the next start at the latest.
	once := w.Status == runtime.Running && len(w.Keys) == 0 && len(w.Env) == 0
	if !once {
		keys[keyApplied] = ""
	}
	maps.Copy(keys, r.mark())
	keys[keyRole], keys[keyKeys], keys[rawLXC] = "", "", guest(w, in.Config[rawLXC])
	changed := map[string]device{}
	if w.Resources.Disk != 0 {
		changed[root] = sized(in, w.Resources.Disk)
	}
	if w.Ramdisk {
		changed[ramdisk] = ramdiskDevice(r.scope, w.ID)
	}
	err = r.patchIf(ctx, at, etag, map[string]any{"config": keys, "devices": changed})
	if err != nil {
		if w.Ramdisk {
			err = errors.Join(err, r.unmountRamdisk(w.ID))
		}
		if api.StatusErrorCheck(err, http.StatusPreconditionFailed) {
			err = errClaimed
		}
		return runtime.Done{}, err
	}
	r.remember(w.ID, at)
	rest, inner := errgroup.WithContext(ctx)
	rest.Go(func() error {
		return r.guard.rename(inner, s.Spare.ID, w.ID, member(w, addresses{addr: at.addr, addr6: at.addr6, mac: at.mac, given: at.fixed}))
	})
	rest.Go(func() error { return r.rename(inner, at, hostName(w.Name)) })
	last := map[string]string{}
	if len(w.Keys) > 0 {
		last[keyKeys] = config(w)[keyKeys]
		rest.Go(func() error { return r.writeKeys(inner, at, w.Keys) })
	}
	if len(w.Env) > 0 {
		last[keyEnvironment] = environmentNote(w.Env)
		rest.Go(func() error { return r.giveEnvironment(inner, at, w.Env) })
	}
	if err := rest.Wait(); err != nil {
		return runtime.Done{}, err
	}
	if once {
		return done(w, at), nil
	}
	if len(last) > 0 {
		if err := r.patch(ctx, at, map[string]any{"config": last}); err != nil {
			return runtime.Done{}, err
		}
	}
	return r.complete(ctx, at, w)
}

// rename gives a running container its host name at once, if its init is a
// process of this host; at its next start it has it from elsewhere.
func (r *Runtime) rename(ctx context.Context, at place, name string) error {
	state, _, err := r.in(ctx, at.project).GetInstanceState(at.name)
	if err != nil {
		return fmt.Errorf("state of instance %s: %w", at.name, err)
	}
	group, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", state.Pid))
	if err != nil || !strings.Contains(string(group), "lxc.payload.") || !strings.Contains(string(group), at.name) {
		return nil // Incus is not on this host
	}
	if err := setHostname(state.Pid, name); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	// For who reads the file before the next start writes it; see nameInside.
	if have, err := r.readFile(ctx, at, "/etc/hostname"); err != nil || have == "" {
		return err
	}
	return r.writeFile(ctx, at, "/etc/hostname", "0644", name+"\n")
}
