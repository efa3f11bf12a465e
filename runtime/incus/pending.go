package incus

import (
	"context"
	"errors"

	"swage/runtime"
)

var errPending = errors.New("pending")

func (r *Runtime) Inspect(context.Context, string) (runtime.Container, error) {
	return runtime.Container{}, errPending
}
func (r *Runtime) Note(context.Context, string, string) error    { return errPending }
func (r *Runtime) Lease(context.Context, runtime.Holder) error   { return errPending }
func (r *Runtime) Release(context.Context, runtime.Holder) error { return errPending }
