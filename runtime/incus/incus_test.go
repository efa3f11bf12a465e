package incus

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socket is that of the lab's Incus.
func socket(t *testing.T) string {
	t.Helper()
	lab := os.Getenv("SWAGE_TEST_LAB")
	if lab == "" {
		t.Skip("needs a throw-away Incus: run `make test`, which brings one up")
	}
	env, err := os.ReadFile(lab + "/lab.env")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(env)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "INCUS_SOCKET="); ok {
			return path
		}
	}
	t.Fatal("lab.env has no INCUS_SOCKET")
	return ""
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
