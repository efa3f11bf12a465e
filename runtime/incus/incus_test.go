package incus

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socket is that of the lab's Incus.
func socket(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("INCUS_DIR")
	if dir == "" || os.Getenv("SWAGE_TEST_LAB") == "" {
		t.Skip("needs a throw-away Incus: run `make test`, which brings one up")
	}
	return dir + "/unix.socket"
}

func TestIncusKeepsTheContract(t *testing.T) {
	s := socket(t)
	runtimetest.Run(t, "tiny/1", func(t *testing.T, scope runtime.Scope) runtime.Runtime {
		rt, err := Open(s, scope)
		if err != nil {
			t.Fatal(err)
		}
		return rt
	})
}
