package schema

import (
	"testing"
	"time"
)

// TestDefaultLimits [F9]: what holds where the node file says nothing.
func TestDefaultLimits(t *testing.T) {
	want := Limits{FileBytes: 1 << 20, TreeBytes: 64 << 20, Files: 20000, LoadedBytes: 64 << 20, EvaluationMemory: 512 << 20, EvaluationTime: 10 * time.Second}
	if got := (Limits{}).orDefault(); got != want {
		t.Errorf("%+v", got)
	}
}
