package schema_test

import (
	"os"
	"testing"

	"swage/schema"
)

func TestMain(m *testing.M) {
	schema.EvaluateMain()
	os.Exit(m.Run())
}
