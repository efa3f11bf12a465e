package incus

import (
	"context"
	"errors"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// stopSeconds is how long a container may take to stop by itself.
const stopSeconds = 10

// from says which containers a step is for.
type from bool

const (
	anyhow from = false
	awake  from = true // running or paused
)

// turn does a step that asks a container for another status. What was asked is
// written first: a plan that finds it without the status asks again.
func (r *Runtime) turn(ctx context.Context, target runtime.Container, status runtime.Status, from from, step func(context.Context, *place) error) (runtime.Done, error) {
	in, err := r.lookup(ctx, target.ID)
	if err != nil {
		return runtime.Done{}, err
	}
	at := located(in)
	note := map[string]string{keyAsked: string(status), keyCommit: target.Commit, keyBoot: r.boot}
	for k, v := range note {
		if in.Config[k] == v {
			delete(note, k)
		}
	}
	if err := r.remake(ctx, &at); err != nil {
		return runtime.Done{}, err
	}
	if from == awake && at.status == api.Stopped {
		return runtime.Done{}, errStopped
	}
	if len(note) > 0 {
		if err := r.patch(ctx, at, map[string]any{"config": note}); err != nil {
			return runtime.Done{}, err
		}
	}
	if err := step(ctx, &at); err != nil {
		return runtime.Done{}, err
	}
	target.Status, target.Asked, target.Asleep = status, status, false
	if in.Config[keyApplied] == target.Applied {
		return done(target, at), nil
	}
	return done(target, at), r.applied(ctx, at, target.Applied)
}

// bring is for steps that end with a status but are not about it.
func (r *Runtime) bring(ctx context.Context, at *place, status runtime.Status) error {
	switch status {
	case runtime.Running:
		return r.start(ctx, at)
	case runtime.Paused:
		if err := r.remake(ctx, at); err != nil {
			return err
		}
		if at.status == api.Stopped { // Incus freezes only what runs
			if err := r.start(ctx, at); err != nil {
				return err
			}
		}
		return r.pause(ctx, at)
	}
	return r.stop(ctx, at)
}

// start may change the address of at.
func (r *Runtime) start(ctx context.Context, at *place) error {
	if err := r.remake(ctx, at); err != nil {
		return err
	}
	switch at.status {
	case api.Running:
		return nil
	case api.Frozen:
		return r.act(ctx, at, "unfreeze", -1, api.Running)
	}
	if err := r.mount(*at); err != nil {
		return err
	}
	runtime.Phase(ctx, "starting")
	err := r.act(ctx, at, "start", -1, api.Running)
	for range maxNames {
		if err == nil {
			return nil
		}
		again, failed := r.readdress(ctx, at, err)
		if !again && failed == nil {
			again, failed = r.renameForDNS(ctx, at, err)
		}
		if !again || failed != nil {
			return errors.Join(err, failed)
		}
		err = r.act(ctx, at, "start", -1, api.Running)
	}
	return err
}

var errStopped = errors.New("the container is stopped")

func (r *Runtime) pause(ctx context.Context, at *place) error {
	if at.status == api.Frozen {
		return nil
	}
	return r.act(ctx, at, "freeze", -1, api.Frozen)
}

// stop asks first and then forces. A frozen container cannot answer and is
// forced at once.
func (r *Runtime) stop(ctx context.Context, at *place) error {
	if err := r.remake(ctx, at); err != nil {
		return err
	}
	if at.status == api.Stopped {
		return nil
	}
	runtime.Phase(ctx, "stopping")
	if at.status != api.Frozen {
		if err := r.act(ctx, at, "stop", stopSeconds, api.Stopped); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return r.kill(ctx, at)
}

// kill stops by force.
func (r *Runtime) kill(ctx context.Context, at *place) error {
	c := r.in(ctx, at.project)
	op, err := c.UpdateInstanceState(at.name, api.InstanceStatePut{Action: "stop", Timeout: stopSeconds, Force: true}, "")
	if err = finish(c, op, err); err != nil && !strings.Contains(err.Error(), "already stopped") {
		// On a disk over its limit Incus stops it and fails in what comes after.
		in, _, e := r.in(ctx, at.project).GetInstance(at.name)
		if e != nil || in.StatusCode != api.Stopped {
			return err
		}
	}
	at.status = api.Stopped
	return nil
}

// act asks Incus for a change of status and waits for it.
func (r *Runtime) act(ctx context.Context, at *place, action string, seconds int, becomes api.StatusCode) error {
	c := r.in(ctx, at.project)
	op, err := c.UpdateInstanceState(at.name, api.InstanceStatePut{Action: action, Timeout: seconds}, "")
	if err := finish(c, op, err); err != nil {
		return err
	}
	at.status = becomes
	return nil
}
