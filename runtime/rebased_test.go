package runtime_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// TestD14Rebased: what changed between two declarations is taken, and every other
// field stays as it is now, for each pair of fields.
func TestD14Rebased(t *testing.T) {
	carried := map[string]bool{"Replaced": true, "Applied": true, "Asked": true, "Commit": true, "Declared": true}
	for _, changed := range runtimetest.Fields {
		for _, drifted := range runtimetest.Fields {
			if carried[changed.Name] || carried[drifted.Name] || changed.Name == "Env" && drifted.Name == "Env" { // merged by name, below
				continue
			}
			was := runtimetest.Plain("tiny/1", runtime.Running)
			to, now, want := was, was, was
			changed.Values[1](&to)
			drifted.Values[len(drifted.Values)-1](&now)
			drifted.Values[len(drifted.Values)-1](&want)
			changed.Values[1](&want) // also where both are one field
			got := to.Rebased(was, now)
			if d := cmp.Diff(want, got, runtimetest.Equal); d != "" {
				t.Errorf("%s changed, %s drifted:\n%s", changed.Name, drifted.Name, d)
			}
		}
	}
	was := runtimetest.Plain("tiny/1", runtime.Running)
	was.Env = map[string]string{"SAME": "1", "CHANGED": "1", "REMOVED": "1"}
	to, now := was, was
	to.Env = map[string]string{"SAME": "1", "CHANGED": "2", "ADDED": "1"}
	now.Env = map[string]string{"SAME": "hand", "CHANGED": "hand", "REMOVED": "hand", "HAND": "1"}
	want := map[string]string{"SAME": "hand", "CHANGED": "2", "ADDED": "1", "HAND": "1"}
	if d := cmp.Diff(want, to.Rebased(was, now).Env); d != "" {
		t.Error(d)
	}
	to, now = was, was
	now.Status = runtime.Stopped
	if got := to.Rebased(was, now); got.Status != runtime.Stopped {
		t.Errorf("stopped by hand, and it is to be %s", got.Status)
	}
	if to.Status, to.Asked = runtime.Paused, runtime.Paused; to.Rebased(was, now).Status != runtime.Paused {
		t.Error("a commit that pauses it does not")
	}
}
