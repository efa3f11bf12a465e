package incus

import (
	"context"
	"errors"
	"fmt"

	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sys/unix"

	"swage/runtime"
)

// Each change of an instance makes Incus write a file on the instance's own disk.
// On one that is full it writes none and refuses the change, but for a change of
// the limit itself. btrfs takes a limit below what is used and then refuses all
// others, the old one included.

// grows reports whether a limit of the root disk leaves more room than another;
// 0 is none.
func grows(from, to int64) bool { return from != 0 && (to == 0 || to > from) }

// checkDisk refuses a limit of an instance's root disk that is too small for what
// is on it. See runtime.CheckDisk.
func (r *Runtime) checkDisk(ctx context.Context, in *api.Instance, want int64) error {
	have := bytes(in.ExpandedDevices[root]["size"])
	if have > 0 && want >= have || want == 0 {
		return nil
	}
	if !away(r.scope.Daemon) {
		unix.Sync() // the figure counts what was written out
	}
	state, _, err := r.in(ctx, in.Project).GetInstanceState(in.Name)
	if err != nil {
		return fmt.Errorf("state of instance %s: %w", in.Name, err)
	}
	used := int64(-1) // pools of plain folders cannot tell, and hold nobody to a limit
	if disk, ok := state.Disk[root]; ok && disk.Usage > 0 {
		used = disk.Usage
	}
	return runtime.CheckDisk(max(0, have), want, used)
}

// resize sets the limit of an instance's root disk. When that fails the limit is
// what it was.
func (r *Runtime) resize(ctx context.Context, in *api.Instance, size int64) error {
	at := located(in)
	set := func(ctx context.Context, size int64) error {
		return r.patch(ctx, at, map[string]any{"devices": map[string]device{root: sized(in, size)}})
	}
	err := set(ctx, size)
	if err == nil {
		return nil
	}
	// The record has the old size, so a change to it would do nothing: the limit
	// that is in force may be another.
	old := max(0, bytes(in.ExpandedDevices[root]["size"]))
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	near := old + 1<<20
	if old == 0 {
		near = 1 << 50
	}
	if failed := errors.Join(set(back, near), set(back, old)); failed != nil {
		return fmt.Errorf("%w; the limit before could not be set again, and a lower one may be in force: %w", brief(err), brief(failed))
	}
	return err
}

// lift takes the limit of a root disk away, for what is to be stopped and given
// up. Where that fails, the disk is over a limit that was half set, and Incus
// may still do the rest.
func (r *Runtime) lift(ctx context.Context, at place) error {
	if at.disk == 0 {
		return nil
	}
	in, _, err := r.in(ctx, at.project).GetInstance(at.name)
	if err == nil {
		_ = r.patch(ctx, at, map[string]any{"devices": map[string]device{root: sized(in, 0)}})
	}
	return ctx.Err()
}
