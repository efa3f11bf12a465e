package reconcile_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

// until waits for a report.
func (n *signedNode) until(t *testing.T, what string, is func(*reconcile.Report) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(n.Report()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, n.Report())
		}
	}
}

// A person on the server may let one commit in, once.
func TestS12ApproveCommit(t *testing.T) {
	for _, lost := range []bool{false, true} {
		n := &signedNode{source: graph(), engine: &runtime.Fake{}, nodeSigners: schema.Signers{SSH: []string{ann}}}
		n.restart(true)
		for _, tip := range []string{"1", "2", "3", "4"} {
			n.source.tip = c(tip)
			if _, err := n.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		n.source.tip = c("61")
		n.restart(lost)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		n.until(t, "another history is refused", func(r *reconcile.Report) bool { return r.Rejected != nil && r.Commit == c("4") })
		for _, wrong := range []string{c("60"), c("3")} {
			if err := n.Approve(ctx, wrong); err != nil {
				t.Error(err)
			}
		}
		if err := n.Approve(ctx, c("61")); err != nil {
			t.Error(err)
		}
		n.until(t, "it is let in", func(r *reconcile.Report) bool {
			return r.Rejected == nil && r.Commit == c("61") && r.State == reconcile.Applied
		})
		cancel()
		<-ended
		// It counted once, and what was before does not come back by it.
		for _, tip := range []string{"4", "5"} {
			n.source.tip = c(tip)
			if r, err := n.Pass(t.Context()); err == nil || r.Commit != c("61") || !strings.Contains(err.Error(), "was not made on top of") {
				t.Errorf("then %s is taken: %v", tip, err)
			}
		}
		n.restart(true)
		n.source.tip = c("4")
		if r, err := n.Pass(t.Context()); err == nil || r.Commit != c("61") {
			t.Errorf("without the folder it is at %s: %v", r.Commit, err)
		}
	}
}
