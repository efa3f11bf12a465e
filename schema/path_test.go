package schema_test

import (
	"strings"
	"testing"

	"swage/schema"
)

// TestS20TargetPath: a target path that an application might read as leading
// upward is refused where it stands, as the edge would refuse it.
func TestS20TargetPath(t *testing.T) {
	const want = "want an absolute path without query"
	for path, good := range map[string]bool{
		"/docs": true, "/a%20b": true, "/100%25": true, "/..docs": true,
		"/../a": false, "/..": false, "/..;/a": false, "/%2e%2e/a": false, "/%252e%252e/a": false, "/%25252E./a": false, "/%c0%ae%c0%ae/a": false, "/%25C0%25AE./a": false,
	} {
		src := "containers: app: {}\naliases: app: {container: \"app\", target_path: \"" + path + "\"}"
		_, err := schema.Load(t.Context(), fleetOf("projects/web/app.cue", src))
		if good && err != nil || !good && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
