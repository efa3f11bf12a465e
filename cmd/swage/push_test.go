package main

import (
	"testing"
	"time"

	"swage/reconcile"
	"swage/reconcile/api"
)

// A pass that read the repository while the first push was on its way finds no
// branch. That says nothing about the push.
func TestAPassBeforeThePushEndsNothing(t *testing.T) {
	since := time.Now()
	begun := since.Add(2 * time.Second) // it took long to move the branch
	for _, row := range []struct {
		name    string
		started time.Time
		over    bool
	}{
		{"before the push", since.Add(-time.Second), false},
		{"while the branch is moved", since.Add(time.Second), false},
		{"after it has moved", begun.Add(time.Second), true},
	} {
		r := &reconcile.Report{State: reconcile.Failed, Error: "no branch", Started: row.started}
		over, err := pushes{}.ended(r, "", begun, api.Push{New: "1", Since: since}, func(string) {})
		if over != row.over || over && err == nil {
			t.Errorf("a pass %s: over %v (%v), want %v", row.name, over, err, row.over)
		}
	}
}
