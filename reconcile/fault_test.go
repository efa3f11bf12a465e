package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"swage/runtime"
)

// TestL14StatusTellsOfTheHost: a fault of the host is told while it lasts, and what
// could not be put back is looked at again at once.
func TestL14StatusTellsOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.engine.Now = time.Now
		n.source.push(`containers: app: {}`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		const fault = "the bridge has lost its address"
		n.engine.Ail(fault)
		n.engine.Repaired(runtime.Repair{What: "the address", Err: errors.New("no")})
		synctest.Wait()
		if r := n.Report(); !slices.Contains(r.Warnings, fault) {
			t.Errorf("warnings %q", r.Warnings)
		}
		n.engine.Ail()
		synctest.Wait()
		if r := n.Report(); slices.Contains(r.Warnings, fault) {
			t.Errorf("warnings %q", r.Warnings)
		}
	})
}
