package runtime_test

import (
	"testing"

	"go.uber.org/goleak"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakeKeepsTheContract(t *testing.T) {
	var engine runtime.Fake
	runtimetest.Run(t, "tiny/1", func(_ *testing.T, s runtime.Scope) runtime.Runtime { return engine.Open(s) })
}
